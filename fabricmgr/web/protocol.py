"""uvicorn's httptools protocol with what it lacks: the peer's certificate, and answers of ours to what never becomes a request.

httptools and not h11: a request costs a third of the CPU. The TLS extension's form: asgi.readthedocs.io/en/latest/specs/tls.html.
"""

import asyncio
import logging
import math
import ssl
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar, Literal, cast

import httptools
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from fabricmgr.domain.errors import FabricError, HeadTooLarge, MalformedBody, MethodUnknown
from fabricmgr.problems import sentence
from fabricmgr.web.asgi import App
from fabricmgr.web.responses import Answer, Renderer

log = logging.getLogger(__name__)

HEAD_LIMIT = 64 << 10  # bytes of request line and headers
# Methods that our trees give a meaning to. Any other is answered 501 (RFC 9110, section 15.6.2).
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")  # RFC 9110, section 5.6.2


@dataclass
class Ended:
    """Connections of this process that have ended."""

    count: int = 0


ENDED = Ended()


class Protocol(HttpToolsProtocol):
    """One connection."""

    render: ClassVar[Renderer]
    _tls: dict[object, object] | None = None
    _refusal: FabricError | None = None
    _start = b""  # of a head that is not complete
    _fed = 0  # bytes fed while a head is not complete
    _size = 0  # bytes of request line and headers parsed
    _heading = True  # between requests, or within a head
    _body = 0  # bytes of the body in what is being fed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask TLS once who is there. A connection on which nothing comes ends like an idle one."""
        super().connection_made(cast(asyncio.Transport, transport))
        secure = transport.get_extra_info("ssl_object")
        self._tls = None if secure is None else _tls_extension(secure)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The timer ends with it, also when the peer broke it off: it would keep the connection in memory until it is due."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        ENDED.count += 1

    def data_received(self, data: bytes) -> None:
        """Feed the parser. What it refuses, and a head that grows without end, is answered here."""
        within_head, self._body = self._heading, 0
        if within_head:
            self._start = (self._start + data[:512])[:512]
            self._fed += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Nothing here upgrades: the request is answered as it is, and what follows on the connection is not HTTP for sure.
            self.cycle.keep_alive = False
        except httptools.HttpParserError:
            if not within_head and self._heading:
                # A request was answered before its body came; the next one began behind that body.
                self._start = data[self._body : self._body + 512]
            self._refuse(self._refusal or _reason(self._start))
        else:
            if self._heading and self._fed > HEAD_LIMIT:
                self._refuse(HeadTooLarge(HEAD_LIMIT))

    def on_message_begin(self) -> None:
        """A request begins: its scope carries what TLS knows."""
        super().on_message_begin()
        self._size = 0
        if self._tls is not None:
            self.scope["extensions"] = {"tls": self._tls}

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, whole."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body += len(body)
        super().on_body(body)

    def on_headers_complete(self) -> None:
        """The head is there. WebDAV's methods and others that the parser knows mean nothing here."""
        method = self.parser.get_method().decode("ascii")
        if method not in METHODS:
            self._refusal = MethodUnknown(method)
            raise ValueError(method)
        super().on_headers_complete()
        # Only now: a request whose head never ends is an idle connection.
        self._heading, self._start, self._fed = False, b"", 0
        self._unset_keepalive_if_required()

    def on_message_complete(self) -> None:
        """The body is there; the next head may come."""
        super().on_message_complete()
        self._heading = True

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > HEAD_LIMIT:
            self._refusal = HeadTooLarge(HEAD_LIMIT)
            raise ValueError(self._size)

    def _expect_head(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _refuse(self, error: FabricError) -> None:
        log.info("request refused", extra={"source": self.client[0] if self.client else "local", "reason": sentence(error)})
        self._unset_keepalive_if_required()
        earlier = cast(RequestResponseCycle | None, self.cycle)
        if earlier is not None and not earlier.response_complete:
            # An earlier request of this connection is being answered: that ends in order, and the connection with it.
            earlier.keep_alive = False
            self.transport.pause_reading()
            return
        answer = type(self).render(error, _target(self._start))
        self.transport.write(_raw(answer, self.server_state.default_headers))
        self.transport.close()


def protocol_class(renderer: Renderer) -> type[Protocol]:
    """The protocol, with the renderer of what it refuses: it is given the path where that could be read."""
    return type("Protocol", (Protocol,), {"render": staticmethod(renderer)})


def loop_name() -> Literal["uvloop", "asyncio"]:
    """uvloop where it is installed: 15 µs less a request."""
    return "uvloop" if find_spec("uvloop") else "asyncio"


def server_config(app: App, renderer: Renderer, *, keep_alive_seconds: float, tls: ssl.SSLContext | None, **more: Any) -> Config:
    """How uvicorn serves us, everywhere alike. more: host and port, or fd.

    Idle connections outlive what clients and balancers keep, and the limit is announced, so that they close first."""
    idle = math.ceil(keep_alive_seconds)
    config = Config(
        app,
        http=protocol_class(renderer),
        loop=loop_name(),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=idle,
        headers=[("keep-alive", f"timeout={idle}")],
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        **more,
    )
    logging.getLogger(__name__).debug("http", extra={"loop": config.loop, "parser": "httptools"})
    return config


def _reason(start: bytes) -> FabricError:
    word = start.split(b" ", 1)[0]
    if word and len(word) <= 64 and _TOKEN.issuperset(word) and word.decode("ascii") not in METHODS:
        return MethodUnknown(word.decode("ascii"))
    return MalformedBody("the request", "it is not HTTP/1.1 as RFC 9112 has it")


def _target(start: bytes) -> str:
    words = start.split(b"\r\n", 1)[0].split(b" ")
    return words[1].decode("latin-1") if len(words) > 1 else ""


def _raw(answer: Answer, defaults: list[tuple[bytes, bytes]]) -> bytes:
    size = str(len(answer.body)).encode()
    headers = [
        *((name, value) for name, value in defaults if name != b"keep-alive"),
        *answer.headers,
        (b"content-type", answer.media_type.encode()),
        (b"content-length", size),
        (b"connection", b"close"),
    ]
    return b"".join([STATUS_LINE[answer.status], *(name + b": " + value + b"\r\n" for name, value in headers), b"\r\n", answer.body])


def _tls_extension(secure: ssl.SSLObject) -> dict[object, object]:
    cipher = secure.cipher()
    certificate = secure.getpeercert(binary_form=True)
    return {
        "server_cert": None,
        "client_cert_chain": [] if certificate is None else [ssl.DER_cert_to_PEM_cert(certificate)],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(secure.version() or ""),
        "cipher_suite": None if cipher is None else cipher[0],
    }


_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
