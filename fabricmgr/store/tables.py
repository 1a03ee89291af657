"""The tables, as the newest migration leaves them. A test compares both, column by column and constraint by constraint."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Sequence,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, CIDR, INET, JSONB, UUID, ExcludeConstraint

# Postgres's own way of naming what has no name, so that migrations and models give the same names.
METADATA = MetaData(naming_convention={"ix": "%(table_name)s_%(column_0_N_name)s_idx"})

HISTORY_ID = Sequence("history_id", metadata=METADATA)
_BUSY = {"autovacuum_vacuum_scale_factor": "0.02", "autovacuum_vacuum_cost_delay": "0"}


def _id(kind: type[Integer] = Integer) -> Column[int]:
    return Column("id", kind, Identity(always=True), primary_key=True)


def _time(name: str, *, nullable: bool = False, key: bool = False) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=nullable, primary_key=key)


def _version() -> Column[int]:
    return Column("version", BigInteger, nullable=False, server_default=text("1"))


def _text(name: str, *check: CheckConstraint, default: str | None = None) -> Column[str]:
    return Column(name, Text, *check, nullable=False, server_default=default)


def _flag(name: str, default: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False, server_default=text(default))


def _json(name: str, default: str | None = "{}") -> Column[Any]:
    return Column(name, JSONB, nullable=False, server_default=default)


def _one_of(column: str, *words: str) -> CheckConstraint:
    return CheckConstraint(f"{column} in ({', '.join(repr(word) for word in words)})")


def _no_overlap(name: str) -> ExcludeConstraint:
    """Nothing lies over anything else of its scope. Both operator classes are built in: no extension is needed."""
    span = text("int4range(scope, scope, '[]')")
    return ExcludeConstraint((span, "&&"), (Column("cidr", CIDR), "&&"), name=name, using="gist", ops={"cidr": "inet_ops"})


installation = Table(
    "installation",
    METADATA,
    Column("only_one", Boolean, CheckConstraint("only_one"), primary_key=True, server_default=text("true")),
    Column("id", UUID, nullable=False),
    _time("created_at"),
)
secret = Table("secret", METADATA, Column("name", Text, primary_key=True), Column("sealed", LargeBinary, nullable=False), _time("at"))
cluster = Table("cluster", METADATA, _id(), Column("name", Text, nullable=False, unique=True), _time("created_at"), _version())
pool = Table(
    "pool",
    METADATA,
    _id(),
    Column("cluster_id", Integer, ForeignKey("cluster.id"), index=True),
    Column("scope", Integer, nullable=False, server_default=text("0")),
    Column("name", Text, nullable=False, unique=True),
    _text("purpose", _one_of("purpose", "Pod", "Service", "Node", "FabricLink", "Loopback", "Management")),
    Column("cooldown", Interval, CheckConstraint("cooldown >= '0 s'"), nullable=False, server_default=text("'60 s'")),
    _flag("skip_ends", "true"),
    _flag("reuse_early", "false"),
    _flag("draining", "false"),
    _time("created_at"),
    _version(),
    Column("warning", Integer, nullable=False, server_default=text("80")),
    Column("critical", Integer, nullable=False, server_default=text("95")),
    _json("selectors"),
    Column("priority", Integer, nullable=False, server_default=text("0")),
    _flag("auto_assign", "true"),
    UniqueConstraint("id", "scope"),
    CheckConstraint("0 < warning and warning < critical and critical < 100", name="pool_thresholds"),
)
prefix = Table(
    "prefix",
    METADATA,
    _id(),
    Column("pool_id", Integer, nullable=False, index=True),
    Column("scope", Integer, nullable=False),
    Column("cidr", CIDR, nullable=False),
    Column("block_len", Integer, nullable=False),
    Column("central", Boolean, nullable=False),
    Column("gateway", INET),
    _time("created_at"),
    ForeignKeyConstraint(["pool_id", "scope"], ["pool.id", "pool.scope"]),
    UniqueConstraint("id", "block_len", "scope"),
    CheckConstraint("block_len >= masklen(cidr) and block_len <= case family(cidr) when 4 then 32 else 128 end"),
    _no_overlap("prefix_overlap"),
)
reservation = Table(
    "reservation",
    METADATA,
    Column("prefix_id", Integer, ForeignKey("prefix.id", ondelete="CASCADE"), primary_key=True),
    Column("cidr", CIDR, primary_key=True),
    _text("reason"),
    _time("at"),
)
pool_mark = Table(
    "pool_mark",
    METADATA,
    Column("pool_id", Integer, ForeignKey("pool.id", ondelete="CASCADE"), primary_key=True),
    Column("family", Integer, CheckConstraint("family in (4, 6)"), primary_key=True, autoincrement=False),
    Column("mark", Integer, CheckConstraint("mark between 1 and 100"), primary_key=True, autoincrement=False),
    _time("since"),
)
supply = Table(
    "supply",
    METADATA,
    Column("prefix_id", Integer, primary_key=True, autoincrement=False),
    Column("next_block", INET),
    Column("central_block", CIDR),
    Column("next_address", INET),
    postgresql_with={"fillfactor": "10"},
)
network = Table(
    "network",
    METADATA,
    _id(),
    Column("cluster_id", Integer, ForeignKey("cluster.id"), nullable=False),
    _text("name"),
    Column("mtu", Integer, CheckConstraint("mtu between 1280 and 65535"), nullable=False, server_default=text("1500")),
    _flag("masquerade", "false"),
    _text("routing", _one_of("routing", "host-gw", "none"), default="host-gw"),
    _text("decide", _one_of("decide", "agent", "namespaces", "manager"), default="agent"),
    Column("namespaces", ARRAY(Text), nullable=False, server_default="{}"),
    Column("direct", ARRAY(CIDR), nullable=False, server_default="{}"),
    _text("bridge", default=""),
    _text("status_policy", _one_of("status_policy", "auto", "strict", "lenient"), default="auto"),
    _time("created_at"),
    _version(),
    Column("namespaces_found", ARRAY(Text), nullable=False, server_default="{}"),
    UniqueConstraint("cluster_id", "name"),
)
network_pool = Table(
    "network_pool",
    METADATA,
    Column("network_id", Integer, ForeignKey("network.id", ondelete="CASCADE"), primary_key=True),
    Column("pool_id", Integer, ForeignKey("pool.id"), primary_key=True, index=True),
    Column("place", Integer, nullable=False),
)
node = Table(
    "node",
    METADATA,
    _id(),
    Column("cluster_id", Integer, ForeignKey("cluster.id"), nullable=False),
    _text("name"),
    _text("state", _one_of("state", "added", "enrolled", "suspect", "gone"), default="added"),
    _text("system_uuid", default=""),
    _text("machine_id", default=""),
    _text("agent_version", default=""),
    _json("labels"),
    Column("addresses", ARRAY(INET), nullable=False, server_default="{}"),
    _json("interfaces", "[]"),
    _json("free"),
    Column("report_age_ms", Integer, nullable=False, server_default=text("0")),
    _text("desired_acted", default=""),
    _time("seen_at", nullable=True),
    _time("created_at"),
    _time("gone_at", nullable=True),
    _version(),
    Column("looks", Integer, nullable=False, server_default=text("0")),
    Column("faults", ARRAY(Text), nullable=False, server_default="{}"),
    UniqueConstraint("cluster_id", "name"),
)
token = Table(
    "token",
    METADATA,
    Column("digest", LargeBinary, primary_key=True),
    Column("node_id", Integer, ForeignKey("node.id", ondelete="CASCADE"), nullable=False, index=True),
    _time("created_at"),
    _time("expires_at"),
    _time("used_at", nullable=True),
)
certificate = Table(
    "certificate",
    METADATA,
    Column("serial", Text, primary_key=True),
    Column("node_id", Integer, ForeignKey("node.id", ondelete="CASCADE"), nullable=False, index=True),
    _text("machine_id"),
    Column("fingerprint", LargeBinary, nullable=False),
    _time("not_before"),
    _time("not_after"),
    _time("revoked_at", nullable=True),
    _text("pem"),
    Index(None, "fingerprint", unique=True),
)
block = Table(
    "block",
    METADATA,
    Column("prefix_id", Integer, nullable=False),
    Column("cidr", CIDR, nullable=False),
    Column("len", Integer, nullable=False),
    Column("scope", Integer, nullable=False),
    _text("state", _one_of("state", "unclaimed", "pending", "confirmed", "releasing", "central", "held_back")),
    Column("node_id", Integer, ForeignKey("node.id")),
    Column("claim", Integer, nullable=False, server_default=text("0")),
    Column("generation", BigInteger, nullable=False, server_default=text("0")),
    _time("since"),
    _time("rested_at", nullable=True),
    PrimaryKeyConstraint("prefix_id", "cidr"),
    ForeignKeyConstraint(["prefix_id", "len", "scope"], ["prefix.id", "prefix.block_len", "prefix.scope"]),
    CheckConstraint("masklen(cidr) = len"),
    CheckConstraint("state = 'held_back' or (state in ('pending', 'confirmed', 'releasing')) = (node_id is not null)"),
    _no_overlap("block_overlap"),
    Index(None, "node_id", postgresql_where=text("node_id is not null")),
    Index(None, "prefix_id", "rested_at", postgresql_where=text("state = 'unclaimed'")),
    postgresql_with={"fillfactor": "50"},
)
allocation = Table(
    "allocation",
    METADATA,
    Column("owner", UUID, primary_key=True),
    Column("scope", Integer, nullable=False),
    Column("prefix4", Integer),
    Column("address4", INET),
    Column("generation4", BigInteger),
    Column("prefix6", Integer),
    Column("address6", INET),
    Column("generation6", BigInteger),
    _text("kind", _one_of("kind", "attachment", "service", "statefulset", "direct")),
    Column("cluster_id", Integer),
    Column("node_id", Integer, index=True),
    Column("network", Text),
    Column("container_id", Text),
    Column("ifname", Text),
    Column("name", Text),
    Column("mac", Text),
    _json("about"),
    _time("at"),
    _time("released_at", nullable=True),
    CheckConstraint("family(address4) = 4 and masklen(address4) = 32"),
    CheckConstraint("family(address6) = 6 and masklen(address6) = 128"),
    CheckConstraint("num_nonnulls(address4, address6) > 0"),
    CheckConstraint("num_nonnulls(prefix4, address4, generation4) in (0, 3)"),
    CheckConstraint("num_nonnulls(prefix6, address6, generation6) in (0, 3)"),
    UniqueConstraint("scope", "address4", name="allocation_address4"),
    UniqueConstraint("scope", "address6", name="allocation_address6"),
    postgresql_with=_BUSY,
)
spare = Table(
    "spare",
    METADATA,
    Column("prefix_id", Integer, nullable=False),
    _time("released_at"),
    Column("address", INET, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("last_owner", UUID),
    PrimaryKeyConstraint("prefix_id", "released_at", "address"),
    UniqueConstraint("prefix_id", "address"),
    CheckConstraint("masklen(address) = case family(address) when 4 then 32 else 128 end"),
    Index(None, "last_owner", postgresql_where=text("last_owner is not null")),
    postgresql_with=_BUSY,
)
report = Table(
    "report",
    METADATA,
    Column("node_id", Integer, ForeignKey("node.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("life", UUID, nullable=False),
    Column("boot_id", UUID, nullable=False),
    Column("last_number", BigInteger, nullable=False),
    _time("at"),
    _time("told_at", nullable=True),
)
history = Table(
    "history",
    METADATA,
    Column("id", BigInteger, HISTORY_ID, nullable=False, server_default=HISTORY_ID.next_value()),
    _time("at"),
    _text("what"),
    Column("owner", UUID),
    Column("scope", Integer),
    Column("address", INET),
    Column("generation", BigInteger),
    Column("node_id", Integer),
    Column("actor", Text),
    Column("detail", JSONB),
    Index("history_who_had", "address", "at"),
    Index("history_owner", "owner", "at"),
    postgresql_partition_by="range (at)",
)
outbox = Table("outbox", METADATA, _id(BigInteger), _time("at"), _text("what"), _json("about", None))
event = Table(
    "event",
    METADATA,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    _time("at"),
    _text("what"),
    _json("about", None),
)
role = Table(
    "role",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("privileges", ARRAY(Text), nullable=False),
    _time("created_at"),
    _version(),
)
account = Table(
    "account",
    METADATA,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    _text("password_hash"),
    Column("role", Text, ForeignKey("role.name"), nullable=False, index=True),
    _flag("enabled", "true"),
    _flag("must_change", "false"),
    _time("created_at"),
    _version(),
)
client_login = Table(
    "client_login",
    METADATA,
    Column("only_one", Boolean, CheckConstraint("only_one"), primary_key=True, server_default=text("true")),
    _flag("enabled", "false"),
    _text("mapping", _one_of("mapping", "Whole", "CommonName", "UserPrincipalName"), default="CommonName"),
    Column("trust_version", BigInteger, nullable=False, server_default=text("1")),
    _version(),
    Column("lockout_attempts", Integer, CheckConstraint("lockout_attempts between 0 and 1000")),
    Column("lockout_seconds", Integer, CheckConstraint("lockout_seconds between 0 and 86400")),
)
client_authority = Table(
    "client_authority",
    METADATA,
    Column("fingerprint", LargeBinary, primary_key=True),
    _text("pem"),
    _time("created_at"),
)
account_certificate = Table(
    "account_certificate",
    METADATA,
    Column("fingerprint", LargeBinary, primary_key=True),
    Column("account_id", Integer, ForeignKey("account.id", ondelete="CASCADE"), nullable=False, index=True),
    _text("pem"),
    _time("created_at"),
)
manager_process = Table(
    "manager_process",
    METADATA,
    Column("id", UUID, primary_key=True),
    _text("host"),
    _text("software"),
    _text("url"),
    _text("certificate", default=""),
    Column("ntp_servers", ARRAY(Text), nullable=False, server_default="{}"),
    _time("seen_at"),
    _version(),
)
session = Table(
    "session",
    METADATA,
    Column("id", UUID, primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("account_id", Integer, ForeignKey("account.id", ondelete="CASCADE"), nullable=False, index=True),
    _text("source"),
    _time("created_at"),
    _time("seen_at"),
)
login_failure = Table(
    "login_failure",
    METADATA,
    Column("account", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("count", Integer, nullable=False),
    _time("last_at"),
)
audit = Table(
    "audit",
    METADATA,
    _id(BigInteger),
    _time("at"),
    _text("actor"),
    _text("source"),
    _text("method"),
    _text("path"),
    Column("status", Integer, nullable=False),
    Column("repeated", Integer, nullable=False, server_default=text("1")),
    _json("detail"),
    Index(None, "at"),
)
event_service = Table(
    "event_service",
    METADATA,
    Column("only_one", Boolean, CheckConstraint("only_one"), primary_key=True, server_default=text("true")),
    _flag("enabled", "true"),
    Column("retry_attempts", Integer, CheckConstraint("retry_attempts between 0 and 1000"), nullable=False, server_default=text("3")),
    Column("retry_seconds", Integer, CheckConstraint("retry_seconds between 1 and 86400"), nullable=False, server_default=text("30")),
    _version(),
)
subscription = Table(
    "subscription",
    METADATA,
    Column("id", UUID, primary_key=True),
    _text("kind", _one_of("kind", "RedfishEvent", "SSE")),
    _text("account"),
    _text("destination", default=""),
    _text("context", default=""),
    _text(
        "policy",
        _one_of("policy", "TerminateAfterRetries", "SuspendRetries", "RetryForever", "RetryForeverWithBackoff"),
        default="RetryForeverWithBackoff",
    ),
    _json("filters"),
    _flag("verify_certificate", "true"),
    _flag("include_origin", "false"),
    Column("heartbeat_minutes", Integer, CheckConstraint("heartbeat_minutes between 1 and 65535")),
    Column("headers", LargeBinary),
    _flag("suspended", "false"),
    Column("position", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    _time("next_try_at", nullable=True),
    _text("reason", default=""),
    _time("created_at"),
    _time("seen_at", nullable=True),
    _version(),
    Index(None, "seen_at", postgresql_where=text("kind = 'SSE'")),
)
switch = Table(
    "switch",
    METADATA,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    _text("manufacturer", default=""),
    _text("model", default=""),
    _text("serial", default=""),
    _text("firmware", default=""),
    _text("role", _one_of("role", "", "leaf", "spine"), default=""),
    _flag("reachable", "true"),
    _text("source", default=""),
    _json("metrics"),
    _time("observed_at"),
    _time("created_at"),
    _version(),
)
port = Table(
    "port",
    METADATA,
    Column("switch_id", Integer, ForeignKey("switch.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("place", Integer, nullable=False),
    _flag("enabled", "true"),
    _text("link", _one_of("link", "", "up", "down", "none"), default=""),
    Column("speed_mbps", Integer),
    Column("max_speed_mbps", Integer),
    Column("mtu", Integer),
    _text("mac", default=""),
    _text("kind", _one_of("kind", "", "upstream", "downstream", "interswitch", "management"), default=""),
    _json("neighbour"),
    _json("metrics"),
    _time("observed_at"),
    _version(),
)
endpoint = Table(
    "endpoint",
    METADATA,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    Column("node_id", Integer, ForeignKey("node.id", ondelete="CASCADE"), nullable=False),
    _text("interface"),
    _text("description", default=""),
    _time("created_at"),
    _version(),
    UniqueConstraint("node_id", "interface"),
)
zone = Table(
    "zone",
    METADATA,
    _id(),
    Column("cluster_id", Integer, ForeignKey("cluster.id"), nullable=False),
    _text("name"),
    _text("description", default=""),
    _time("created_at"),
    _version(),
    UniqueConstraint("cluster_id", "name"),
)
zone_endpoint = Table(
    "zone_endpoint",
    METADATA,
    Column("zone_id", Integer, ForeignKey("zone.id", ondelete="CASCADE"), primary_key=True),
    Column("endpoint_id", Integer, ForeignKey("endpoint.id", ondelete="CASCADE"), primary_key=True, index=True),
)
zone_pool = Table(
    "zone_pool",
    METADATA,
    Column("zone_id", Integer, ForeignKey("zone.id", ondelete="CASCADE"), primary_key=True),
    Column("pool_id", Integer, ForeignKey("pool.id", ondelete="CASCADE"), primary_key=True, index=True),
)
task = Table(
    "task",
    METADATA,
    Column("id", UUID, primary_key=True),
    _text("kind"),
    _text("name"),
    _json("arguments", None),
    _json("request", None),
    _text("asked_by"),
    _text("state", _one_of("state", "new", "running", "cancelling", "cancelled", "completed", "failed"), default="new"),
    Column("percent", Integer, CheckConstraint("percent between 0 and 100"), nullable=False, server_default=text("0")),
    Column("result", JSONB),
    _time("created_at"),
    _time("started_at", nullable=True),
    _time("ended_at", nullable=True),
    _version(),
    Index(None, "created_at", postgresql_where=text("ended_at is null")),
)


def _of_cluster() -> Column[int]:
    return Column("cluster_id", Integer, ForeignKey("cluster.id", ondelete="CASCADE"), primary_key=True, autoincrement=False)


def _key(name: str) -> Column[str]:
    return Column(name, Text, primary_key=True)


def _inets(name: str) -> Column[Any]:
    return Column(name, ARRAY(INET), nullable=False, server_default="{}")


cluster_api = Table(
    "cluster_api",
    METADATA,
    _of_cluster(),
    _text("server"),
    Column("sealed", LargeBinary),
    _flag("in_cluster", "false"),
    Column("pod_ranges", ARRAY(CIDR), nullable=False, server_default="{}"),
    Column("service_ranges", ARRAY(CIDR), nullable=False, server_default="{}"),
    _text("server_version", default=""),
    _text("state", _one_of("state", "new", "following", "unreachable", "refused"), default="new"),
    _text("reason", default=""),
    _time("progressed_at", nullable=True),
    _flag("class_less", "false"),
    _version(),
    CheckConstraint("in_cluster = (sealed is null)"),
)
kube_node = Table(
    "kube_node",
    METADATA,
    _of_cluster(),
    _key("name"),
    _text("uid"),
    _text("system_uuid", default=""),
    _json("labels"),
    _inets("addresses"),
    _flag("ready", "false"),
    _text("provider_id", default=""),
    _time("at"),
)
kube_namespace = Table(
    "kube_namespace",
    METADATA,
    _of_cluster(),
    _key("name"),
    _text("uid"),
    _json("labels"),
    _json("annotations"),
)
kube_pod = Table(
    "kube_pod",
    METADATA,
    _of_cluster(),
    _key("namespace"),
    _key("name"),
    _text("uid"),
    _text("node", default=""),
    _json("labels"),
    _json("annotations"),
    _text("owner_kind", default=""),
    _text("owner_name", default=""),
    _flag("host_network", "false"),
    _text("phase", default=""),
    _inets("addresses"),
    _flag("deleting", "false"),
    _flag("ready", "false"),
    Index(None, "cluster_id", "node"),
    postgresql_with={"fillfactor": "70"},
)
workload = Table(
    "workload",
    METADATA,
    _of_cluster(),
    _key("kind"),
    _key("namespace"),
    _key("name"),
    _text("uid"),
    _json("state"),
    _time("at"),
)
service = Table(
    "service",
    METADATA,
    _of_cluster(),
    _key("namespace"),
    _key("name"),
    _text("uid"),
    Column("owner", UUID),
    _text("sharing_key", default=""),
    _json("ports", "[]"),
    _text("state", _one_of("state", "pending", "assigned", "moving", "leaving", "withdrawing"), default="pending"),
    _text("reason", default=""),
    _json("wanted"),
    _time("assigned_at", nullable=True),
    Column("endpoints", ARRAY(Text), nullable=False, server_default="{}"),
    Column("former", UUID),
    _version(),
    Index(None, "owner", postgresql_where=text("owner is not null")),
    Index(None, "former", postgresql_where=text("former is not null")),
)
sticky = Table(
    "sticky",
    METADATA,
    Column("place", UUID, primary_key=True),
    Column("cluster_id", Integer, ForeignKey("cluster.id", ondelete="CASCADE"), nullable=False, index=True),
    _text("namespace"),
    _text("name"),
    Column("ordinal", BigInteger, nullable=False),
    _text("network"),
    Column("address4", INET),
    Column("address6", INET),
    Column("owner", UUID, nullable=False),
    CheckConstraint("num_nonnulls(address4, address6) > 0"),
)
announcement = Table(
    "announcement",
    METADATA,
    _of_cluster(),
    Column("address", INET, primary_key=True),
    Column("node_id", Integer, ForeignKey("node.id", ondelete="SET NULL")),
    Column("term", BigInteger, nullable=False, server_default=text("0")),
    _time("since"),
    _text("state", _one_of("state", "unassigned", "probing", "speaking"), default="unassigned"),
    _text("conflict", default=""),
    Column("successor_id", Integer, ForeignKey("node.id", ondelete="SET NULL")),
    _text("reason", default=""),
    Index(None, "node_id", postgresql_where=text("node_id is not null")),
    Index(None, "successor_id", postgresql_where=text("successor_id is not null")),
)
announcer = Table(
    "announcer",
    METADATA,
    Column("node_id", Integer, ForeignKey("node.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    _time("beat_at"),
    postgresql_with={"fillfactor": "50"},
)
voice = Table(
    "voice",
    METADATA,
    _of_cluster(),
    Column("address", INET, primary_key=True),
    Column("node_id", Integer, ForeignKey("node.id", ondelete="CASCADE"), primary_key=True, autoincrement=False, index=True),
    Column("term", BigInteger, nullable=False),
    _text("stage", _one_of("stage", "told", "probing", "speaking", "silent")),
    _text("conflict", default=""),
    _text("reason", default=""),
    _time("told_at"),
    _time("failed_at", nullable=True),
)
