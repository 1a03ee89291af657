"""What a Service wants, from its fields and annotations."""

from ipaddress import ip_address

import pytest

from fabricmgr.domain.errors import Invalid
from fabricmgr.domain.service import Asked, Wish, ours, wish


@pytest.mark.parametrize(
    ("asked", "class_less", "expected"),
    [
        (Asked(), False, True),
        (Asked(cls=None), False, False),
        (Asked(cls=None), True, True),
        (Asked(cls="someone.else/lb"), True, False),
        (Asked(type="ClusterIP"), True, False),
        (Asked(deleting=True), True, False),
    ],
)
def test_only_services_of_our_class_are_ours_and_those_without_where_the_cluster_says_so(
    asked: Asked, class_less: bool, expected: bool
) -> None:
    assert ours(asked, class_less) is expected


@pytest.mark.parametrize(
    ("families", "policy", "expected", "optional"),
    [
        (("IPv4",), "SingleStack", (4,), ()),
        (("IPv6",), "", (6,), ()),
        (("IPv4", "IPv6"), "RequireDualStack", (4, 6), ()),
        (("IPv6", "IPv4"), "PreferDualStack", (6, 4), (4,)),
        (("IPv4",), "PreferDualStack", (4,), ()),
    ],
)
def test_families_are_those_of_the_service_and_the_preferred_second_may_be_missing(
    families: tuple[str, ...], policy: str, expected: tuple[int, ...], optional: tuple[int, ...]
) -> None:
    found = wish(Asked(families=families, policy=policy))

    assert (found.families, found.optional) == (expected, optional)


def test_our_annotation_wins_over_those_of_others_and_those_over_the_field() -> None:
    others = {"metallb.io/loadBalancerIPs": "192.0.2.2"}

    assert wish(Asked(address="192.0.2.3", annotations=others | {"fabricmgr.io/addresses": "192.0.2.1"})).addresses == (
        ip_address("192.0.2.1"),
    )
    assert wish(Asked(address="192.0.2.3", annotations=others)).addresses == (ip_address("192.0.2.2"),)
    assert wish(Asked(address="192.0.2.3")).addresses == (ip_address("192.0.2.3"),)


@pytest.mark.parametrize("text", ["192.0.2.300", "2001:db8::1", "192.0.2.1,192.0.2.2"])
def test_what_cannot_be_read_or_contradicts_names_the_annotation_and_its_value(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        wish(Asked(families=("IPv4",), annotations={"kube-vip.io/loadbalancerIPs": text}))

    assert "kube-vip.io/loadbalancerIPs" in str(vars(refused.value))
    assert text.split(",", maxsplit=1)[0] in str(vars(refused.value))


def test_an_address_is_shared_by_disjoint_ports_with_one_traffic_policy() -> None:
    found = Wish((4,), ports=("TCP/80", "UDP/53"))

    assert found.clash(("TCP/53", "UDP/80"), "Cluster") == ""
    assert "TCP/80" in found.clash(("TCP/80",), "Cluster")
    assert "externalTrafficPolicy" in found.clash(("TCP/81",), "Local")


def test_a_wish_is_met_without_the_family_that_may_be_missing_and_not_by_another_address() -> None:
    four, six = ip_address("192.0.2.1"), ip_address("2001:db8::1")

    assert Wish((4, 6), (6,)).met_by([four])
    assert not Wish((4, 6)).met_by([four])
    assert not Wish((4,)).met_by([four, six])
    assert not Wish((4,), addresses=(four,)).met_by([ip_address("192.0.2.2")])
