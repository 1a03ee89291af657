"""The outbound policy: decided after resolution, connected to the very address, no proxy, no redirect."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address, ip_network

import pytest

from fabricmgr.domain.errors import DestinationRefused
from fabricmgr.settings import ManagerSettings
from fabricmgr.web.outbound import Address, Outbound

DEFAULT = Outbound(ManagerSettings().outbound_allow)
GUARDED = [
    "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "169.254.169.254", "fe80::1", "fd00:ec2::254", "100.100.100.200", "168.63.129.16",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "224.0.0.1", "ff02::1", "255.255.255.255",
]  # fmt: skip


@pytest.mark.parametrize("text", GUARDED)
def test_guarded_addresses_need_a_network_within_their_range(text: str) -> None:
    address = ip_address(text)

    with pytest.raises(DestinationRefused):
        DEFAULT.check(address)

    plain = address.ipv4_mapped or address if address.version == 6 else address
    Outbound((ip_network(f"{plain}/{plain.max_prefixlen}"),)).check(address)


@pytest.mark.parametrize("text", ["10.0.0.1", "192.0.2.1", "2001:db8::1", "8.8.8.8"])
def test_others_are_allowed_by_default_and_can_be_narrowed(text: str) -> None:
    DEFAULT.check(ip_address(text))

    with pytest.raises(DestinationRefused):
        Outbound((ip_network("198.51.100.0/24"),)).check(ip_address(text))


async def test_a_name_with_one_bad_address_among_good_ones_is_refused() -> None:
    async def resolve(host: str, port: int) -> Sequence[Address]:
        return [ip_address("192.0.2.1"), ip_address("127.0.0.1")]

    with pytest.raises(DestinationRefused):
        await DEFAULT.address("mixed.example", 443, resolve)


@pytest.mark.parametrize("url", ["ftp://192.0.2.1/", "file:///etc/passwd", "http:///x", "nonsense"])
async def test_only_http_urls_are_sent_to(url: str) -> None:
    with pytest.raises(DestinationRefused):
        await DEFAULT.send("POST", url)


@contextlib.asynccontextmanager
async def listener(answer: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server on loopback that notes what it hears."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heard


async def test_the_checked_address_is_the_one_connected_to_and_no_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """F062: a listener in the proxy's place sees no connection. The name is resolved once, so a second answer changes nothing."""
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[Address]:
        asked.append(host)
        return [ip_address("127.0.0.1")]

    async with (
        listener(b"") as (proxy, at_proxy),
        listener(b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n") as (port, heard),
    ):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
        answer = await Outbound((ip_network("127.0.0.1/32"),)).send("POST", f"http://receiver.example:{port}/hook", resolve=resolve)

    assert answer.status_code == 302
    assert asked == ["receiver.example"]
    assert at_proxy == []
    assert len(heard) == 1
    assert f"receiver.example:{port}".encode() in heard[0]


async def test_an_answer_without_end_is_not_read() -> None:
    async with listener(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n" + b"x" * 1000) as (port, heard):
        answer = await Outbound((ip_network("127.0.0.1/32"),)).send("POST", f"http://127.0.0.1:{port}/hook")

    assert answer.is_success
    assert len(heard) == 1
