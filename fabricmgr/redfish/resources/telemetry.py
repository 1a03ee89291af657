"""TelemetryService: the gauges that Prometheus scrapes, as metric definitions, report definitions and reports (DSP0268)."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from fabricmgr.domain.errors import NotFound
from fabricmgr.metrics import Query
from fabricmgr.redfish.body import Json
from fabricmgr.redfish.resource import Ask, Resource
from fabricmgr.services import gauges
from fabricmgr.services.gauges import Samples
from fabricmgr.store.tx import Tx

SERVICE = "/redfish/v1/TelemetryService"
OEM_TYPE = "#FabricMgrMetricReport.v1_0_0.MetricValue"


@dataclass(frozen=True)
class Kind:
    """A report: what it is of, its gauges, and who asks for them."""

    id: str
    name: str
    gauges: tuple[Query, ...]
    ask: Callable[[Tx, datetime], Awaitable[Samples]]


KINDS = {
    each.id: each
    for each in (
        Kind("PoolUsage", "How full pools are", gauges.POOLS, gauges.of_pools),
        Kind("Agents", "Nodes and their agents", gauges.AGENTS, gauges.of_agents),
        Kind("Events", "Events that wait for their position", gauges.EVENTS, gauges.of_events),
    )
}


def metric_id(query: Query) -> str:
    """`fabricmgr_pool_addresses` is PoolAddresses here."""
    return "".join(part.capitalize() for part in query.name.split("_")[1:])


METRICS = {metric_id(query): query for kind in KINDS.values() for query in kind.gauges}


@dataclass(frozen=True)
class Report:
    """What was measured at a time."""

    kind: Kind
    at: datetime
    samples: Samples


async def get_service(_ask: Ask) -> None:
    return None


def service_body(_: None) -> Json:
    names = ("MetricDefinitions", "MetricReportDefinitions", "MetricReports", "Triggers")
    return {
        "Id": "TelemetryService",
        "Name": "Telemetry service",
        "ServiceEnabled": True,
        "Status": {"State": "Enabled", "Health": "OK"},
        "MaxReports": len(KINDS),
        **{name: {"@odata.id": f"{SERVICE}/{name}"} for name in names},
    }


async def get_metric(ask: Ask) -> Query:
    return _found(METRICS, ask.params["metric_id"], "metric")


async def metrics(_ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    return list(METRICS)[skip:][:top], len(METRICS)


def metric_body(query: Query) -> Json:
    seconds = query.name.endswith("_seconds")
    return {
        "Id": metric_id(query),
        "Name": metric_id(query),
        "Description": query.documentation,
        "MetricType": "Gauge",
        "MetricDataType": "Decimal" if seconds else "Integer",
        "Implementation": "Synthesized",
        **({"Units": "s"} if seconds else {}),
    }


async def get_kind(ask: Ask) -> Kind:
    return _found(KINDS, ask.params["report_id"], "report")


async def kinds(_ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    return list(KINDS)[skip:][:top], len(KINDS)


def definition_body(kind: Kind) -> Json:
    return {
        "Id": kind.id,
        "Name": kind.name,
        "MetricReportDefinitionType": "OnRequest",
        "MetricReportDefinitionEnabled": True,
        "ReportActions": ["LogToMetricReportsCollection"],
        "ReportUpdates": "Overwrite",
        "Status": {"State": "Enabled", "Health": "OK"},
        "Metrics": [{"MetricId": metric_id(query)} for query in kind.gauges],
        "MetricReport": {"@odata.id": f"{SERVICE}/MetricReports/{kind.id}"},
    }


async def get_report(ask: Ask) -> Report:
    kind = await get_kind(ask)
    async with ask.database.read() as tx:
        return Report(kind, ask.now, await kind.ask(tx, ask.now))


def report_body(report: Report) -> Json:
    at = report.at.isoformat(timespec="seconds")
    return {
        "Id": report.kind.id,
        "Name": report.kind.name,
        "Timestamp": at,
        "MetricReportDefinition": {"@odata.id": f"{SERVICE}/MetricReportDefinitions/{report.kind.id}"},
        "MetricValues": [_value(*sample, at) for sample in report.samples],
    }


def _value(query: Query, labels: tuple[str, ...], value: float, at: str) -> Json:
    number = f"{value:.3f}" if query.name.endswith("_seconds") else f"{value:.0f}"
    shown: Json = {"MetricId": metric_id(query), "MetricValue": number, "Timestamp": at}
    if not labels:
        return shown
    named = [{"Name": name, "Value": text} for name, text in zip(query.labels, labels, strict=True)]
    return {**shown, "Oem": {"FabricMgr": {"@odata.type": OEM_TYPE, "Labels": named}}}


T = TypeVar("T")


def _found(every: dict[str, T], name: str, kind: str) -> T:
    if name not in every:
        raise NotFound(kind, name)
    return every[name]


telemetry_service = Resource(schema="TelemetryService", uri="/redfish/v1/TelemetryService", get=get_service, body=service_body)
metric_definition = Resource(
    schema="MetricDefinition",
    uri="/redfish/v1/TelemetryService/MetricDefinitions/{metric_id}",
    get=get_metric,
    body=metric_body,
    members=metrics,
    collection_name="Metric definitions",
)
report_definition = Resource(
    schema="MetricReportDefinition",
    uri="/redfish/v1/TelemetryService/MetricReportDefinitions/{report_id}",
    get=get_kind,
    body=definition_body,
    members=kinds,
    collection_name="Metric report definitions",
)
metric_report = Resource(
    schema="MetricReport",
    uri="/redfish/v1/TelemetryService/MetricReports/{report_id}",
    get=get_report,
    body=report_body,
    members=kinds,
    collection_name="Metric reports",
)
