"""Settings: precedence, sentences, and the page made from them."""

from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest

from fabricmgr.domain.errors import SettingRefused, UnknownSetting
from fabricmgr.problems import sentence
from fabricmgr.settings import AgentSettings, Listen, ManagerSettings, document, flag, load, usage, variable

ROOT = Path(__file__).parents[2]


def test_without_anything_the_defaults_hold() -> None:
    settings = load(ManagerSettings, [], {"PATH": "/bin"})

    assert settings.listen == Listen("127.0.0.1", 8443)
    assert settings.database_url is None
    assert settings.keep_alive_seconds >= 75  # F063


def test_a_flag_beats_a_variable_and_a_variable_beats_the_file(tmp_path: Path) -> None:
    file = tmp_path / "manager.toml"
    file.write_text('web_workers = 2\nbasic_auth = false\nsession_timeout = "5m"\ntls_names = ["a.example", "b.example"]\n')
    environment = {"FABRICMGR_WEB_WORKERS": "3", "FABRICMGR_SESSION_TIMEOUT": "10m", "FABRICMGR_CONFIG": str(file)}

    settings = load(ManagerSettings, ["--web-workers=4"], environment)

    assert settings.web_workers == 4
    assert settings.session_timeout == timedelta(minutes=10)
    assert settings.basic_auth is False
    assert settings.tls_names == ("a.example", "b.example")


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--data-dirr", "/x"], {}, "the command line names the setting '--data-dirr', which does not exist; did you mean '--data-dir'?"),
        (
            [],
            {"FABRICMGR_LISTN": "x"},
            "the environment names the setting 'FABRICMGR_LISTN', which does not exist; did you mean 'FABRICMGR_LISTEN'?",
        ),
        (["--zzzz", "1"], {}, "the command line names the setting '--zzzz', which does not exist"),
    ],
)
def test_an_unknown_setting_is_refused_with_its_source_and_the_nearest_name(
    arguments: list[str], environment: dict[str, str], said: str
) -> None:
    with pytest.raises(UnknownSetting) as refused:
        load(ManagerSettings, arguments, environment)

    assert sentence(refused.value) == said


def test_an_unknown_name_in_the_file_is_refused_with_the_files_path(tmp_path: Path) -> None:
    file = tmp_path / "manager.toml"
    file.write_text("web_worker = 2\n")

    with pytest.raises(UnknownSetting) as refused:
        load(ManagerSettings, ["--config", str(file)], {})

    assert sentence(refused.value) == f"{file} names the setting 'web_worker', which does not exist; did you mean 'web_workers'?"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("listen", "8443", "host:port"),
        ("listen", "127.0.0.1:70000", "host:port"),
        ("web_workers", "0", "a whole number from 1 to 64"),
        ("web_workers", "two", "a whole number from 1 to 64"),
        ("basic_auth", "maybe", "on or off"),
        ("session_timeout", "5", "a time from 30s to 1d"),
        ("outbound_allow", "10.0.0.1/8", "no host bits set"),
        ("log_format", "xml", "one of json, text"),
        ("data_dir", "", "a path"),
        ("keep_alive_seconds", "nan", "a number from 1 to 3600"),
    ],
)
def test_a_bad_value_is_refused_with_setting_source_value_and_what_was_expected(name: str, text: str, expected: str) -> None:
    with pytest.raises(SettingRefused) as refused:
        load(ManagerSettings, [], {variable(ManagerSettings, name): text})

    assert refused.value.setting == f"{name} (from FABRICMGR_{name.upper()})"
    assert repr(text) in sentence(refused.value)
    assert expected in sentence(refused.value)


def test_a_flag_without_its_value_says_what_it_takes() -> None:
    with pytest.raises(SettingRefused) as refused:
        load(ManagerSettings, ["--web-workers"], {})

    assert refused.value.expected == "a value: a whole number from 1 to 64"


def test_a_bad_database_url_is_not_shown() -> None:
    with pytest.raises(SettingRefused) as refused:
        load(ManagerSettings, ["--database-url", "postgresql://u:hidden\x01@h/d"], {})

    assert "hidden" not in sentence(refused.value)


@pytest.mark.parametrize("content", ["a = [", "data_dir = {a = 1}", "tls_names = [1, 2]"])
def test_a_file_that_cannot_be_used_is_refused_by_name(tmp_path: Path, content: str) -> None:
    file = tmp_path / "manager.toml"
    file.write_text(content)

    with pytest.raises((SettingRefused, UnknownSetting)) as refused:
        load(ManagerSettings, ["--config", str(file)], {})

    assert str(file) in sentence(refused.value)


def test_half_a_certificate_is_refused() -> None:
    with pytest.raises(SettingRefused) as refused:
        load(ManagerSettings, ["--tls-certificate", "/a.pem"], {})

    assert refused.value.setting == "tls_key"


def test_marks_that_cross_are_refused() -> None:
    with pytest.raises(SettingRefused):
        load(AgentSettings, ["--low-mark", "50", "--high-mark", "50"], {})


def test_manager_and_agent_share_an_environment() -> None:
    environment = {"FABRICMGR_DATA_DIR": "/m", "FABRICMGR_AGENT_DATA_DIR": "/a", "FABRICMGR_REQUIRE_TIERS": "all"}

    assert load(ManagerSettings, [], environment).data_dir == Path("/m")
    assert load(AgentSettings, [], environment).data_dir == Path("/a")


def test_the_sockets_place_follows_the_run_directory() -> None:
    assert load(AgentSettings, ["--run-dir", "/r"], {}).socket_path == Path("/r/agent.sock")


def test_a_shown_value_parses_to_itself() -> None:
    again = load(ManagerSettings, ["--outbound-allow", "10.0.0.0/8, 2001:db8::/32", "--listen", "[::1]:0"], {})

    assert again.outbound_allow == (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))
    assert str(again.listen) == "[::1]:0"


def test_the_settings_page_is_the_one_made_from_the_code() -> None:
    page = (ROOT / "docs/settings.md").read_text()

    assert page == document(), "run: .venv/bin/python -m fabricmgr.settings > docs/settings.md"


def test_help_names_every_setting() -> None:
    text = usage(ManagerSettings)

    assert all(flag(name) in text for name in ("data_dir", "listen", "outbound_allow", "log_level"))
