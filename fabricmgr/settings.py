"""Every setting, once: what it is, its unit, its default and the reason for it. Flags beat variables, variables beat the file.

`python -m fabricmgr.settings` prints docs/settings.md.
"""

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, cast

from fabricmgr.domain.errors import SettingRefused, UnknownSetting

T = TypeVar("T")
S = TypeVar("S", bound="Settings")

# Read by others: the command line's login, the shim's socket, the tests' tiers. Not ours to refuse.
OTHER_VARIABLES = frozenset(
    {"FABRICMGR_LOGIN", "FABRICMGR_SOCKET", "FABRICMGR_REQUIRE_TIERS", "FABRICMGR_TEST_DATABASE", "FABRICMGR_TEST_KUBE"}
)


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What a setting may hold. parse raises ValueError; show gives the text that parses to the value again."""

    expected: str
    parse: Callable[[str], T]
    show: Callable[[T], str] = str


@dataclass(frozen=True)
class Listen:
    """Where to listen. Port 0: any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def setting(default: T, kind: Kind[T], why: str, *, unit: str = "", secret: bool = False) -> T:
    """Declare a setting. The type checker sees its default, the class a field with what is to be known about it."""
    about = {"kind": kind, "why": why, "unit": unit, "secret": secret}
    declared: Any = field(default=default, metadata=about)
    return cast(T, declared)


# --- kinds ---------------------------------------------------------------------------------------------------------------

_SWITCH = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _text(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError
    return text


def _switch(text: str) -> bool:
    return _SWITCH[text.lower()]


def _duration(text: str) -> timedelta:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if match is None:
        raise ValueError
    return timedelta(seconds=float(match[1]) * _UNITS[match[2]])


def _show_duration(value: timedelta) -> str:
    seconds = value.total_seconds()
    unit = next(u for u in "dhms" if seconds % _UNITS[u] == 0 or u == "s")
    return f"{seconds / _UNITS[unit]:g}{unit}"


def _listen(text: str) -> Listen:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s\[\]:/]+)):(\d{1,5})", text)
    if match is None or int(match[3]) > 65535:
        raise ValueError
    return Listen(match[1] or match[2], int(match[3]))


def _words(text: str) -> tuple[str, ...]:
    return tuple(_text(part.strip()) for part in text.split(",")) if text.strip() else ()


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(part) for part in _words(text))


def _join(values: Iterable[object]) -> str:
    return ",".join(str(value) for value in values)


TEXT = Kind("text", _text)
PATH = Kind("a path", lambda text: Path(_text(text)))
SWITCH = Kind("on or off", _switch, lambda value: "on" if value else "off")
LISTEN = Kind("host:port, such as 127.0.0.1:8443 or [::1]:8443", _listen)
WORDS = Kind("names with commas between", _words, _join)
NETWORKS = Kind("CIDRs with commas between and no host bits set, such as 10.0.0.0/8,2001:db8::/32", _networks, _join)


def _optional(kind: Kind[T]) -> Kind[T | None]:
    return Kind(
        f"{kind.expected}, or nothing",
        lambda text: kind.parse(text) if text else None,
        lambda value: "" if value is None else kind.show(value),
    )


def _or_never(kind: Kind[T]) -> Kind[T | None]:
    return Kind(
        f"{kind.expected}, or never",
        lambda text: None if text == "never" else kind.parse(text),
        lambda value: "never" if value is None else kind.show(value),
    )


def _whole(least: int, most: int) -> Kind[int]:
    return Kind(f"a whole number from {least} to {most}", lambda text: _within(int(text), least, most))


def _number(least: float, most: float) -> Kind[float]:
    return Kind(f"a number from {least:g} to {most:g}", lambda text: _within(float(text), least, most), lambda value: f"{value:g}")


def _lasting(least: str, most: str) -> Kind[timedelta]:
    low, high = _duration(least), _duration(most)
    return Kind(f"a time from {least} to {most}, such as 90s, 5m, 12h or 30d", lambda t: _within(_duration(t), low, high), _show_duration)


def _one_of(*choices: str) -> Kind[str]:
    return Kind(f"one of {', '.join(choices)}", lambda text: choices[choices.index(text)])


N = TypeVar("N", int, float, timedelta)


def _within(value: N, least: N, most: N) -> N:
    if not least <= value <= most:
        raise ValueError
    return value


# --- the settings --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """Base of both sets. VARIABLE: what a variable's name begins with."""

    VARIABLE: ClassVar[str]
    COMMAND: ClassVar[str]


@dataclass(frozen=True)
class ManagerSettings(Settings):
    """Settings of `fabricmgr serve`."""

    VARIABLE: ClassVar[str] = "FABRICMGR_"
    COMMAND: ClassVar[str] = "fabricmgr serve"

    data_dir: Path = setting(Path("/var/lib/fabricmgr"), PATH, "where the embedded Postgres, the master key and the first password lie")
    listen: Listen = setting(Listen("127.0.0.1", 8443), LISTEN, "loopback until somebody opens it on purpose")
    metrics_listen: Listen | None = setting(None, _optional(LISTEN), "/metrics without credentials and TLS; not opened by default")
    database_url: str | None = setting(None, _optional(TEXT), "a Postgres 15 or later of yours; nothing: an embedded one", secret=True)
    pg_bin: Path | None = setting(None, _optional(PATH), "folder of the Postgres programs; nothing: those of the package, else Debian's")
    web_workers: int = setting(1, _whole(1, 64), "one is enough for hundreds of nodes and leaves a core to Postgres", unit="processes")

    tls_names: tuple[str, ...] = setting(
        (), WORDS, "further names and addresses in our own CA's certificate, beside localhost and the host's"
    )
    tls_certificate: Path | None = setting(None, _optional(PATH), "the site's certificate with its chain, PEM; nothing: our own CA's")
    tls_key: Path | None = setting(None, _optional(PATH), "its key, PEM")
    master_key: Path | None = setting(None, _optional(PATH), "file of the key that seals secrets in Postgres; nothing: DATA_DIR/master-key")

    session_timeout: timedelta = setting(timedelta(minutes=30), _lasting("30s", "1d"), "a session ends after so long without a request")
    basic_auth: bool = setting(True, SWITCH, "hardware tools often know nothing else")
    lockout_attempts: int = setting(
        5, _whole(1, 1000), "wrong passwords of one account from one source before it has to wait", unit="attempts"
    )
    lockout_seconds: float = setting(30.0, _number(1, 86400), "long enough to end guessing, short enough for a person", unit="seconds")
    token_lifetime: timedelta = setting(
        timedelta(hours=1), _lasting("10s", "30d"), "an enrolment token is typed within minutes of `node add`"
    )
    node_certificate_lifetime: timedelta = setting(
        timedelta(days=30), _lasting("60s", "825d"), "agents renew at 70 to 90 % of it; a node off for longer enrols again"
    )

    keep_alive_seconds: float = setting(
        80.0, _number(1, 3600), "more than clients and balancers keep (60 s is common), so that they close first", unit="seconds"
    )
    body_limit: int = setting(1 << 20, _whole(1 << 10, 1 << 26), "of a request of a client", unit="bytes")
    report_body_limit: int = setting(
        4 << 20, _whole(1 << 16, 1 << 28), "of a hello, report or bulk request: 4,000 attachments", unit="bytes"
    )
    reports_at_once: int = setting(
        4, _whole(1, 64), "report batches in the database at once, so that they leave others room", unit="batches"
    )
    outbound_allow: tuple[IPv4Network | IPv6Network, ...] = setting(
        (IPv4Network("0.0.0.0/0"), IPv6Network("::/0")),
        NETWORKS,
        "networks that requests a client aims may reach; loopback, link-local and metadata addresses only by a network within those",
    )
    outbound_authorities: Path | None = setting(
        None, _optional(PATH), "PEM of CAs that receivers of events may have their certificates from, beside the system's"
    )
    agent_account: str = setting(
        "system:serviceaccount:fabricmgr:fabricmgr-agent",
        TEXT,
        "whose pods' tokens make a node of a cluster with an API server; deploy/kubernetes has it",
    )

    node_grace: timedelta | None = setting(
        timedelta(minutes=15),
        _or_never(_lasting("1m", "30d")),
        "a node whose Node was deleted and whose agent is silent for this long is declared gone; people do that to register them again",
    )

    announce_on_excluded: bool = setting(
        False,
        SWITCH,
        "nodes labelled to be kept from external load balancers announce Services' addresses too; a cluster of nothing else needs it",
    )

    history_retention: timedelta = setting(
        timedelta(days=90), _lasting("1h", "3650d"), "who had an address: kept for as long as incidents are"
    )
    event_retention: timedelta = setting(timedelta(days=30), _lasting("1m", "3650d"), "a subscriber that was away for longer begins anew")
    log_format: str = setting("json", _one_of("json", "text"), "programs read it; text is for a person at the console")
    log_level: str = setting("info", _one_of("debug", "info", "warning", "error"), "info has each change and each denial")

    def __post_init__(self) -> None:
        if (self.tls_certificate is None) != (self.tls_key is None):
            missing, given = ("tls_key", self.tls_certificate) if self.tls_key is None else ("tls_certificate", self.tls_key)
            raise SettingRefused(missing, "", f"a path, since its other half is {given}")
        if self.metrics_listen is not None and self.metrics_listen.port and self.metrics_listen == self.listen:
            raise SettingRefused("metrics_listen", str(self.metrics_listen), f"another place than listen, which is {self.listen}")


@dataclass(frozen=True)
class AgentSettings(Settings):
    """Settings of `fabricmgr agent`."""

    VARIABLE: ClassVar[str] = "FABRICMGR_AGENT_"
    COMMAND: ClassVar[str] = "fabricmgr agent"

    manager_url: str = setting("https://127.0.0.1:8443", TEXT, "where the manager listens; enrolment writes the one it used into data_dir")
    data_dir: Path = setting(Path("/var/lib/fabricmgr-agent"), PATH, "key, certificate and CAs of this node; outlives a boot")
    run_dir: Path = setting(Path("/run/fabricmgr"), PATH, "journal, spool and socket; believed only with the boot id they name")
    socket: Path | None = setting(None, _optional(PATH), "where the shim finds the agent; nothing: RUN_DIR/agent.sock")
    metrics_listen: Listen | None = setting(None, _optional(LISTEN), "/metrics of this agent, without credentials; not opened by default")
    low_mark: int = setting(16, _whole(0, 4096), "asks for a block when fewer addresses of a network and family are free", unit="addresses")
    high_mark: int = setting(96, _whole(1, 65536), "gives an empty block back when more are free", unit="addresses")
    accept_forward: bool = setting(
        False, SWITCH, "add accept rules for our bridges where another's FORWARD policy drops; off: it is only named in `agent status`"
    )
    log_format: str = setting("json", _one_of("json", "text"), "programs read it; text is for a person at the console")
    log_level: str = setting("info", _one_of("debug", "info", "warning", "error"), "info has each change of a pod's addresses")

    def __post_init__(self) -> None:
        if self.high_mark <= self.low_mark:
            raise SettingRefused("high_mark", str(self.high_mark), f"more than low_mark, which is {self.low_mark}")

    @property
    def socket_path(self) -> Path:
        """Where the agent listens."""
        return self.socket or self.run_dir / "agent.sock"


# --- reading -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Given:
    text: str
    source: str


def load(kind: type[S], arguments: Sequence[str], environment: Mapping[str, str]) -> S:
    """Settings from `--name value` arguments, variables, and the TOML file that `--config` or the variable ..._CONFIG names.

    Raises UnknownSetting and SettingRefused, both with the source."""
    flags = _from_arguments(kind, arguments)
    variables = _from_environment(kind, environment)
    chosen = flags.pop("config", None) or variables.pop("config", None)
    given = {**(_from_file(kind, chosen) if chosen else {}), **variables, **flags}
    return kind(**{name: _value(kind, name, raw) for name, raw in given.items()})


def flag(name: str) -> str:
    """A setting's name on the command line."""
    return "--" + name.replace("_", "-")


def variable(kind: type[Settings], name: str) -> str:
    """A setting's name in the environment."""
    return kind.VARIABLE + name.upper()


def arguments(settings: Settings) -> list[str]:
    """The command line that gives the same settings, with every one of them named: for a process that shall not read them again."""
    about = _about(type(settings))
    return [f"{flag(name)}={each['kind'].show(getattr(settings, name))}" for name, each in about.items()]


def _from_arguments(kind: type[Settings], arguments: Sequence[str]) -> dict[str, _Given]:
    found: dict[str, _Given] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, text = argument.partition("=")
        key = name.removeprefix("--").replace("-", "_")
        if not name.startswith("--") or key not in _names(kind):
            raise UnknownSetting(name, "the command line", _nearest(name, [flag(known) for known in _names(kind)]))
        if not equals and not rest:
            raise SettingRefused(name, "", f"a value: {_expected(kind, key)}")
        found[key] = _Given(text if equals else rest.pop(0), name)
    return found


def _from_environment(kind: type[Settings], environment: Mapping[str, str]) -> dict[str, _Given]:
    mine = {variable(kind, name): name for name in _names(kind)}
    known = {variable(each, name) for each in (ManagerSettings, AgentSettings) for name in _names(each)} | OTHER_VARIABLES
    for name in sorted(environment):
        if name.startswith("FABRICMGR_") and name not in known:
            raise UnknownSetting(name, "the environment", _nearest(name, sorted(known)))
    return {mine[name]: _Given(text, name) for name, text in environment.items() if name in mine}


def _from_file(kind: type[Settings], chosen: _Given) -> dict[str, _Given]:
    path = Path(chosen.text)
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingRefused(chosen.source, chosen.text, f"a TOML file that can be read ({error})") from None
    known = _names(kind) - {"config"}
    for name in content:
        if name not in known:
            raise UnknownSetting(name, str(path), _nearest(name, sorted(known)))
    return {name: _Given(_toml_text(kind, name, value, path), f"{path}") for name, value in content.items()}


def _toml_text(kind: type[Settings], name: str, value: object, path: Path) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return ",".join(value)
    if isinstance(value, str | int | float):
        return str(value)
    raise SettingRefused(f"{name} in {path}", str(value), _expected(kind, name))


def _value(kind: type[Settings], name: str, given: _Given) -> object:
    about = _about(kind)[name]
    try:
        return about["kind"].parse(given.text)
    except (ValueError, KeyError):
        shown = "(not shown)" if about["secret"] else given.text
        raise SettingRefused(f"{name} (from {given.source})", shown, about["kind"].expected) from None


def _about(kind: type[Settings]) -> dict[str, Mapping[str, Any]]:
    return {each.name: each.metadata for each in fields(kind)}


def _names(kind: type[Settings]) -> set[str]:
    return {"config", *_about(kind)}


def _expected(kind: type[Settings], name: str) -> str:
    return "a path" if name == "config" else str(_about(kind)[name]["kind"].expected)


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


# --- documentation ---------------------------------------------------------------------------------------------------------


def usage(kind: type[Settings]) -> str:
    """For --help: a setting a paragraph."""
    lines = [f"{kind.COMMAND} [--config FILE] [--NAME VALUE ...]", ""]
    for each in fields(kind):
        about, default = each.metadata, _default(kind, each.name)
        lines += [f"  {flag(each.name)}  ({about['kind'].expected}; default: {default or 'nothing'})", f"      {about['why']}"]
    return "\n".join(lines)


def document() -> str:
    """docs/settings.md."""
    parts = [
        "# Settings",
        "",
        "Made by `python -m fabricmgr.settings`. A flag beats a variable, a variable beats the file, the file beats the default.",
        "The file is TOML, named by `--config` or the variable; its keys are the names below. An unknown name is refused.",
    ]
    for kind in (ManagerSettings, AgentSettings):
        parts += ["", f"## {kind.COMMAND}", "", f"File: `--config` or `{variable(kind, 'config')}`.", ""]
        parts += ["| name | flag | variable | value | unit | default | reason |", "|---|---|---|---|---|---|---|"]
        parts += [_row(kind, each.name) for each in fields(kind)]
    return "\n".join(parts) + "\n"


def _row(kind: type[Settings], name: str) -> str:
    about = _about(kind)[name]
    default = _default(kind, name)
    cells = [f"`{name}`", f"`{flag(name)}`", f"`{variable(kind, name)}`", about["kind"].expected, about["unit"]]
    return "| " + " | ".join([*cells, f"`{default}`" if default else "", about["why"]]) + " |"


def _default(kind: type[Settings], name: str) -> str:
    each = next(f for f in fields(kind) if f.name == name)
    return str(each.metadata["kind"].show(each.default))


if __name__ == "__main__":
    import sys

    sys.stdout.write(document())
