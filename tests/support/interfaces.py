"""What the kernel says of links that a plugin made."""

import json
from collections.abc import Callable
from typing import Any

from tests.support.netns import Namespace
from tests.support.subjects import VERSIONS, Subject

MakePod = Callable[[], Namespace]

FAMILIES = {"dual": (4, 6), "four": (4,), "six": (6,)}
VERSIONED = [(network, version) for network in FAMILIES for version in VERSIONS]


def shown(namespace: Namespace, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(namespace.run("ip", "-j", "-d", *words).stdout or "[]")
    return [each for each in found if each]


def port(subject: Subject, name: str) -> dict[str, Any]:
    """What the kernel says of a host end as a port of its bridge."""
    found: dict[str, Any] = shown(subject.node, "link", "show", "dev", name)[0]["linkinfo"]["info_slave_data"]
    return found
