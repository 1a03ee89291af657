"""Names of what stands in the kernel: short enough, told apart, the same after a restart."""

from ipaddress import ip_address, ip_network

from fabricmgr.agent.alias import parse_alias
from fabricmgr.agent.links import AttachPlan, host_name
from fabricmgr.agent.networks import NetworkPlan, bridge_name
from fabricmgr.netlink.nft_rules import link_local, table_name


def test_a_short_networks_bridge_bears_its_name() -> None:
    assert bridge_name("podnet") == "fm-podnet"
    assert bridge_name("twelve-chars") == "fm-twelve-chars"


def test_bridges_of_long_names_are_told_apart_and_fit() -> None:
    first, second = bridge_name("a-network-of-production"), bridge_name("a-network-of-test")

    assert first != second
    assert len(first) == len(second) == 15


def test_a_host_end_is_told_apart_by_every_part_of_its_attachment() -> None:
    names = {
        host_name("net", "c1", "eth0"),
        host_name("net", "c1", "eth1"),
        host_name("net", "c2", "eth0"),
        host_name("other", "c1", "eth0"),
    }

    assert len(names) == 4
    assert host_name("net", "c1", "eth0") == host_name("net", "c1", "eth0")
    assert host_name("ab", "c", "d") != host_name("a", "bc", "d")


def test_a_tables_name_fits_the_kernel_whatever_the_networks() -> None:
    assert table_name("podnet") == "fabricmgr-podnet"
    assert len(table_name("n" * 253)) < 128
    assert table_name("n" * 253) != table_name("n" * 252)


def test_a_long_id_gives_way_to_a_digest_and_the_addresses_stay() -> None:
    plan = AttachPlan("n" * 253, "c" * 253, "eth0", 0, "", "fm-n", (ip_address("10.0.0.1"), ip_address("2001:db8::1")), 1500)

    origin = parse_alias(plan.origin.alias)

    assert origin == plan.origin
    assert origin.container.startswith("#")
    assert origin.network.startswith("#")


def test_foreign_aliases_are_nobodys() -> None:
    for alias in ("", "uplink", "fabricmgr", "fabricmgr a b c d e f", "fabricmgr a b c d 10.0.0.300 -"):
        assert parse_alias(alias) is None


def test_a_bridge_carries_gateways_of_its_networks_families_alone() -> None:
    plan = NetworkPlan("podnet", (ip_network("10.10.0.0/16"),))

    assert [str(gateway) for gateway in plan.gateways] == ["169.254.1.1/32"]


def test_a_links_own_address_is_made_from_its_mac() -> None:
    assert link_local("0a:58:0a:0a:00:02") == ip_address("fe80::858:aff:fe0a:2")


def test_the_default_route_is_laid_once_also_when_it_was_asked_for() -> None:
    default = ip_network("0.0.0.0/0")
    plan = AttachPlan("n", "c", "eth0", 0, "", "fm-n", (ip_address("10.0.0.1"),), 1500, routes=(default, ip_network("2001:db8::/64")))

    assert plan.all_routes == ((default, ip_address("169.254.1.1")),)
