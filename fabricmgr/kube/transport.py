"""How a request travels to an API server: to the address that the outbound policy allows, verified, within limits of time and size."""

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

import httpx2

from fabricmgr.domain.errors import ApiUnauthorized, ApiUnreachable, ApiUntrusted, DestinationRefused, KubeconfigRefused
from fabricmgr.kube.kubeconfig import Access

Address = IPv4Address | IPv6Address
Dial = Callable[[str, int], Awaitable[Address]]

CONNECT = 5.0  # seconds for the connection, TLS included
ANSWER = 10.0  # seconds for an answer to begin, and between two pieces of it
WHOLE = 30.0  # seconds for a whole answer of limited length
LONGEST_ANSWER = 64 << 20  # bytes; a page of 500 large objects has some 10 MB
LONGEST_LINE = 16 << 20  # bytes of a watch's event; etcd takes objects up to 1.5 MB
_KEPT = 5.0  # seconds that an idle connection is used again: after a silent fault none is left within this time
_NETWORK = (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, ssl.SSLError, OSError, UnicodeError)


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    media: str = "application/json"
    accept: str = "application/json"


class Transport:
    """Connections to one server. Failures of the network come as ApiUnreachable or ApiUntrusted, a refused token as ApiUnauthorized."""

    def __init__(self, access: Access, dial: Dial):
        self._access = access
        self._dial = dial
        self._url = httpx2.URL(access.server)
        context = tls(access)
        # A watch gets a connection of its own: one that fell silent is never met again.
        self._watches = _http(context, httpx2.Limits(max_connections=None, max_keepalive_connections=0))
        self._calls = _http(context, httpx2.Limits(max_connections=32, max_keepalive_connections=8, keepalive_expiry=_KEPT))

    async def close(self) -> None:
        await self._watches.aclose()
        await self._calls.aclose()

    @property
    def closed(self) -> bool:
        return self._calls.is_closed

    async def call(self, request: Request) -> tuple[httpx2.Response, bytes]:
        """The whole answer, whatever its status."""
        try:
            async with asyncio.timeout(WHOLE), self._stream(self._calls, request, ANSWER) as answer:
                return answer, await self.body(answer)
        except TimeoutError:
            raise ApiUnreachable(self._access.server, f"no whole answer within {WHOLE:.0f} s") from None

    @asynccontextmanager
    async def lines(self, request: Request, silence: float) -> AsyncIterator[tuple[httpx2.Response, AsyncIterator[bytes]]]:
        """An answer that goes on, line by line. silence: seconds without a byte after which the connection counts as dead."""
        async with self._stream(self._watches, request, silence) as answer, aclosing(self._split(answer)) as lines:
            yield answer, lines

    @asynccontextmanager
    async def _stream(self, http: httpx2.AsyncClient, request: Request, silence: float) -> AsyncIterator[httpx2.Response]:
        try:
            async with asyncio.timeout(CONNECT + ANSWER):
                answer = await self._send(http, request, silence)
        except _NETWORK as error:
            raise self._failure(error) from None
        try:
            yield answer
        except _NETWORK as error:
            raise self._failure(error) from None
        finally:
            await answer.aclose()

    async def _send(self, http: httpx2.AsyncClient, request: Request, silence: float) -> httpx2.Response:
        """With the token of now. Where it was refused and is another one by then, once more."""
        address = await self._address()
        token = self._token()
        while True:
            answer = await http.send(self._build(http, request, address, token, silence), stream=True)
            if answer.status_code != 401:
                return answer
            await answer.aclose()
            refused, token = token, self._token()
            if token == refused:
                raise ApiUnauthorized(self._access.server)

    async def _address(self) -> Address:
        try:
            return await self._dial(self._url.host, self._url.port or 443)
        except DestinationRefused as refused:
            raise ApiUnreachable(self._access.server, f"{refused.destination} {refused.reason} (setting outbound_allow)") from None

    def _token(self) -> str:
        return self._access.token() if self._access.token is not None else ""

    def _build(self, http: httpx2.AsyncClient, request: Request, address: Address, token: str, silence: float) -> httpx2.Request:
        url = self._url.copy_with(host=str(address), raw_path=(self._url.path.rstrip("/") + request.path).encode())
        pace = httpx2.Timeout(CONNECT, read=silence, write=ANSWER, pool=ANSWER)
        params = dict(request.query) or None
        built = http.build_request(request.method, url, params=params, content=request.content or None, timeout=pace)
        built.headers["Host"] = self._url.netloc.decode("ascii")
        built.headers["Accept"] = request.accept
        if request.content:
            built.headers["Content-Type"] = request.media
        if token:
            built.headers["Authorization"] = f"Bearer {token}"
        # TLS asks for, and verifies, the name that was given.
        built.extensions["sni_hostname"] = self._access.name or self._url.host
        return built

    async def body(self, answer: httpx2.Response) -> bytes:
        """All of an answer. Raises ApiUnreachable for an endless one."""
        whole = bytearray()
        async for piece in answer.aiter_raw():
            whole += piece
            if len(whole) > LONGEST_ANSWER:
                raise ApiUnreachable(self._access.server, f"its answer is longer than {LONGEST_ANSWER} bytes")
        return bytes(whole)

    async def _split(self, answer: httpx2.Response) -> AsyncGenerator[bytes, None]:
        """Whole lines. What follows the last line feed was cut off, and is none."""
        rest = bytearray()
        async for piece in answer.aiter_raw():
            *whole, last = piece.split(b"\n")
            for line in whole:
                rest += line
                if rest:
                    yield bytes(rest)
                rest.clear()
            rest += last
            if len(rest) > LONGEST_LINE:
                raise ApiUnreachable(self._access.server, f"an event is longer than {LONGEST_LINE} bytes")

    def _failure(self, error: Exception) -> ApiUnreachable | ApiUntrusted:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return ApiUntrusted(self._access.server, cause.verify_message)
            cause = cause.__cause__ or cause.__context__
        return ApiUnreachable(self._access.server, str(error) or type(error).__name__)


def _http(context: ssl.SSLContext, limits: httpx2.Limits) -> httpx2.AsyncClient:
    # Compressed lists would cost the server and us more time than the wire.
    headers = {"Accept-Encoding": "identity", "User-Agent": "fabricmgr"}
    return httpx2.AsyncClient(verify=context, limits=limits, trust_env=False, follow_redirects=False, headers=headers)


def tls(access: Access) -> ssl.SSLContext:
    """Trusting the named authorities alone, where there are any. Raises KubeconfigRefused."""
    try:
        context = ssl.create_default_context(cadata=access.authority or None)
    except (ssl.SSLError, ValueError):
        raise KubeconfigRefused("cluster.certificate-authority-data", "it holds no readable certificate") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if access.certificate:
        _load_own(context, access)
    return context


def _load_own(context: ssl.SSLContext, access: Access) -> None:
    """OpenSSL takes files alone. This one lies in memory, and is gone at the end."""
    descriptor = os.memfd_create("client", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, f"{access.certificate.rstrip()}\n{access.key.rstrip()}\n".encode())
        # An encrypted key asks for a password on the terminal unless one is given.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    except (ssl.SSLError, ValueError, OSError):
        raise KubeconfigRefused("user.client-certificate-data", "it is no certificate with this key") from None
    finally:
        os.close(descriptor)
