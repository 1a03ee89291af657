"""What manager and agent say to each other, once for both.

Two channels, both asked for by the agent over mutual TLS: up, numbered report batches and claims; down, one desired-state document per
node by long poll. A new need of the agent is a field of `Desired`, never a third channel. Addresses and prefixes travel as text in their
canonical spelling, times in RFC 3339 with an offset. Unknown fields are ignored by both, so that an older peer can talk to a newer one;
a field is added with a default and never changes its meaning.

First contact: the agent fetches the authorities over a connection it cannot verify yet (and sends nothing secret on it), keeps the one
whose SHA-256 (of the DER form, hex) its token carries, and from then on trusts that one alone; a mismatch ends the enrolment.

| call | request | answer |
|---|---|---|
| GET /v1/authorities (no credentials) | - | the manager's CA certificates, PEM, `application/x-pem-file` |
| POST /v1/enrol (no credentials) | Enrol | Enrolled |
| POST /v1/nodes/self/certificate | Renew | Enrolled |
| POST /v1/nodes/self/hello | Hello | Welcome |
| POST /v1/nodes/self/reports | Report | Acknowledged |
| POST /v1/nodes/self/blocks | BlocksWanted | BlocksGranted |
| GET /v1/nodes/self/desired?life=L&version=V&wait=S | - | Desired, or 304 when nothing changed within S seconds |
| POST /v1/nodes/self/announcing | Announcing | Announced |
| PUT /v1/attachments/{network}/{container}/{ifname} | Attach | Attached |
| DELETE /v1/attachments/{network}/{container}/{ifname}?generation=G | - | 204 |

G is the greatest of the generations that the attachment's addresses came with.
"""

from datetime import datetime
from enum import Enum
from uuid import UUID

import msgspec

# A heartbeat is any call that names the life. An agent is heard at least this often, and a life unheard for HEARTBEAT_LAPSE may be followed
# by another one.
HEARTBEAT_PERIOD = 3.0
HEARTBEAT_LAPSE = 10.0
# The largest difference between a node's clock and the manager's at enrolment: a certificate's notBefore lies this far back.
CLOCK_SKEW_LIMIT = 300
MAX_REPORT_CHANGES = 1000
# Who announces addresses is heard this often, and is followed by another after so long a silence: together with the look at the wire a
# failover stays under two seconds.
ANNOUNCING_PERIOD = 0.5
ANNOUNCING_LAPSE = 1.2


class Wire(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Base of all messages."""


# --- identity --------------------------------------------------------------------------------------------------------


class Enrol(Wire, frozen=True, kw_only=True):
    """First contact. token: as `node add` printed it. public_key: PEM, SubjectPublicKeyInfo; name and lifetime are ours.

    cluster: where the token is one that its API server gave the agent's pod, and vouches for which node that runs on."""

    token: str
    cluster: str = ""
    machine_id: str
    system_uuid: str = ""
    public_key: str
    proof: str  # base64 of the signature over sha256(token) with the key: the caller has it
    now: datetime


class Enrolled(Wire, frozen=True, kw_only=True):
    """certificate: PEM, leaf first. authorities: PEM of every CA to trust (two during a rollover)."""

    cluster: str
    node: str
    certificate: str
    authorities: str
    renew_at: datetime


class Renew(Wire, frozen=True, kw_only=True):
    public_key: str
    proof: str  # base64 of the signature over sha256(old certificate's serial as decimal text) with the new key


# --- up: hello, reports, claims ---------------------------------------------------------------------------------------


class Interface(Wire, frozen=True, kw_only=True):
    """A NIC of the node as its agent sees it."""

    name: str
    mac: str
    mtu: int
    up: bool
    addresses: list[str] = []  # with prefix length


class HeldBlock(Wire, frozen=True, kw_only=True):
    """A block the agent's journal says it holds."""

    prefix: str
    claim: int
    generation: int


class BlockAddress(Wire, frozen=True, kw_only=True):
    """One address of an allocation. block and claim: None and 0 where the manager assigned it in a central block."""

    address: str
    generation: int
    block: str | None = None
    claim: int = 0


class Owned(Wire, frozen=True, kw_only=True):
    """An attachment and what it holds. gone_pending: released, but its link may still exist."""

    network: str
    container: str
    ifname: str
    addresses: list[BlockAddress]
    at: datetime
    mac: str = ""
    host_interface: str = ""
    namespace: str = ""
    pod: str = ""
    uid: str = ""
    released: bool = False


class Hello(Wire, frozen=True, kw_only=True):
    """A life begins, or asks again. last_number: the last report acknowledged in this life. mark: the last the agent saw, "" for none.

    now: by the clock that dated its attachments; without it they count from the hello on. released: attachments that were released earlier
    and whose links are known to be gone need not be named: what neither journal nor kernel shows is simply absent."""

    life: UUID
    boot_id: UUID
    machine_id: str
    agent_version: str
    now: datetime | None = None
    last_number: int = 0
    mark: str = ""
    journal_lost: bool = False
    blocks: list[HeldBlock] = []
    attachments: list[Owned] = []
    addresses: list[str] = []  # of the node itself; the first of each family is its next hop
    interfaces: list[Interface] = []
    faults: list[str] = []  # of the node's network, in sentences, such as a rule of another's that drops packets of pods


class GrantedBlock(Wire, frozen=True, kw_only=True):
    """A block of this node as the manager sees it. state: pending, confirmed, releasing or held_back. rested_at: nothing in it before then.

    reserved: addresses and prefixes inside it that are never handed out."""

    pool: str
    prefix: str
    claim: int
    state: str
    generation: int = 0
    rested_at: datetime | None = None
    reserved: list[str] = []
    cooldown_seconds: float = 60.0


class Welcome(Wire, frozen=True, kw_only=True):
    """Answer to hello. lost: blocks the agent named that are no longer its own: it assigns no more in them.

    conflicts: addresses of its attachments that another owner holds now."""

    node: str
    cluster: str
    last_number: int
    blocks: list[GrantedBlock]
    lost: list[str] = []
    conflicts: list[str] = []
    mark: str = ""
    now: datetime


class ChangeKind(Enum):
    ASSIGNED = "assigned"
    RELEASED = "released"  # given back; a link may still carry the address
    GONE = "gone"  # no link carries it any more: the cooldown begins


class Change(Wire, frozen=True, kw_only=True):
    """One change. Each address quotes its block, claim and generation; an old claim or generation changes nothing."""

    kind: ChangeKind
    owned: Owned
    reason: str = ""  # DEL, GC, undo, or what the agent found


class Report(Wire, frozen=True, kw_only=True):
    """Batch `number` of a life: sent again until acknowledged, effective once. age_ms: of its first change, the
    oldest unreported one; how old the others are follows from it, whatever the node's clock shows."""

    life: UUID
    number: int
    changes: list[Change]
    age_ms: int = 0
    free: dict[str, int] = {}  # free rested addresses in held blocks, by network/family, e.g. "podnet/4"


class Acknowledged(Wire, frozen=True, kw_only=True):
    """number: the last that took effect. pressure: pools without an unclaimed block, where the agent keeps no spare ones."""

    number: int
    mark: str
    pressure: list[str] = []


class WantedBlocks(Wire, frozen=True, kw_only=True):
    """How many blocks the agent means to hold of a network and family, those it has included: repeating it changes nothing."""

    network: str
    family: int
    count: int


class BlocksWanted(Wire, frozen=True, kw_only=True):
    """confirm: pending blocks the agent has journalled as claiming. give_back: empty, rested blocks it assigns in no more."""

    life: UUID
    wanted: list[WantedBlocks] = []
    confirm: list[HeldBlock] = []
    give_back: list[HeldBlock] = []


class BlocksGranted(Wire, frozen=True, kw_only=True):
    """All blocks of this node after the change. A block is used only when the answer to its confirm says `confirmed`."""

    blocks: list[GrantedBlock]
    pressure: list[str] = []
    mark: str = ""


# --- down: desired state ------------------------------------------------------------------------------------------------


class Decide(Enum):
    """Who decides a pod's address: the agent from its blocks, the manager for the namespaces named, or the manager always."""

    AGENT = "agent"
    NAMESPACES = "namespaces"
    MANAGER = "manager"


class Routing(Enum):
    """host-gw: the agent lays routes to other nodes' blocks by next hop. none: the underlay does it."""

    HOST_GW = "host-gw"
    NONE = "none"


class NetworkSpec(Wire, frozen=True, kw_only=True):
    """A network of the node's cluster. prefixes: of its pools, in order of preference. direct: reached without masquerade beside them.

    status_policy: auto, strict or lenient (whether want of addresses fails STATUS)."""

    name: str
    pools: list[str]
    families: list[int]
    prefixes: list[str]
    mtu: int = 1500
    masquerade: bool = False
    routing: Routing = Routing.HOST_GW
    decide: Decide = Decide.AGENT
    namespaces: list[str] = []
    direct: list[str] = []
    bridge: str = ""
    status_policy: str = "auto"


class Route(Wire, frozen=True, kw_only=True):
    """prefix: another node's block, or a central address that lives there. via: an address of that enrolled node."""

    prefix: str
    via: str
    network: str


class Announce(Wire, frozen=True, kw_only=True):
    """An address that this node answers for on its segment. term: grows with each change of who does."""

    address: str
    term: int


class Desired(Wire, frozen=True, kw_only=True):
    """What a node should be. version: opaque; the agent quotes the one it has acted on.

    looks: when it differs from the one before, the agent holds journal and kernel against each other and says hello again."""

    version: str
    node: str
    cluster: str
    networks: list[NetworkSpec]
    blocks: list[GrantedBlock]
    routes: list[Route]
    cluster_has_api: bool = False
    looks: int = 0
    announcements: list[Announce] = []


# --- announcing ---------------------------------------------------------------------------------------------------------


class Voice(Wire, frozen=True, kw_only=True):
    """One announcement as its node carries it out. conflict: MAC of who else answers for the address. reason: why it does not speak.

    asking: it asks the wire, and speaks when nobody answers."""

    address: str
    term: int
    speaking: bool = False
    asking: bool = False
    conflict: str = ""
    reason: str = ""


class Announcing(Wire, frozen=True, kw_only=True):
    """All announcements of a node, every ANNOUNCING_PERIOD while there are any, and at once when one changes. What is not named is over."""

    life: UUID
    voices: list[Voice] = []


class Held(Wire, frozen=True, kw_only=True):
    """The manager has heard that this node carries out an announcement, and names nobody else for until_ms from now."""

    address: str
    term: int
    until_ms: int


class Announced(Wire, frozen=True, kw_only=True):
    leases: list[Held] = []


# --- decided by the manager -----------------------------------------------------------------------------------------------


class Attach(Wire, frozen=True, kw_only=True):
    """Ask for the addresses of an attachment. asked: all or none. families: of the network when empty."""

    families: list[int] = []
    asked: list[str] = []
    mac: str = ""
    namespace: str = ""
    pod: str = ""
    uid: str = ""


class Attached(Wire, frozen=True, kw_only=True):
    """One address for each family. repeated: the attachment held them already."""

    addresses: list[BlockAddress]
    repeated: bool = False
