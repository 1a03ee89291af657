"""Services that wait are looked at in groups."""

from typing import Any

from fabricmgr.controllers.kube_services import alike
from fabricmgr.controllers.waiting import Waiting
from fabricmgr.kube.objects import Meta
from fabricmgr.kube.views import Service, ServicePort, ServiceSpec

ONE, TWO, THREE = ("shop", "one"), ("shop", "two"), ("shop", "three")
FULL = "pool 'front' has no free IPv4 address"


def service(*, labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None, port: int = 80, **spec: Any) -> Service:
    meta = Meta(name="one", namespace="shop", uid="u", labels=labels or {}, annotations=annotations or {})
    return Service(metadata=meta, spec=ServiceSpec(ports=[ServicePort(port=port)], **spec))


def test_the_first_of_each_group_is_looked_at_and_the_next_when_it_waits_no_more() -> None:
    waiting = Waiting()
    for key, group in ((ONE, "full"), (TWO, "full"), (THREE, "held")):
        waiting.put(key, group)
    waiting.put(ONE, "full")

    firsts = waiting.firsts()
    following = waiting.drop(ONE)
    again = waiting.drop(ONE)

    assert (firsts, following, again) == ([ONE, THREE], TWO, None)
    assert (waiting.firsts(), len(waiting)) == ([TWO, THREE], 2)


def test_one_that_waits_for_something_else_by_now_is_in_another_group() -> None:
    waiting = Waiting()
    waiting.put(ONE, "full")
    waiting.put(TWO, "full")

    waiting.put(ONE, "held")

    assert waiting.firsts() == [TWO, ONE]
    assert waiting.drop(TWO) is None
    assert waiting.drop(ONE) is None
    assert len(waiting) == 0


def test_services_wait_for_the_same_unless_something_that_decides_differs() -> None:
    plain = alike(service(labels={"app": "one"}, port=80), FULL, {"tier"})

    assert alike(service(labels={"app": "two"}, port=81), FULL, {"tier"}) == plain
    for other in (
        service(labels={"tier": "edge"}),
        service(annotations={"fabricmgr.io/pool": "back"}),
        service(annotations={"fabricmgr.io/addresses": "192.0.2.1"}),
        service(annotations={"metallb.io/loadBalancerIPs": "192.0.2.1"}),
        service(ip_families=["IPv6"]),
        service(ip_family_policy="RequireDualStack"),
        service(load_balancer_ip="192.0.2.1"),
    ):
        assert alike(other, FULL, {"tier"}) != plain
    assert alike(service(), "another reason", {"tier"}) != plain


def test_services_that_share_an_address_wait_for_the_same_with_the_same_ports_only() -> None:
    key = {"fabricmgr.io/sharing-key": "edge"}

    assert alike(service(annotations=key, port=80), FULL, ()) == alike(service(annotations=key, port=80), FULL, ())
    assert alike(service(annotations=key, port=80), FULL, ()) != alike(service(annotations=key, port=81), FULL, ())
