"""What is patched and packed by hand equals what pyroute2 encodes; sets of prefixes mean exactly their addresses."""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from fabricmgr.agent.alias import LONGEST_ALIAS, origin_of, parse_alias
from fabricmgr.agent.links import AttachPlan
from fabricmgr.netlink import codec, links, templates
from fabricmgr.netlink.nft_rules import interval
from fabricmgr.netlink.routes import Route, put_route
from fabricmgr.netlink.sockets import split

NAMES = st.text(st.characters(codec="ascii", min_codepoint=33, exclude_characters="/:"), min_size=1, max_size=15).filter(
    lambda name: name not in (".", "..")
)
HOST_NAMES = st.text("0123456789abcdef", min_size=13, max_size=13).map(lambda digits: "fm" + digits)
MACS = st.binary(min_size=6, max_size=6).map(lambda octets: octets.hex(":"))
WORDS = st.integers(0, 2**32 - 1)
INDICES = st.integers(1, 2**31 - 1)
V4 = st.integers(0, 2**32 - 1).map(lambda number: ip_address(number.to_bytes(4, "big")))
V6 = st.integers(0, 2**128 - 1).map(lambda number: ip_address(number.to_bytes(16, "big")))
ADDRESSES = V4 | V6
V4_PREFIXES = st.builds(lambda number, length: IPv4Network((number, length), strict=False), st.integers(0, 2**32 - 1), st.integers(0, 32))
V6_PREFIXES = st.builds(lambda number, length: IPv6Network((number, length), strict=False), st.integers(0, 2**128 - 1), st.integers(0, 128))


@given(HOST_NAMES, MACS, WORDS, WORDS, NAMES, MACS, WORDS, WORDS)
def test_a_patched_pair_is_pyroute2s_encoding(
    name: str, host_mac: str, bridge: int, group: int, ifname: str, pod_mac: str, mtu: int, namespace: int
) -> None:
    filled = templates.veth_template(ifname, group).fill(
        name=name.encode(),
        host_mac=links.mac_bytes(host_mac),
        pod_mac=links.mac_bytes(pod_mac),
        mtu=templates.native(mtu),
        bridge=templates.native(bridge),
        namespace=templates.native(namespace),
    )

    assert bytes(filled) == templates.encode_veth(name, host_mac, bridge, group, ifname, pod_mac, mtu, namespace)


@given(INDICES, ADDRESSES)
def test_a_patched_address_is_pyroute2s_encoding(index: int, address: templates.HostAddress) -> None:
    filled = templates.address_template(address.version).fill(index=templates.native(index), address=address.packed)

    assert bytes(filled) == templates.encode_address(index, address)


@given(INDICES)
def test_a_patched_up_is_pyroute2s_encoding(index: int) -> None:
    assert bytes(templates.up_template().fill(index=templates.native(index))) == templates.encode_up(index)


@given(INDICES, V4_PREFIXES | V6_PREFIXES)
def test_a_patched_route_is_pyroute2s_encoding(index: int, prefix: templates.Prefix) -> None:
    via = ip_address("169.254.1.1") if prefix.version == 4 else ip_address("fe80::1")

    filled = templates.route_template(prefix, via).fill(index=templates.native(index))

    assert bytes(filled) == templates.encode_route(index, prefix, via)


@given(INDICES, V4_PREFIXES | V6_PREFIXES, st.integers(0, 65535))
def test_pyroute2_reads_a_route_as_it_was_meant(index: int, prefix: templates.Prefix, mtu: int) -> None:
    message = rtmsg(bytes(put_route(Route(prefix, index, mtu=mtu), codec.Flag.CREATE)))
    message.decode()

    destination = message.get_attr("RTA_DST") or str(prefix.network_address)
    metrics = message.get_attr("RTA_METRICS")
    assert ip_network(f"{destination}/{message['dst_len']}") == prefix
    assert message.get_attr("RTA_OIF") == index
    assert (metrics.get_attr("RTAX_MTU") if metrics else 0) == mtu


@given(NAMES, st.booleans(), st.booleans(), st.text("0a:. ", max_size=255))
def test_pyroute2_reads_port_settings_as_they_were_meant(name: str, hairpin: bool, isolated: bool, alias: str) -> None:
    message = ifinfmsg(bytes(links.port_settings(name, hairpin, isolated, alias)))
    message.decode()

    port = message.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_SLAVE_DATA")
    assert (message.get_attr("IFLA_IFNAME"), message["flags"], message["change"]) == (name, 1, 1)
    assert message.get_attr("IFLA_IFALIAS") == alias
    assert (port.get_attr("IFLA_BRPORT_MODE"), port.get_attr("IFLA_BRPORT_ISOLATED")) == (hairpin, isolated)
    assert (port.get_attr("IFLA_BRPORT_MCAST_FLOOD"), port.get_attr("IFLA_BRPORT_BCAST_FLOOD")) == (0, 0)


@given(INDICES, ADDRESSES)
def test_pyroute2_reads_a_pods_address_as_it_was_meant(index: int, address: templates.HostAddress) -> None:
    message = ifaddrmsg(bytes(templates.address_template(address.version).fill(index=templates.native(index), address=address.packed)))
    message.decode()

    assert ip_address(message.get_attr("IFA_LOCAL")) == address
    assert message["prefixlen"] == address.max_prefixlen
    assert message["index"] == index
    # No duplicate detection: the pod would wait a second for it.
    assert address.version == 4 or message.get_attr("IFA_FLAGS") & 0x02


@given(st.lists(st.tuples(st.integers(1, 0x3FFF), st.binary(max_size=40)), max_size=12))
def test_attributes_come_out_as_they_went_in(pairs: list[tuple[int, bytes]]) -> None:
    assert list(codec.walk(b"".join(codec.attr(kind, value) for kind, value in pairs))) == pairs


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reading_of_attributes_and_messages(data: bytes) -> None:
    for _, value in codec.walk(data):
        assert len(value) <= len(data)
    assert len(list(split(data))) <= len(data) // 16


@given(st.lists(V4_PREFIXES, max_size=12), st.integers(0, 2**32 - 1))
def test_a_set_of_prefixes_means_exactly_their_addresses(prefixes: list[IPv4Network], number: int) -> None:
    elements = sorted(interval(prefixes, 4))
    candidates = {number, *(int(p.network_address) for p in prefixes), *(int(p.broadcast_address) + 1 for p in prefixes)}

    for candidate in {each for each in candidates if each < 2**32}:
        key = candidate.to_bytes(4, "big")
        before = [element for element in elements if element[0] <= key]
        inside = bool(before) and not before[-1][1]
        assert inside == any(ip_address(key) in prefix for prefix in prefixes)


@given(st.lists(V6_PREFIXES, max_size=8))
def test_elements_of_a_set_alternate_and_never_touch(prefixes: list[IPv6Network]) -> None:
    elements = sorted(interval(prefixes, 6))

    keys = [key for key, _ in elements]
    assert len(set(keys)) == len(keys)
    assert [end for _, end in elements] == [bool(at % 2) for at in range(len(elements))]


CNI_NAMES = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.\-]{0,252}\Z")


@given(CNI_NAMES, CNI_NAMES, NAMES, MACS, V4, V6, st.booleans())
def test_every_attachments_alias_fits_and_says_its_addresses(
    network: str, container: str, ifname: str, mac: str, first: templates.HostAddress, second: templates.HostAddress, guarded: bool
) -> None:
    origin = origin_of(network, container, ifname, mac, (first, second), guarded)

    assert len(origin.alias.encode()) <= LONGEST_ALIAS
    assert parse_alias(origin.alias) == origin
    assert origin.addresses == (first, second)
    assert origin.container == container or origin.container.startswith("#")


@given(st.lists(ADDRESSES, min_size=1, max_size=4))
def test_a_mac_says_the_first_ipv4_address_else_ipv6(addresses: list[templates.HostAddress]) -> None:
    plan = AttachPlan("n", "c", "eth0", 0, "", "fm-n", tuple(addresses), 1500)

    fourth = [address for address in addresses if address.version == 4]
    assert plan.pod_mac == "0a:58:" + (fourth or addresses)[0].packed[-4:].hex(":")
    assert {gateway.version for _, gateway in plan.all_routes} == {address.version for address in addresses}
