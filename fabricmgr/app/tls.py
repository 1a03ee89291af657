"""The server's certificate: the site's, or one of our own CA, kept in a file so that the next start answers at once; and TLS's rules."""

import os
import socket
import ssl
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fabricmgr.services.certificates import SERVER_LIFETIME, Authority, new_authority, pem
from fabricmgr.services.offered import Offered
from fabricmgr.settings import ManagerSettings

RENEW_BEFORE = SERVER_LIFETIME / 4
EARLY_LIFETIME = timedelta(days=1)
_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h, for which Python has no name
# How certificates of clients are looked at: an account's own one, or a CA below another one, is believed without what stands above it; and
# what has ended is told so by an answer (401), which a broken handshake could not do: who asks looks at the times.
CLIENTS = ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME


def own_file(settings: ManagerSettings) -> Path:
    """Certificate and key of our own CA's making, in one file."""
    return settings.data_dir / "server.pem"


def authorities_file(settings: ManagerSettings) -> Path:
    """What a client has to trust."""
    return settings.data_dir / "ca.pem"


def names(settings: ManagerSettings) -> list[str]:
    """All names and addresses that we may be reached by: this host, where we listen, and what the operator named besides."""
    host = settings.listen.host
    everywhere = _is_wildcard(host)
    found = [socket.gethostname(), "localhost", "127.0.0.1", "::1", *([] if everywhere else [host]), *settings.tls_names]
    return list(dict.fromkeys([*found, *(outward_addresses() if everywhere else [])]))


def outward_addresses() -> list[str]:
    """The addresses that packets to the world would carry; nothing is sent. The networks are documentation's (RFC 5737, RFC 3849)."""
    found = []
    for family, somewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((somewhere, 9))
                found.append(str(probe.getsockname()[0]))
        except OSError:  # no route of that family
            continue
    return found


def _is_wildcard(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def is_current(path: Path, authority: Authority, wanted: Sequence[str], now: datetime) -> bool:
    """Whether the kept certificate is our CA's, carries all names and lasts."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return False
    issued = certificate.issuer == authority.certificate.subject and _signed_by(certificate, authority.certificate)
    return issued and certificate.not_valid_after_utc - RENEW_BEFORE > now and names_of(certificate) >= set(wanted)


def _signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def names_of(certificate: x509.Certificate) -> set[str]:
    """Its alternative names, as text."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {*found.get_values_for_type(x509.DNSName), *(str(each) for each in found.get_values_for_type(x509.IPAddress))}


def keep_current(settings: ManagerSettings, authority: Authority, now: datetime) -> bool:
    """Write the CAs, and a new certificate if the kept one does not do. Gives back whether there is a new one."""
    write(authorities_file(settings), authority.authorities(), 0o644)
    wanted, path = names(settings), own_file(settings)
    if settings.tls_certificate is not None or is_current(path, authority, wanted, now):
        return False
    certificate, key = authority.issue_server(wanted, now)
    write(path, certificate + key, 0o600)
    return True


def write(path: Path, text: str, mode: int) -> None:
    """Whole or not at all, and never readable by more than it shall be."""
    if path.exists() and path.read_text() == text:
        return
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    Path(aside).replace(path)


def given_file(settings: ManagerSettings) -> Path:
    """A certificate that a client gave us, with its chain and key."""
    return settings.data_dir / "server-given.pem"


def files(settings: ManagerSettings) -> tuple[Path, Path]:
    """Where certificate and key are read from: the operator's files, else what a client gave us, else our own."""
    if settings.tls_certificate is not None and settings.tls_key is not None:
        return settings.tls_certificate, settings.tls_key
    given = given_file(settings)
    return (given, given) if given.exists() else (own_file(settings), own_file(settings))


def check_site_certificate(settings: ManagerSettings) -> None:
    """Raises ValueError, with a sentence, for a site's certificate that can't be served."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_certificate, settings.tls_key)
        load_pem_private_key(settings.tls_key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"tls_certificate {settings.tls_certificate} with tls_key {settings.tls_key}: {error}") from None


def _fresh() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # A node shows its certificate, a person may.
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= CLIENTS
    return context


class Identity:
    """The TLS context of a worker. A new certificate gets a context of its own, which handshakes from then on use: put into the old one,
    it would stand beside the old certificate where the keys are of two kinds, and either might be shown. Connections there are stay."""

    def __init__(self, settings: ManagerSettings) -> None:
        self._settings = settings
        self._loaded: tuple[Path, int, int] | None = None
        self._ours = ""
        self._trusted: tuple[str, ...] = ()
        self._current: ssl.SSLContext | None = None
        self.context = _fresh()
        self.context.sni_callback = self._choose

    def begin(self, now: datetime) -> None:
        """With what there is from an earlier start; at the very first, with a certificate nobody trusts, so that /readyz is answered."""
        if not self.refresh():
            self._load_early(now)

    def refresh(self) -> bool:
        """Load the files if they are there and changed. Gives back whether a certificate of theirs is in use."""
        certificate, key = files(self._settings)
        try:
            found = (certificate, certificate.stat().st_mtime_ns, key.stat().st_mtime_ns)
            if found != self._loaded:
                self._use(certificate, key)
                self._loaded = found
        except (OSError, ssl.SSLError):
            return self._loaded is not None
        return True

    def serve(self, offered: Offered) -> None:
        """Keep a certificate that was tried out, and show it from now on; other workers do so within CERTIFICATE_PERIOD."""
        write(given_file(self._settings), offered.chain + offered.key, 0o600)
        self.refresh()

    def chain(self) -> str:
        """The certificate in use and those behind it, PEM; "" while there is none."""
        try:
            found = x509.load_pem_x509_certificates(files(self._settings)[0].read_bytes())
        except (OSError, ValueError):
            return ""
        return "".join(pem(each) for each in found)

    def key(self) -> str:
        """Of the certificate in use, PEM."""
        text = files(self._settings)[1].read_text()
        end = text.index("PRIVATE KEY-----\n", text.index("PRIVATE KEY-----") + 1)
        return text[text.rindex("-----BEGIN", 0, text.index("PRIVATE KEY-----")) : end] + "PRIVATE KEY-----\n"

    def _use(self, certificate: Path, key: Path) -> None:
        context = _fresh()
        context.load_cert_chain(certificate, key)
        for each in (self._ours, *self._trusted):
            if each:
                context.load_verify_locations(cadata=each)
        self._current = context

    def _choose(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Called within each handshake, with or without a server name."""
        del name, context
        if self._current is not None:
            connection.context = self._current

    def trust(self, ours: str) -> None:
        """Believe certificates of our own CAs (PEM): nodes'. Those believed before stay so until the process ends."""
        self._ours += ours
        for context in (self.context, *([self._current] if self._current else [])):
            context.load_verify_locations(cadata=ours)

    def trust_clients(self, trusted: Sequence[str]) -> None:
        """Believe certificates of these CAs, and these certificates (PEM), beside those of our own CAs, in handshakes from now on.

        Whom one stands for is looked up at each request, so that connections there are need not end when one goes."""
        if tuple(trusted) == self._trusted:
            return
        before, self._trusted = self._trusted, tuple(trusted)
        try:
            if self._loaded is not None:
                self._use(*files(self._settings))
        except (OSError, ssl.SSLError):
            self._trusted = before  # the next look tries again, with a server certificate that is whole by then
            raise

    def _load_early(self, now: datetime) -> None:
        certificate, key = new_authority("fabricmgr starts", now)
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # the library takes keys from files only
            file.write(certificate + key)
            file.flush()
            self.context.load_cert_chain(file.name)
