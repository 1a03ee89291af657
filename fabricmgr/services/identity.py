"""Who a node is: enrolment by a token, renewal, and the CA that vouches for it."""

import json
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from fabricmgr.domain.account import NodePrincipal, Presented
from fabricmgr.domain.errors import ClockSkew, Invalid, NodeIsGone, NotFound, TokenRefused, Unauthenticated
from fabricmgr.domain.events import NodeJoined, NodeRevoked
from fabricmgr.domain.names import ClusterName, NodeName
from fabricmgr.domain.node import Node, NodeState, Token
from fabricmgr.services import certificates
from fabricmgr.services.certificates import Authority, check_proof, parse_public_key
from fabricmgr.store import node_rows, sealing
from fabricmgr.store.node_rows import Issued
from fabricmgr.store.sealing import Sealer
from fabricmgr.store.tx import Tx
from fabricmgr.wire import CLOCK_SKEW_LIMIT, Enrol, Enrolled, Renew

_SECRET = "authority"
_LONGEST_ID = 128
# Agents renew somewhere in this part of a certificate's life, so that a thousand enrolled at once do not come at once.
_RENEW_FROM, _RENEW_TO = 0.7, 0.9

Chance = Callable[[], float]


async def authority(
    tx: Tx, sealer: Sealer, lifetime: timedelta, now: datetime, name: Callable[[], str] = lambda: uuid4().hex[:12]
) -> Authority:
    """The CA of this database, made at the first start. Of racing managers all get the same one. lifetime: of node certificates.

    Raises DatabaseUnsuitable under another master key."""
    kept = await sealing.find(tx, sealer, _SECRET)
    if kept is None:
        certificate, key = certificates.new_authority(f"fabricmgr CA {name()}", now)
        made = json.dumps({"certificate": certificate, "key": key, "former": []})
        kept = await sealing.keep_first(tx, sealer, _SECRET, made.encode(), now)
    return _read(kept, lifetime)


async def replace_authority(
    tx: Tx, sealer: Sealer, lifetime: timedelta, now: datetime, name: Callable[[], str] = lambda: uuid4().hex[:12]
) -> Authority:
    """A new CA; the old one stays trusted until it is dropped. Agents learn of both when they renew."""
    before = await authority(tx, sealer, lifetime, now)
    certificate, key = certificates.new_authority(f"fabricmgr CA {name()}", now)
    former = [certificates.pem(each) for each in (before.certificate, *before.former)]
    made = json.dumps({"certificate": certificate, "key": key, "former": former}).encode()
    await sealing.replace(tx, sealer, _SECRET, made, now)
    return _read(made, lifetime)


def _read(kept: bytes, lifetime: timedelta) -> Authority:
    about = json.loads(kept)
    return Authority(
        key=certificates.load_key(about["key"]),
        certificate=x509.load_pem_x509_certificate(about["certificate"].encode()),
        former=tuple(x509.load_pem_x509_certificate(each.encode()) for each in about["former"]),
        lifetime=lifetime,
    )


async def enrol(tx: Tx, asked: Enrol, ours: Authority, now: datetime, chance: Chance = random.random) -> Enrolled:
    """First contact of an agent, or another one after its certificate ended: it keeps its blocks.

    A token counts once; the same agent may repeat its request, since the answer may have been lost, and gets the same certificate. Earlier
    certificates of the node count no more. Raises TokenRefused, ClockSkew, Invalid."""
    token = Token.parse(asked.token)
    row = await node_rows.take_token(tx, token.digest())
    if row is None:
        raise TokenRefused("", "it is unknown: a newer one replaced it, or its node is gone")
    node = await node_rows.by_id(tx, row.node_id, lock=True)
    key = parse_public_key(asked.public_key)
    _check_request(node, asked, key, now)
    if row.used_at is not None:
        return await _again(tx, node, key, ours, now)
    if row.expires_at <= now:
        raise TokenRefused(node.name, f"it expired at {row.expires_at.isoformat(timespec='seconds')}")
    await node_rows.use_token(tx, token.digest(), now)
    return await _join(tx, node, asked, key, ours, now, chance)


async def enrol_known(tx: Tx, node: Node, asked: Enrol, ours: Authority, now: datetime, chance: Chance = random.random) -> Enrolled:
    """The same where somebody else vouched for the node, which is locked. The same key again gets the same certificate.

    Raises ClockSkew, Invalid."""
    key = parse_public_key(asked.public_key)
    _check_request(node, asked, key, now)
    if node.state is not NodeState.GONE and (issued := await _issued_for(tx, node, key, now)) is not None:
        return _enrolled(node, issued, ours, _RENEW_FROM)
    return await _join(tx, node, asked, key, ours, now, chance)


async def _join(
    tx: Tx, node: Node, asked: Enrol, key: ec.EllipticCurvePublicKey, ours: Authority, now: datetime, chance: Chance
) -> Enrolled:
    await node_rows.revoke_certificates(tx, node.id, now)
    values = {"state": NodeState.ENROLLED.value, "machine_id": asked.machine_id, "system_uuid": asked.system_uuid, "gone_at": None}
    await node_rows.change(tx, node.id, values)
    tx.emit(NodeJoined(node.cluster, node.name, asked.machine_id))
    return await _issue(tx, node, asked.machine_id, key, ours, now, chance)


async def renew(tx: Tx, serial: str, asked: Renew, ours: Authority, now: datetime, chance: Chance = random.random) -> Enrolled:
    """A new certificate for a new key, asked for with the old one, which counts until it ends. Raises Unauthenticated, Invalid."""
    issued, node = await _certificate(tx, serial, now, lock=True)
    key = parse_public_key(asked.public_key)
    check_proof(key, asked.proof, serial)
    return await _issue(tx, node, issued.machine_id, key, ours, now, chance)


async def node_of_certificate(tx: Tx, serial: str, now: datetime, *, lock: bool = False) -> NodePrincipal:
    """Whose certificate it is, by its serial as decimal text. lock: within a transaction that writes, so that a revocation is either
    seen here or waits for us. Raises Unauthenticated for one that is unknown, revoked or has ended, NodeIsGone for a node given up."""
    issued, node = await _certificate(tx, serial, now, lock=lock)
    return NodePrincipal(node.id, node.name, node.cluster, serial, issued.machine_id)


async def node_of_presented(tx: Tx, shown: Presented, now: datetime) -> NodePrincipal | None:
    """Whose certificate a caller shows; None where it is no node's. Raises Unauthenticated, NodeIsGone, as above."""
    found = await node_rows.certificate_like(tx, bytes.fromhex(shown.fingerprint))
    if found is None:
        return None
    issued, node = _counting(*found, now)
    return NodePrincipal(node.id, node.name, node.cluster, issued.serial, issued.machine_id)


async def _certificate(tx: Tx, serial: str, now: datetime, *, lock: bool) -> tuple[Issued, Node]:
    found = await node_rows.certificate_of(tx, serial, lock=lock)
    if found is None:
        raise Unauthenticated("the certificate is unknown here")
    return _counting(*found, now)


def _counting(issued: Issued, node: Node, now: datetime) -> tuple[Issued, Node]:
    if node.state is NodeState.GONE:
        raise NodeIsGone(node.name)
    if issued.revoked_at is not None:
        raise Unauthenticated(f"the certificate of node {node.name} was revoked at {issued.revoked_at.isoformat(timespec='seconds')}")
    if issued.not_after <= now:
        raise Unauthenticated(f"the certificate of node {node.name} ended at {issued.not_after.isoformat(timespec='seconds')}")
    return issued, node


async def certificates_of(tx: Tx, cluster: ClusterName, name: NodeName, now: datetime) -> list[Issued]:
    """Those by which a node's agent is known now, the newest first. Raises NotFound."""
    node = await node_rows.get(tx, cluster, name)
    return [each for each in await node_rows.certificates(tx, node.id) if each.revoked_at is None and each.not_after > now]


async def places_of_certificates(tx: Tx, now: datetime) -> list[tuple[str, str, str]]:
    """Cluster, node and serial of every node's certificate that counts now."""
    return await node_rows.places_of_certificates(tx, now)


async def revoke_certificate(tx: Tx, cluster: ClusterName, name: NodeName, serial: str, by: str, now: datetime) -> None:
    """One of a node's counts no more, from its agent's next write on; others of it still do. Raises NotFound."""
    node = await node_rows.get(tx, cluster, name, lock=True)
    if not await node_rows.revoke_certificates(tx, node.id, now, serial):
        raise NotFound("certificate", serial)
    tx.emit(NodeRevoked(cluster, name, by))


def _check_request(node: Node, asked: Enrol, key: ec.EllipticCurvePublicKey, now: datetime) -> None:
    if asked.now.tzinfo is None:
        raise Invalid("now", asked.now.isoformat(), "a time with an offset")
    if abs(asked.now - now) > timedelta(seconds=CLOCK_SKEW_LIMIT):
        raise ClockSkew(node.name, asked.now, now, CLOCK_SKEW_LIMIT)
    for field, text, least in (("machine_id", asked.machine_id, 1), ("system_uuid", asked.system_uuid, 0)):
        if not least <= len(text) <= _LONGEST_ID or not text.isprintable():
            raise Invalid(field, text[:_LONGEST_ID], f"{least} to {_LONGEST_ID} printable characters")
    check_proof(key, asked.proof, asked.token)


async def _again(tx: Tx, node: Node, key: ec.EllipticCurvePublicKey, ours: Authority, now: datetime) -> Enrolled:
    """The answer to a used token: the certificate it got, for whoever has that certificate's key, else a refusal."""
    issued = await _issued_for(tx, node, key, now)
    if issued is None:
        raise TokenRefused(node.name, "it was used already; `fabricmgr node token` makes a new one")
    return _enrolled(node, issued, ours, _RENEW_FROM)


async def _issued_for(tx: Tx, node: Node, key: ec.EllipticCurvePublicKey, now: datetime) -> Issued | None:
    """A certificate of the node that counts, for that very key."""
    for issued in await node_rows.certificates(tx, node.id):
        if issued.revoked_at is None and issued.not_after > now and certificates.same_key(issued.pem, key):
            return issued
    return None


async def _issue(
    tx: Tx, node: Node, machine_id: str, key: ec.EllipticCurvePublicKey, ours: Authority, now: datetime, chance: Chance
) -> Enrolled:
    made = ours.issue_node(node.cluster, node.name, key, now)
    issued = Issued(
        serial=str(made.serial_number),
        node_id=node.id,
        machine_id=machine_id,
        not_before=made.not_valid_before_utc,
        not_after=made.not_valid_after_utc,
        revoked_at=None,
        pem=certificates.pem(made),
    )
    await node_rows.insert_certificate(tx, issued, made.fingerprint(hashes.SHA256()))
    return _enrolled(node, issued, ours, _RENEW_FROM + chance() * (_RENEW_TO - _RENEW_FROM))


def _enrolled(node: Node, issued: Issued, ours: Authority, part: float) -> Enrolled:
    return Enrolled(
        cluster=node.cluster,
        node=node.name,
        certificate=issued.pem,
        authorities=ours.authorities(),
        renew_at=issued.not_before + (issued.not_after - issued.not_before) * part,
    )
