"""Alert rules and dashboard speak of metrics that exist, and both forms of the rules say the same."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from prometheus_client import Counter, Histogram

from fabricmgr import metrics
from fabricmgr.agent import telemetry

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"
RULES = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
NAME = re.compile(r"\bfabricmgr_[a-z_]+")


def known() -> set[str]:
    """Every series that a manager or an agent gives."""
    found = set(re.findall(r'"(fabricmgr_agent_[a-z_]+)"', Path(telemetry.__file__).read_text()))
    for each in vars(metrics).values():
        if isinstance(each, metrics.Query):
            found.add(each.name)
        elif isinstance(each, Counter | Histogram):
            name = next(iter(each.describe())).name
            found |= {f"{name}_total"} if isinstance(each, Counter) else {f"{name}_bucket", f"{name}_count", f"{name}_sum"}
    return found


def expressions() -> Iterator[str]:
    """Of alerts and panels."""
    for group in RULES["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for panel in json.loads((MONITORING / "dashboard.json").read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def test_alerts_and_panels_ask_for_series_that_exist() -> None:
    asked = {name for expression in expressions() for name in NAME.findall(expression)}

    assert len(asked) > 15
    assert asked <= known()


def test_the_operators_rules_are_those_of_plain_prometheus() -> None:
    rule = yaml.safe_load((MONITORING / "operator" / "prometheusrule.yaml").read_text())

    assert rule["spec"] == RULES


def test_every_alert_says_what_to_do() -> None:
    rules = [rule for group in RULES["groups"] for rule in group["rules"]]

    assert all(
        {"summary", "action"} == rule["annotations"].keys() and rule["labels"]["severity"] in ("warning", "critical") for rule in rules
    )
