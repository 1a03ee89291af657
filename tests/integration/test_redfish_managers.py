"""Managers, what they speak, and the certificate they serve with, by Redfish."""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fabricmgr.domain.replica import Sign, replica_id
from fabricmgr.services import identity, replicas
from fabricmgr.services.certificates import pem
from fabricmgr.services.server_certificate import new_key
from fabricmgr.store.sealing import Sealer
from tests.integration.test_redfish import PASSWORD, PODS, POOLS, as_boss, message_of, service
from tests.integration.test_redfish_fabric import filled
from tests.support.database import NOW, opened
from tests.support.here import CERTIFICATE, HERE, KEY, SEEN, authority
from tests.support.issued import signed

MANAGER = f"/redfish/v1/Managers/{HERE.id}"
PROTOCOL = f"{MANAGER}/NetworkProtocol"
SERVED = f"{PROTOCOL}/HTTPS/Certificates/1"
SERVICE = "/redfish/v1/CertificateService"
MANAGED = ("/redfish/v1/Fabrics", "/redfish/v1/Fabrics/ethernet/Switches", "/redfish/v1/Systems", "/redfish/v1/Chassis")
REPLACE = f"{SERVICE}/Actions/CertificateService.ReplaceCertificate"


@pytest.fixture(autouse=True)
def nothing_given() -> Iterator[None]:
    SEEN.given.clear()
    yield
    SEEN.given.clear()


def replacement(text: str, **more: Any) -> dict[str, Any]:
    return {"CertificateUri": {"@odata.id": SERVED}, "CertificateString": text, "CertificateType": "PEM", **more}


async def test_managers_of_one_database_are_shown_and_one_that_fell_silent_is_away(database_url: str) -> None:
    async with service(database_url) as client, opened(database_url) as database:
        await as_boss(client)
        other = replica_id(HERE.id, "elsewhere", "/var/lib/fabricmgr")
        sign = Sign(other, "elsewhere", "1.0", "https://192.0.2.9:9443", CERTIFICATE)
        await database.run(lambda tx: replicas.beat(tx, sign, NOW - timedelta(minutes=1)))

        listed = (await client.get("/redfish/v1/Managers")).json()
        own, away = (await client.get(MANAGER)).json(), (await client.get(f"/redfish/v1/Managers/{other}")).json()
        root = (await client.get("/redfish/v1/")).json()
        port = (await client.get(f"/redfish/v1/Managers/{other}/NetworkProtocol")).json()["HTTPS"]["Port"]

    assert listed["Members@odata.count"] == 2
    assert (own["ManagerType"], own["Status"]["State"]) == ("Service", "Enabled")
    assert away["Status"] == {"State": "UnavailableOffline", "Health": "Critical"}
    assert own["ServiceEntryPointUUID"] == away["ServiceEntryPointUUID"] == root["UUID"]
    assert port == 9443


async def test_what_is_managed_names_every_manager_of_the_database(database_url: str) -> None:
    async with service(database_url) as client, opened(database_url) as database:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await filled(database_url)
        sign = Sign(replica_id(HERE.id, "elsewhere", ""), "elsewhere", "1.0", "https://192.0.2.9:9443", CERTIFICATE)
        await database.run(lambda tx: replicas.beat(tx, sign, NOW))

        managers = (await client.get("/redfish/v1/Managers")).json()["Members"]
        collections = [(await client.get(f"{each}?$expand=.")).json()["Members"] for each in MANAGED]
        pages = [page for members in collections for page in members]
        alone = [(await client.get(page["@odata.id"])).json() for page in pages]

    assert [len(each) for each in collections] == [1, 1, 2, 3]
    assert len(managers) == 2
    for page in pages:
        assert page["Links"]["ManagedBy"] == managers
        assert page["Links"]["ManagedBy@odata.count"] == 2
    assert alone == pages


async def test_a_manager_not_heard_of_for_a_week_is_forgotten(database_url: str) -> None:
    async with opened(database_url) as database:
        for index, at in enumerate((NOW - timedelta(days=8), NOW)):
            sign = Sign(replica_id(HERE.id, str(index), ""), "h", "1.0", "https://192.0.2.9:9443", "")
            await database.run(partial(replicas.beat, sign=sign, now=at))

        async with database.read() as tx:
            assert [each.seen_at for each in await replicas.list_all(tx)] == [NOW]


async def test_elements_of_the_ntp_list_are_kept_removed_and_dropped_as_redfish_says(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        async def patched(*servers: object) -> list[str]:
            answer = await client.patch(PROTOCOL, json={"NTP": {"NTPServers": list(servers)}})
            assert answer.status_code == 200, answer.text
            assert answer.headers["etag"] == (await client.get(PROTOCOL)).headers["etag"]
            found: list[str] = answer.json()["NTP"]["NTPServers"]
            return found

        assert await patched("a.example", "b.example") == ["a.example", "b.example"]
        assert await patched({}, "c.example") == ["a.example", "c.example"]
        assert await patched(None, {}, "192.0.2.7") == ["c.example", "192.0.2.7"]
        assert await patched({}) == ["c.example"]
        wrong = await client.patch(PROTOCOL, json={"NTP": {"NTPServers": [{}, "not a host"]}})
        kind = await client.patch(PROTOCOL, json={"NTP": {"NTPServers": [7]}})
        closed = await client.patch(PROTOCOL, json={"HTTPS": {"Port": 1}})
        stale = await client.patch(PROTOCOL, json={"NTP": {"NTPServers": []}}, headers={"If-Match": '"1"'})
        operator = await client.patch(PROTOCOL, json={"NTP": {"NTPServers": []}}, auth=httpx2.BasicAuth("op", PASSWORD))

        assert (wrong.status_code, message_of(wrong)) == (400, "PropertyValueError")
        assert (kind.status_code, message_of(kind)) == (400, "PropertyValueTypeError")
        assert (closed.status_code, message_of(closed)) == (400, "PropertyNotWritable")
        assert (stale.status_code, operator.status_code) == (412, 403)
        assert (await client.get(PROTOCOL)).json()["NTP"]["NTPServers"] == ["c.example"]


async def test_the_certificate_that_serves_is_shown_to_whoever_manages(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        page = (await client.get(SERVED)).json()
        locations = (await client.get(f"{SERVICE}/CertificateLocations")).json()
        operator = await client.get(SERVED, auth=httpx2.BasicAuth("op", PASSWORD))

    assert page["CertificateString"] == CERTIFICATE
    assert page["Subject"]["AlternativeNames"] == ["host.example", "192.0.2.1"]
    assert page["Issuer"]["CommonName"] == "a CA"
    assert page["KeyUsage"] == ["DigitalSignature", "ServerAuthentication"]
    assert "PRIVATE" not in str(page)
    assert locations["Links"]["Certificates"] == [{"@odata.id": SERVED}]
    assert operator.status_code == 403


async def test_a_certificate_is_replaced_and_shown_at_once_and_its_key_never(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        certificate, key = authority("another CA").issue_server(["new.example"], NOW)

        answer = await client.post(REPLACE, json=replacement(certificate + key))

        assert answer.status_code == 200, answer.text
        assert [each.chain for each in SEEN.given] == [certificate]
        assert (await client.get(SERVED)).json()["Issuer"]["CommonName"] == "another CA"
        assert key not in answer.text
        told = [each["Message"] for each in answer.json()["@Message.ExtendedInfo"]]
        assert "agents" in told[-1]


async def test_a_certificate_by_our_own_ca_is_taken_without_a_warning(database_url: str) -> None:
    async with service(database_url) as client, opened(database_url) as database:
        await as_boss(client)
        ours = await database.run(lambda tx: identity.authority(tx, Sealer(b"k" * 32), timedelta(days=1), NOW))
        certificate, key = ours.issue_server(["new.example"], NOW)

        answer = await client.post(REPLACE, json=replacement(certificate + key))

        assert len(answer.json()["@Message.ExtendedInfo"]) == 1


async def test_a_certificate_that_cannot_serve_is_refused_and_changes_nothing(database_url: str) -> None:
    """F035."""
    async with service(database_url) as client:
        await as_boss(client)
        certificate, _ = authority("another CA").issue_server(["new.example"], NOW)

        mismatched = await client.post(REPLACE, json=replacement(certificate + KEY))
        elsewhere = await client.post(REPLACE, json=replacement(certificate) | {"CertificateUri": {"@odata.id": PROTOCOL}})
        container = await client.post(REPLACE, json=replacement(certificate, CertificateType="PKCS7"))
        operator = await client.post(REPLACE, json=replacement(certificate), auth=httpx2.BasicAuth("op", PASSWORD))

        assert (mismatched.status_code, message_of(mismatched)) == (400, "PropertyValueError")
        assert "belongs to the key" in mismatched.json()["error"]["message"]
        assert "PRIVATE" not in mismatched.text
        assert (elsewhere.status_code, container.status_code, operator.status_code) == (400, 400, 403)
        assert SEEN.given == []
        assert (await client.get(SERVED)).json()["CertificateString"] == CERTIFICATE


@pytest.mark.parametrize(("more", "kind"), [({}, ec.EllipticCurvePublicKey), ({"KeyPairAlgorithm": "TPM_ALG_RSA"}, rsa.RSAPublicKey)])
async def test_a_request_made_here_is_answered_by_a_foreign_ca_and_the_answer_serves(
    database_url: str, more: dict[str, Any], kind: type[object]
) -> None:
    """F058: a foreign CA signs what GenerateCSR asks."""
    async with service(database_url) as client:
        await as_boss(client)
        collection = {"CertificateCollection": {"@odata.id": SERVED.rpartition("/")[0]}}
        body = {**collection, "CommonName": "fabric.example", "Organization": "Example", "Country": "DE", "AlternativeNames": ["192.0.2.3"]}

        asked = await client.post(f"{SERVICE}/Actions/CertificateService.GenerateCSR", json={**body, **more})
        request = x509.load_pem_x509_csr(asked.json()["CSRString"].encode())
        answered = answer_of_ca(request)
        replaced = await client.post(REPLACE, json=replacement(answered))

        assert (asked.status_code, replaced.status_code) == (200, 200), replaced.text
        assert isinstance(request.public_key(), kind)
        assert request.is_signature_valid
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["fabric.example"]
        assert SEEN.given[-1].chain == answered


def answer_of_ca(request: x509.CertificateSigningRequest) -> str:
    """What a CA of somebody else's makes of a request."""
    key = request.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    return pem(signed(key, "their CA", new_key()))


async def test_renewing_asks_for_the_same_with_the_same_key_and_rekeying_with_a_new_one(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        renewed = (await client.post(f"{SERVED}/Actions/Certificate.Renew", json={})).json()
        rekeyed = (await client.post(f"{SERVED}/Actions/Certificate.Rekey", json={})).json()

    served = x509.load_pem_x509_certificate(CERTIFICATE.encode())
    requests = [x509.load_pem_x509_csr(each["CSRString"].encode()) for each in (renewed, rekeyed)]
    assert renewed["Certificate"] == {"@odata.id": SERVED}
    assert [each.public_key() == served.public_key() for each in requests] == [True, False]
    for each in requests:
        assert each.subject == served.subject
        assert each.extensions.get_extension_for_class(x509.SubjectAlternativeName).value == (
            served.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        )
