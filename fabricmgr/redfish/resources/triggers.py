"""Triggers: one for each pool, at the thresholds that the pool itself has (DSP0268, Triggers)."""

from collections.abc import Sequence

from fabricmgr.domain.names import pool_name
from fabricmgr.domain.pool import Pool, PoolChange
from fabricmgr.domain.thresholds import CLEARED_BELOW
from fabricmgr.redfish import ids
from fabricmgr.redfish.body import Json, Number, Object
from fabricmgr.redfish.resource import Ask, Resource
from fabricmgr.services import gauges, pools

_READING = Object({"Reading": Number()})


async def get(ask: Ask) -> Pool:
    async with ask.database.read() as tx:
        return await pools.get(tx, pool_name(ask.params["trigger_id"]))


async def members(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    async with ask.database.read() as tx:
        found = [pool.name for pool in await gauges.every_pool(tx)]
    return found[skip:][:top], len(found)


def body(pool: Pool) -> Json:
    usage = f"{ids.POOLS}/{pool.name}#/Oem/FabricMgr/Usage"
    return {
        "Id": pool.name,
        "Name": f"Pool {pool.name} runs full",
        "MetricType": "Numeric",
        "MetricProperties": [f"{usage}/{place}/UsedPercent" for place in range(len(pool.families()))],
        "NumericThresholds": {"UpperWarning": _threshold(pool.warning), "UpperCritical": _threshold(pool.critical)},
        "HysteresisReading": CLEARED_BELOW,
        "TriggerActions": ["RedfishEvent"],
        "TriggerEnabled": True,
        "Status": {"State": "Enabled", "Health": "OK"},
    }


def _threshold(percent: int) -> Json:
    return {"Reading": percent, "Activation": "Increasing"}


async def patch(ask: Ask, pool: Pool, given: Json, version: int | None) -> Pool:
    """The thresholds are the pool's own: set here, with its page, by /v1 or on the command line."""
    limits = given.get("NumericThresholds", {})
    change = PoolChange(warning=limits.get("UpperWarning", {}).get("Reading"), critical=limits.get("UpperCritical", {}).get("Reading"))
    return await ask.database.run(lambda tx: pools.change(tx, pool.name, change, version, ask.principal.actor, ask.now))


triggers = Resource(
    schema="Triggers",
    uri="/redfish/v1/TelemetryService/Triggers/{trigger_id}",
    get=get,
    body=body,
    version=lambda pool: pool.version,
    members=members,
    collection_name="Triggers",
    patch=patch,
    patchable=Object({"NumericThresholds": Object({"UpperWarning": _READING, "UpperCritical": _READING})}),
)
