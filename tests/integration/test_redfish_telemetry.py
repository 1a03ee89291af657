"""Telemetry by Redfish shows what Prometheus scrapes, and its triggers are the pools' own thresholds."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fabricmgr.api.metrics import Scrape
from fabricmgr.redfish.resources.telemetry import METRICS, metric_id
from tests.integration.test_redfish import PODS, POOLS, Json, as_boss, message_of, service
from tests.integration.test_redfish_fabric import filled
from tests.support.database import NOW, opened

TELEMETRY = "/redfish/v1/TelemetryService"


def labelled(value: Json) -> tuple[str, tuple[tuple[str, str], ...], float]:
    """A value of a report: metric, labels, number."""
    labels = value.get("Oem", {}).get("FabricMgr", {}).get("Labels", [])
    return value["MetricId"], tuple(sorted((each["Name"], each["Value"]) for each in labels)), float(value["MetricValue"])


async def test_reports_show_the_numbers_that_prometheus_scrapes(database_url: str) -> None:
    async with service(database_url) as client, opened(database_url) as database:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await filled(database_url)

        scraped = (await Scrape(database, lambda: NOW).answer()).body.decode()
        names = [each["@odata.id"] for each in (await client.get(f"{TELEMETRY}/MetricReports")).json()["Members"]]
        values = [labelled(value) for name in names for value in (await client.get(name)).json()["MetricValues"]]

    known = {query.name: metric_id(query) for query in METRICS.values()}
    expected = [
        (known[sample.name], tuple(sorted(sample.labels.items())), sample.value)
        for family in text_string_to_metric_families(scraped)
        for sample in family.samples
        if sample.name in known
    ]
    assert len(values) > 10
    assert [each[:2] for each in sorted(values)] == [each[:2] for each in sorted(expected)]
    assert [each[2] for each in sorted(values)] == pytest.approx([each[2] for each in sorted(expected)], abs=0.001)


async def test_every_metric_of_a_report_is_defined(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        defined = {each["Id"] for each in (await client.get(f"{TELEMETRY}/MetricDefinitions?$expand=.")).json()["Members"]}
        definitions = (await client.get(f"{TELEMETRY}/MetricReportDefinitions?$expand=.")).json()["Members"]
        missing = await client.get(f"{TELEMETRY}/MetricReports/Weather")

    assert {metric["MetricId"] for each in definitions for metric in each["Metrics"]} == defined
    assert missing.status_code == 404


async def test_a_trigger_is_its_pools_thresholds_by_whatever_way_they_are_set(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        trigger = f"{TELEMETRY}/Triggers/pods"

        etag = (await client.get(trigger)).headers["etag"]
        patched = await client.patch(trigger, json={"NumericThresholds": {"UpperWarning": {"Reading": 70}}}, headers={"If-Match": etag})
        stale = await client.patch(trigger, json={"NumericThresholds": {"UpperWarning": {"Reading": 60}}}, headers={"If-Match": etag})
        pool = (await client.get(f"{POOLS}/pods")).json()["Oem"]["FabricMgr"]
        await client.patch(f"{POOLS}/pods", json={"Oem": {"FabricMgr": {"WarningPercent": 50, "CriticalPercent": 60}}})
        shown = (await client.get(trigger)).json()["NumericThresholds"]
        wrong = await client.patch(trigger, json={"NumericThresholds": {"UpperWarning": {"Reading": 90}}})
        operator = await client.patch(trigger, json={"NumericThresholds": {}}, auth=("op", "correct horse"))

    assert patched.json()["NumericThresholds"]["UpperWarning"]["Reading"] == 70
    assert stale.status_code == 412
    assert (pool["WarningPercent"], pool["CriticalPercent"]) == (70, 95)
    assert [shown[name]["Reading"] for name in ("UpperWarning", "UpperCritical")] == [50, 60]
    assert (wrong.status_code, message_of(wrong)) == (400, "PropertyValueError")
    assert operator.status_code == 403
