"""Certificates that accounts log in by: of trusted CAs, and of single accounts (DSP0268, Certificate; DSP0266, 13.3)."""

from collections.abc import Sequence

from fabricmgr.domain.account import Trusted
from fabricmgr.domain.errors import NotFound
from fabricmgr.redfish.body import Json, Object, Text
from fabricmgr.redfish.resource import Ask, Made, Resource
from fabricmgr.redfish.resources.certificates import certificate_body
from fabricmgr.services import client_certificates
from fabricmgr.store.tx import Tx

_STRING = "CertificateString"
_CREATABLE = Object({_STRING: Text(), "CertificateType": Text(("PEM",))}, required=(_STRING, "CertificateType"))


def body(found: Trusted) -> Json:
    whose = f"Certificate of account {found.account}" if found.account else "CA whose certificates name accounts"
    return certificate_body(found.fingerprint, whose, found.pem, "User")


def _with_id(ask: Ask, among: Sequence[Trusted]) -> Trusted:
    found = next((each for each in among if each.fingerprint == ask.params["certificate_id"]), None)
    if found is None:
        raise NotFound("certificate", ask.params["certificate_id"])
    return found


# --- of CAs ----------------------------------------------------------------------------------------------------------


async def _authorities(ask: Ask) -> Sequence[Trusted]:
    async with ask.database.read() as tx:
        return await client_certificates.authorities(tx)


async def get_authority(ask: Ask) -> Trusted:
    return _with_id(ask, await _authorities(ask))


async def authority_members(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    found = [each.fingerprint for each in await _authorities(ask)]
    return found[skip:][:top], len(found)


async def create_authority(ask: Ask, given: Json) -> Made:
    async def use_case(tx: Tx) -> Trusted:
        ours = await client_certificates.ours(tx, ask.site.sealer, ask.now)
        return await client_certificates.add_authority(tx, given[_STRING], ours, ask.principal.actor, ask.now, _STRING)

    made = await ask.database.run(use_case)
    return Made(made.fingerprint, made)


async def delete_authority(ask: Ask, found: Trusted, _version: int | None) -> None:
    await ask.database.run(lambda tx: client_certificates.remove_authority(tx, found.fingerprint, ask.principal.actor))
    ask.site.who.forget_certificates()


# --- of accounts -----------------------------------------------------------------------------------------------------


async def _of_account(ask: Ask) -> Sequence[Trusted]:
    async with ask.database.read() as tx:
        return await client_certificates.certificates(tx, ask.params["account_id"])


async def get_certificate(ask: Ask) -> Trusted:
    return _with_id(ask, await _of_account(ask))


async def certificate_members(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    found = [each.fingerprint for each in await _of_account(ask)]
    return found[skip:][:top], len(found)


async def create_certificate(ask: Ask, given: Json) -> Made:
    async def use_case(tx: Tx) -> Trusted:
        ours = await client_certificates.ours(tx, ask.site.sealer, ask.now)
        name, by = ask.params["account_id"], ask.principal.actor
        return await client_certificates.add_certificate(tx, name, given[_STRING], ours, by, ask.now, _STRING)

    made = await ask.database.run(use_case)
    return Made(made.fingerprint, made)


async def delete_certificate(ask: Ask, found: Trusted, _version: int | None) -> None:
    name, by = ask.params["account_id"], ask.principal.actor
    await ask.database.run(lambda tx: client_certificates.remove_certificate(tx, name, found.fingerprint, by))
    ask.site.who.forget_certificates()


client_authority = Resource(
    schema="Certificate",
    uri="/redfish/v1/AccountService/MultiFactorAuth/ClientCertificate/Certificates/{certificate_id}",
    get=get_authority,
    body=body,
    members=authority_members,
    collection_name="CAs whose certificates name accounts",
    delete=delete_authority,
    create=create_authority,
    creatable=_CREATABLE,
)
account_certificate = Resource(
    schema="Certificate",
    uri="/redfish/v1/AccountService/Accounts/{account_id}/Certificates/{certificate_id}",
    get=get_certificate,
    body=body,
    members=certificate_members,
    collection_name="Certificates of the account",
    delete=delete_certificate,
    create=create_certificate,
    creatable=_CREATABLE,
)
