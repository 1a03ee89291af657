"""Which certificate a manager serves with, and when it wants another."""

import ssl
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from fabricmgr.app import tls
from fabricmgr.services import certificates
from fabricmgr.services.certificates import SERVER_LIFETIME, Authority
from fabricmgr.settings import Listen, ManagerSettings

NOW = datetime.now(UTC)


def authority() -> Authority:
    certificate, key = certificates.new_authority("test CA", NOW)
    return Authority(certificates.load_key(key), x509.load_pem_x509_certificate(certificate.encode()))


def settings(folder: Path, **values: object) -> ManagerSettings:
    return ManagerSettings(data_dir=folder, **values)  # type: ignore[arg-type]


def served(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())


def test_a_kept_certificate_is_used_again(tmp_path: Path) -> None:
    ours = authority()

    first = tls.keep_current(settings(tmp_path), ours, NOW)
    before = served(tmp_path)
    second = tls.keep_current(settings(tmp_path), ours, NOW)

    assert (first, second) == (True, False)
    assert served(tmp_path) == before
    assert stat.S_IMODE((tmp_path / "server.pem").stat().st_mode) == 0o600
    assert (tmp_path / "ca.pem").read_text() == ours.authorities()


def test_a_new_name_another_authority_or_age_each_make_a_new_one(tmp_path: Path) -> None:
    ours = authority()
    tls.keep_current(settings(tmp_path), ours, NOW)

    named = tls.keep_current(settings(tmp_path, tls_names=("fm.example", "2001:db8::7")), ours, NOW)
    names = tls.names_of(served(tmp_path))
    fewer = tls.keep_current(settings(tmp_path), ours, NOW)
    aged = tls.keep_current(settings(tmp_path), ours, NOW + SERVER_LIFETIME - tls.RENEW_BEFORE + timedelta(minutes=1))
    other = tls.keep_current(settings(tmp_path), authority(), NOW)

    assert (named, fewer, aged, other) == (True, False, True, True)
    assert {"fm.example", "2001:db8::7", "localhost", "127.0.0.1", "::1"} <= names


def test_an_address_that_is_listened_on_is_a_name(tmp_path: Path) -> None:
    assert "192.0.2.5" in tls.names(settings(tmp_path, listen=Listen("192.0.2.5", 8443)))


def test_a_wildcard_is_no_name_but_stands_for_the_hosts_own_addresses(tmp_path: Path) -> None:
    found = tls.names(settings(tmp_path, listen=Listen("0.0.0.0", 8443)))

    assert "0.0.0.0" not in found
    assert set(tls.outward_addresses()) <= set(found)


@pytest.mark.parametrize("strict", ["-x509_strict"])
def test_what_is_served_verifies_strictly(tmp_path: Path, strict: str) -> None:
    """F058"""
    tls.keep_current(settings(tmp_path, tls_names=("::1", "fm.example")), authority(), NOW)

    checked = subprocess.run(
        ["openssl", "verify", strict, "-purpose", "sslserver", "-CAfile", tmp_path / "ca.pem", tmp_path / "server.pem"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stderr


def test_a_worker_answers_before_there_is_any_certificate_and_takes_the_real_one_when_it_comes(tmp_path: Path) -> None:
    identity = tls.Identity(settings(tmp_path))
    identity.begin(NOW)
    early = identity.refresh()

    tls.keep_current(settings(tmp_path), authority(), NOW)

    assert not early
    assert identity.refresh()
    assert identity.context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert identity.context.verify_mode is ssl.CERT_OPTIONAL


def test_a_sites_certificate_that_does_not_fit_its_key_is_refused_in_a_sentence(tmp_path: Path) -> None:
    ours = authority()
    for name in ("a", "b"):
        certificate, key = ours.issue_server([name], NOW)
        (tmp_path / f"{name}.pem").write_text(certificate)
        (tmp_path / f"{name}.key").write_text(key)

    with pytest.raises(ValueError, match=r"tls_certificate .*a\.pem with tls_key .*b\.key"):
        tls.check_site_certificate(settings(tmp_path, tls_certificate=tmp_path / "a.pem", tls_key=tmp_path / "b.key"))

    tls.check_site_certificate(settings(tmp_path, tls_certificate=tmp_path / "a.pem", tls_key=tmp_path / "a.key"))
