"""/v1/client-login, /v1/client-authorities and certificates of accounts: who logs in by client certificate."""

from datetime import datetime

from cryptography import x509
from fastapi import APIRouter, Response

from fabricmgr.api.framework import Model, View
from fabricmgr.api.parts import Called, Paging, gone
from fabricmgr.domain.account import CertificateMapping, ClientLogin, ClientLoginChange, Trusted
from fabricmgr.domain.errors import NotInList
from fabricmgr.domain.page import Page
from fabricmgr.services import client_certificates
from fabricmgr.store.tx import Tx

router = APIRouter(tags=["accounts"])


class ClientLoginPatch(Model):
    enabled: bool | None = None
    mapping: str | None = None
    lockout_attempts: int | None = None
    lockout_seconds: int | None = None


class ClientLoginView(View):
    """lockout_attempts, lockout_seconds: null is what each manager's settings say."""

    enabled: bool
    mapping: str
    lockout_attempts: int | None
    lockout_seconds: int | None
    version: int

    @classmethod
    def of(cls, found: ClientLogin) -> "ClientLoginView":
        return cls(
            enabled=found.enabled,
            mapping=found.mapping.value,
            lockout_attempts=found.lockout_attempts,
            lockout_seconds=found.lockout_seconds,
            version=found.version,
        )


class CertificateCreate(Model):
    certificate: str


class CertificateView(View):
    """fingerprint: SHA-256 of the DER, hex. account: whose it is; null for a CA's."""

    fingerprint: str
    account: str | None
    subject: str
    issuer: str
    not_before: datetime
    not_after: datetime
    created_at: datetime
    certificate: str

    @classmethod
    def of(cls, found: Trusted) -> "CertificateView":
        read = x509.load_pem_x509_certificate(found.pem.encode())
        return cls(
            fingerprint=found.fingerprint,
            account=found.account or None,
            subject=read.subject.rfc4514_string(),
            issuer=read.issuer.rfc4514_string(),
            not_before=read.not_valid_before_utc,
            not_after=read.not_valid_after_utc,
            created_at=found.created_at,
            certificate=found.pem,
        )


class CertificatePage(View):
    items: list[CertificateView]
    next: str | None


def _page(found: list[Trusted], page: Page) -> CertificatePage:
    """By fingerprint; there are never many."""
    rest = sorted((each for each in found if each.fingerprint > (page.after or "")), key=lambda each: each.fingerprint)
    cut = page.cut(rest[: page.limit + 1], lambda each: each.fingerprint)
    return CertificatePage(items=[CertificateView.of(each) for each in cut.items], next=cut.next)


@router.get("/v1/client-login", response_model=ClientLoginView)
async def show_client_login(call: Called) -> Response:
    """Whether accounts log in by client certificate, what of one names its account, and when wrong passwords lock one out."""
    found = await call.read(client_certificates.get_login)
    return call.shown(ClientLoginView.of(found), found.version)


@router.patch("/v1/client-login", response_model=ClientLoginView)
async def change_client_login(call: Called, body: ClientLoginPatch) -> Response:
    """Change what is named. It counts at once, at every manager."""
    quoted, mapping = call.version("client login", "1"), None if body.mapping is None else _mapping(body.mapping)
    wanted = ClientLoginChange(body.enabled, mapping, body.lockout_attempts, body.lockout_seconds)
    changed = await call.run(lambda tx: client_certificates.change_login(tx, wanted, quoted, call.by))
    call.parts.who.forget_certificates()
    return call.shown(ClientLoginView.of(changed), changed.version)


def _mapping(text: str) -> CertificateMapping:
    try:
        return CertificateMapping(text)
    except ValueError:
        raise NotInList("mapping", text, ", ".join(CertificateMapping)) from None


@router.get("/v1/client-authorities", response_model=CertificatePage)
async def list_client_authorities(call: Called, page: Paging) -> Response:
    """CAs whose certificates name accounts."""
    return call.shown(_page(await call.read(client_certificates.authorities), page))


@router.post("/v1/client-authorities", response_model=CertificateView, status_code=201)
async def add_client_authority(call: Called, body: CertificateCreate) -> Response:
    """Trust a CA, PEM. The same again changes nothing."""

    async def use_case(tx: Tx) -> Trusted:
        ours = await client_certificates.ours(tx, call.parts.sealer, call.now)
        return await client_certificates.add_authority(tx, body.certificate, ours, call.by, call.now)

    made = await call.run(use_case)
    return call.shown(CertificateView.of(made), location=f"/v1/client-authorities/{made.fingerprint}")


@router.delete("/v1/client-authorities/{certificate}", status_code=204)
async def remove_client_authority(call: Called, certificate: str) -> Response:
    """Its certificates count no more."""
    await call.run(lambda tx: client_certificates.remove_authority(tx, certificate, call.by))
    call.parts.who.forget_certificates()
    return gone()


@router.get("/v1/accounts/{account}/certificates", response_model=CertificatePage)
async def list_account_certificates(call: Called, account: str, page: Paging) -> Response:
    """Certificates by which an account logs in."""
    return call.shown(_page(await call.read(lambda tx: client_certificates.certificates(tx, account)), page))


@router.post("/v1/accounts/{account}/certificates", response_model=CertificateView, status_code=201)
async def add_account_certificate(call: Called, account: str, body: CertificateCreate) -> Response:
    """Let whoever has this certificate's key log in as the account. The same again changes nothing."""

    async def use_case(tx: Tx) -> Trusted:
        ours = await client_certificates.ours(tx, call.parts.sealer, call.now)
        return await client_certificates.add_certificate(tx, account, body.certificate, ours, call.by, call.now)

    made = await call.run(use_case)
    return call.shown(CertificateView.of(made), location=f"/v1/accounts/{account}/certificates/{made.fingerprint}")


@router.delete("/v1/accounts/{account}/certificates/{certificate}", status_code=204)
async def remove_account_certificate(call: Called, account: str, certificate: str) -> Response:
    """It counts no more."""
    await call.run(lambda tx: client_certificates.remove_certificate(tx, account, certificate, call.by))
    call.parts.who.forget_certificates()
    return gone()
