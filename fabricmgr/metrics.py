"""Every metric, once. Names follow Prometheus' conventions: a unit at the end, counters end in _total."""

from dataclasses import dataclass

from prometheus_client import Counter, Histogram

# Buckets in seconds: allocation takes 1 to 5 ms, a slow request 100.
_LATENCY = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

# --- the manager's HTTP edge ---
HTTP_REQUESTS = Counter("fabricmgr_http_requests_total", "Requests answered.", ["route", "method", "status"])
HTTP_SECONDS = Histogram("fabricmgr_http_request_seconds", "Time from request to answer.", ["route"], buckets=_LATENCY)
DENIALS = Counter("fabricmgr_denials_total", "Requests refused for want of credentials or privilege.", ["reason"])

# --- the writer ---
BATCHES = Counter("fabricmgr_writer_batches_total", "Batches committed, by kind and outcome.", ["kind", "outcome"])
BATCH_SIZE = Histogram("fabricmgr_writer_batch_size", "Callers that shared a batch.", ["kind"], buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256))
BATCH_SECONDS = Histogram("fabricmgr_writer_batch_seconds", "Time of a batch in the database.", ["kind"], buckets=_LATENCY)
RETRIES = Counter("fabricmgr_writer_retries_total", "Batches sent again, by the database's error class.", ["kind", "sqlstate"])
REUSED_EARLY = Counter("fabricmgr_addresses_reused_early_total", "Addresses given before their cooldown was over, as their pool allows.")
CONFLICTS = Counter("fabricmgr_address_conflicts_total", "Addresses held back because two claimed them.")

# --- what agents tell ---
REPORTS = Counter("fabricmgr_reports_total", "Report batches by outcome.", ["outcome"])
REPORTED_CHANGES = Counter("fabricmgr_reported_changes_total", "Changes in report batches by kind.", ["kind"])

# --- loops ---
LOOP_RUNS = Counter("fabricmgr_loop_runs_total", "Runs of the controllers' loops by outcome.", ["loop", "outcome"])
LOOP_SECONDS = Histogram("fabricmgr_loop_run_seconds", "Time of one run.", ["loop"], buckets=_LATENCY)
EVENTS_POSITIONED = Counter("fabricmgr_events_positioned_total", "Events given a position.")
DELIVERIES = Counter("fabricmgr_event_deliveries_total", "POSTs of events to subscribers, by outcome.", ["outcome"])

# --- API servers of clusters ---
KUBE_CHANGES = Counter("fabricmgr_kube_changes_total", "Changes that API servers told of, by kind.", ["kind", "change"])
KUBE_TRANSITIONS = Counter("fabricmgr_kube_transitions_total", "Events told of workloads and Nodes of clusters.", ["cluster", "event"])
KUBE_LISTS = Counter("fabricmgr_kube_lists_total", "Whole lists asked of API servers, by kind.", ["kind"])

# --- the agent ---
CNI_CALLS = Counter("fabricmgr_agent_cni_calls_total", "CNI calls by command and code; 0 is success.", ["command", "code"])
CNI_SECONDS = Histogram("fabricmgr_agent_cni_call_seconds", "Time from frame to answer.", ["command"], buckets=_LATENCY)
AGENT_REPORTS = Counter("fabricmgr_agent_reports_total", "Report batches sent, by outcome.", ["outcome"])
REAPED = Counter("fabricmgr_agent_links_reaped_total", "Links deleted after their pods were gone.")


@dataclass(frozen=True)
class Query:
    """A gauge that is asked of the database when somebody scrapes: no number is kept beside the truth."""

    name: str
    documentation: str
    labels: tuple[str, ...]


# --- gauges, asked when scraped ---
POOL_ADDRESSES = Query(
    "fabricmgr_pool_addresses", "Addresses of a pool by state; total is the sum of the others.", ("pool", "family", "state")
)
POOL_UNCLAIMED = Query("fabricmgr_pool_unclaimed_blocks", "Blocks of a pool that a node may still claim.", ("pool", "family"))
POOL_BLOCKS = Query("fabricmgr_pool_blocks", "Blocks of a pool that were cut, by state.", ("pool", "state"))
NODES = Query("fabricmgr_nodes", "Nodes by state.", ("cluster", "state"))
NODE_TRAIL = Query("fabricmgr_node_trail_seconds", "How far the manager's copy of a node's addresses may be behind.", ("cluster", "node"))
NODE_FREE = Query(
    "fabricmgr_node_free_addresses", "Free addresses in a node's blocks, as its agent said.", ("cluster", "node", "network", "family")
)
CLUSTER_FOLLOWED = Query("fabricmgr_cluster_followed", "1 where a cluster's API server is followed, else 0.", ("cluster",))
CLUSTER_PROGRESS = Query("fabricmgr_cluster_progress_seconds", "Time since a cluster's API server said anything.", ("cluster",))
WORKLOADS = Query("fabricmgr_workloads", "Workloads of a cluster: all, degraded, stalled.", ("cluster", "state"))
SERVICE_ADDRESSES = Query(
    "fabricmgr_service_addresses",
    "Addresses of Services: announced by a node; unannounced, though they should be; off_segment, which no node is near to.",
    ("cluster", "state"),
)
OUTBOX_EVENTS = Query("fabricmgr_outbox_events", "Events that wait for their position.", ())
OUTBOX_AGE = Query("fabricmgr_outbox_oldest_seconds", "Age of the oldest of them.", ())
GAUGES_FRESH = Query("fabricmgr_gauges_up", "1 where the gauges above could be asked, else 0.", ())
