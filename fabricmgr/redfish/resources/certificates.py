"""Certificates, and the CertificateService: the server's is shown, asked for anew and replaced (DSP0268, Certificate; DSP2059)."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fabricmgr.domain.account import Trusted
from fabricmgr.domain.errors import InUse, Invalid, NotFound
from fabricmgr.domain.replica import Replica
from fabricmgr.redfish.body import Items, Json, Kind, Link, Number, Object, Text
from fabricmgr.redfish.errors import message
from fabricmgr.redfish.ids import reference, references, system_uri
from fabricmgr.redfish.messages import ACCOUNTS, CLIENT_AUTHORITIES
from fabricmgr.redfish.resource import Action, Ask, Resource
from fabricmgr.redfish.resources.managers import MANAGERS, manager_id, replica_of
from fabricmgr.services import client_certificates, identity, offered, replicas, server_certificate
from fabricmgr.services.server_certificate import Asked
from fabricmgr.store.tx import Tx

SERVICE = "/redfish/v1/CertificateService"
ONLY = "1"  # a manager serves with one certificate, whose URI stays the same when it is replaced
_NAMES: Mapping[str, x509.ObjectIdentifier] = {
    "CommonName": NameOID.COMMON_NAME,
    "Organization": NameOID.ORGANIZATION_NAME,
    "OrganizationalUnit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "City": NameOID.LOCALITY_NAME,
    "State": NameOID.STATE_OR_PROVINCE_NAME,
    "Country": NameOID.COUNTRY_NAME,
    "Email": NameOID.EMAIL_ADDRESS,
}
_USAGES = {
    "digital_signature": "DigitalSignature",
    "content_commitment": "NonRepudiation",
    "key_encipherment": "KeyEncipherment",
    "data_encipherment": "DataEncipherment",
    "key_agreement": "KeyAgreement",
    "key_cert_sign": "KeyCertSign",
    "crl_sign": "CRLSigning",
}
_PURPOSES = {ExtendedKeyUsageOID.SERVER_AUTH: "ServerAuthentication", ExtendedKeyUsageOID.CLIENT_AUTH: "ClientAuthentication"}
_SMALLEST_CHAIN = 2
_AGENTS = "the certificate is not by this installation's CA: agents, which believe no other, cannot reach the manager that serves with it"


# --- what any certificate shows --------------------------------------------------------------------------------------


def certificate_body(name: str, title: str, chain: str, kind: str) -> Json:
    """Of the first certificate in it (PEM). name: the last segment of the URI. kind: what it is for, such as Web or Device."""
    found = x509.load_pem_x509_certificates(chain.encode())
    first = found[0]
    return {
        "Id": name,
        "Name": title,
        "CertificateString": chain,
        "CertificateType": "PEMchain" if len(found) >= _SMALLEST_CHAIN else "PEM",
        "CertificateUsageTypes": [kind],
        "Issuer": _identifier(first.issuer),
        "Subject": {**_identifier(first.subject), **_alternatives(first)},
        "SerialNumber": _hex(first.serial_number.to_bytes((first.serial_number.bit_length() + 7) // 8 or 1)),
        "ValidNotBefore": first.not_valid_before_utc.isoformat(timespec="seconds"),
        "ValidNotAfter": first.not_valid_after_utc.isoformat(timespec="seconds"),
        "Fingerprint": _hex(first.fingerprint(hashes.SHA256())),
        "FingerprintHashAlgorithm": "TPM_ALG_SHA256",
        "SignatureAlgorithm": first.signature_algorithm_oid.dotted_string,
        "KeyUsage": _key_usage(first),
    }


def _hex(octets: bytes) -> str:
    return octets.hex(":").upper()


def _identifier(name: x509.Name) -> Json:
    found = {word: name.get_attributes_for_oid(oid) for word, oid in _NAMES.items()}
    return {word: str(attributes[0].value) for word, attributes in found.items() if attributes}


def _alternatives(certificate: x509.Certificate) -> Json:
    names = list(server_certificate.asked_by(certificate).names)
    return {"AlternativeNames": names} if names else {}


def _key_usage(certificate: x509.Certificate) -> list[str]:
    found: list[str] = []
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.KeyUsage):
            found += [word for name, word in _USAGES.items() if getattr(extension.value, name)]
        if isinstance(extension.value, x509.ExtendedKeyUsage):
            found += [_PURPOSES[each] for each in extension.value if each in _PURPOSES]
    return found


# --- the server's ----------------------------------------------------------------------------------------------------


def collection_of(replica: Replica) -> str:
    """Where the certificate of a manager is a member."""
    return f"{MANAGERS}/{replica.id}/NetworkProtocol/HTTPS/Certificates"


async def get(ask: Ask) -> Replica:
    async with ask.database.read() as tx:
        found = await replica_of(tx, ask)
    if ask.params["certificate_id"] != ONLY or not found.certificate:
        raise NotFound("certificate", ask.params["certificate_id"])
    return found


async def members(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    async with ask.database.read() as tx:
        found = [ONLY] if (await replica_of(tx, ask)).certificate else []
    return found[skip:][:top], len(found)


def body(found: Replica) -> Json:
    return certificate_body(ONLY, f"Certificate that fabricmgr on {found.host} serves with", found.certificate, "Web")


async def renew(ask: Ask, found: Replica, _given: Json) -> Json:
    """A request for the same certificate with the same key; the answer to it is given to ReplaceCertificate."""
    asked = server_certificate.asked_by(x509.load_pem_x509_certificate(found.certificate.encode()))
    key = server_certificate.load_key(await _key_in_use(ask, found))
    return {"Certificate": reference(ask.uri), "CSRString": server_certificate.request(asked, key)}


async def rekey(ask: Ask, found: Replica, given: Json) -> Json:
    """The same with a new key."""
    asked = server_certificate.asked_by(x509.load_pem_x509_certificate(found.certificate.encode()))
    return {"Certificate": reference(ask.uri), "CSRString": await _requested(ask, found, asked, given)}


async def _key_in_use(ask: Ask, found: Replica) -> str:
    async with ask.database.read() as tx:
        given = await server_certificate.stored(tx, ask.site.sealer, found.id)
    if found.id == ask.site.here.id:
        return ask.site.here.key()
    if given is None:
        raise InUse("certificate", ONLY, f"its key lies on {found.host}, and this is another manager: ask that one, or make a new key")
    return given.key


# --- the service -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Service:
    """replicas: every manager, each with its certificate. nodes: cluster, node and serial of each certificate of a node's.

    clients: by which accounts log in."""

    replicas: list[Replica]
    nodes: list[tuple[str, str, str]] = field(default_factory=list)
    clients: list[Trusted] = field(default_factory=list)


async def get_service(ask: Ask) -> Service:
    async with ask.database.read() as tx:
        return Service(await replicas.list_all(tx))


async def get_locations(ask: Ask) -> Service:
    async with ask.database.read() as tx:
        clients = [*await client_certificates.authorities(tx), *await client_certificates.places(tx)]
        return Service(await replicas.list_all(tx), await identity.places_of_certificates(tx, ask.now), clients)


def service_body(_: Service) -> Json:
    return {
        "Id": "CertificateService",
        "Name": "Certificate service",
        "CertificateLocations": reference(f"{SERVICE}/CertificateLocations"),
    }


def locations_body(service: Service) -> Json:
    """The servers', then the nodes', then those that accounts log in by."""
    found = [f"{collection_of(each)}/{ONLY}" for each in service.replicas if each.certificate]
    found += [f"{system_uri(cluster, node)}/Certificates/{serial}" for cluster, node, serial in service.nodes]
    found += [f"{CLIENT_AUTHORITIES}/{each.fingerprint}" for each in service.clients if not each.account]
    found += [f"{ACCOUNTS}/{each.account}/Certificates/{each.fingerprint}" for each in service.clients if each.account]
    return {
        "Id": "CertificateLocations",
        "Name": "Where certificates are",
        "Links": {"Certificates": references(found), "Certificates@odata.count": len(found)},
    }


async def generate(ask: Ask, service: Service, given: Json) -> Json:
    uri = given["CertificateCollection"]["@odata.id"]
    found = next((each for each in service.replicas if collection_of(each) == uri), None)
    if found is None:
        raise Invalid("CertificateCollection/@odata.id", uri, "the collection of a manager's HTTPS certificates")
    subject = tuple((oid, given[word]) for word, oid in _NAMES.items() if given.get(word))
    asked = Asked(subject, tuple(given.get("AlternativeNames", [])))
    return {"CertificateCollection": reference(uri), "CSRString": await _requested(ask, found, asked, given)}


async def _requested(ask: Ask, found: Replica, asked: Asked, given: Json) -> str:
    bits = given.get("KeyBitLength", server_certificate.RSA_BITS[0]) if given.get("KeyPairAlgorithm") == "TPM_ALG_RSA" else None
    if bits is not None and bits not in server_certificate.RSA_BITS:
        raise Invalid("KeyBitLength", bits, f"one of {', '.join(map(str, server_certificate.RSA_BITS))}")
    # A thread, since the library makes RSA keys for up to seconds without giving way to the loop.
    key = await asyncio.to_thread(server_certificate.new_key, given.get("KeyCurveId", ""), bits)
    made = server_certificate.request(asked, key)
    text = server_certificate.key_text(key)
    await ask.database.run(lambda tx: server_certificate.keep_key(tx, ask.site.sealer, found.id, text, ask.now))
    return made


async def replace(ask: Ask, _service: Service, given: Json) -> Json:
    """Tried out first: what cannot serve changes nothing. Soon to end, or lacking what strict clients ask for: taken, and said."""
    uri = given["CertificateUri"]["@odata.id"]
    async with ask.database.read() as tx:
        found = await _of_uri(tx, uri)
        here = ask.site.here if found.id == ask.site.here.id else None
        known = await server_certificate.known_keys(tx, ask.site.sealer, found.id, [here.key()] if here else [])
    if here is not None and here.fixed:
        raise InUse("certificate", ONLY, here.fixed)
    new = offered.read(given["CertificateString"], given.get("Password", ""), known, ask.now)

    async def use_case(tx: Tx) -> bool:
        await server_certificate.replace(tx, ask.site.sealer, found.id, new, ask.principal.actor, ask.now)
        return await server_certificate.believed_by_agents(tx, ask.site.sealer, new, ask.now)

    warnings = new.warnings if await ask.database.run(use_case) else (*new.warnings, _AGENTS)
    if here is not None:
        here.serve(new)
        await ask.database.run(lambda tx: replicas.show_certificate(tx, found.id, new.chain))
    told = [message("Success", "The certificate is in use.", [])] if here else [message("Success", "The manager takes it up soon.", [])]
    return {"@Message.ExtendedInfo": [*told, *(message("GeneralError", each, []) | {"MessageSeverity": "Warning"} for each in warnings)]}


async def _of_uri(tx: Tx, uri: str) -> Replica:
    collection, _, name = uri.rpartition("/")
    parts = collection.removeprefix(f"{MANAGERS}/").split("/")
    try:
        found = await replicas.get(tx, manager_id(parts[0]))
    except NotFound:
        found = None
    if found is None or name != ONLY or collection_of(found) != collection:
        raise Invalid("CertificateUri/@odata.id", uri, "the certificate that a manager serves with")
    return found


_LINK = Link((MANAGERS,))
_KEY: Mapping[str, Kind] = {
    "KeyPairAlgorithm": Text(("TPM_ALG_ECDSA", "TPM_ALG_ECDH", "TPM_ALG_RSA")),
    "KeyBitLength": Number(),
    "KeyCurveId": Text(tuple(server_certificate.CURVES)),
}
_WANTED: Mapping[str, Kind] = {word: Text() for word in _NAMES}
server_certificates = Resource(
    schema="Certificate",
    uri="/redfish/v1/Managers/{manager_id}/NetworkProtocol/HTTPS/Certificates/{certificate_id}",
    get=get,
    body=body,
    members=members,
    collection_name="Certificates of the server",
    actions=(Action("Certificate.Renew", renew), Action("Certificate.Rekey", rekey, Object(_KEY))),
)
certificate_service = Resource(
    schema="CertificateService",
    uri=SERVICE,
    get=get_service,
    body=service_body,
    actions=(
        Action(
            "CertificateService.GenerateCSR",
            generate,
            Object(
                {"CertificateCollection": _LINK, **_WANTED, "AlternativeNames": Items(Text()), **_KEY},
                required=("CertificateCollection", "CommonName"),
            ),
            described=True,
        ),
        Action(
            "CertificateService.ReplaceCertificate",
            replace,
            Object(
                {"CertificateUri": _LINK, "CertificateString": Text(), "CertificateType": Text(("PEM", "PEMchain")), "Password": Text()},
                required=("CertificateUri", "CertificateString", "CertificateType"),
            ),
            described=True,
        ),
    ),
)
certificate_locations = Resource("CertificateLocations", f"{SERVICE}/CertificateLocations", get_locations, locations_body)
