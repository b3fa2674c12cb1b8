"""The faulty connection itself: each mode does what it says, else the tests behind it show nothing."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.faults.proxy import Proxy


class Echo(BaseHTTPRequestHandler):
    """Answers with the number of requests that it carried out."""

    protocol_version = "HTTP/1.1"
    carried_out = 0

    def do_GET(self) -> None:
        type(self).carried_out += 1
        body = str(type(self).carried_out).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    Echo.carried_out = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with Proxy(server.server_port) as made:
        yield made
    server.shutdown()
    server.server_close()


def ask(proxy: Proxy, path: str = "/") -> tuple[int, bytes]:
    link = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=0.5)
    try:
        link.request("GET", path)
        reply = link.getresponse()
        return reply.status, reply.read()
    finally:
        link.close()


@pytest.mark.parametrize(
    ("mode", "seen"),
    [
        ("refuse", ConnectionRefusedError),
        ("reset", ConnectionError),
        ("blackhole", TimeoutError),
        ("lost", ConnectionError),
    ],
)
def test_a_connection_that_fails_fails_as_told_and_comes_back(
    proxy: Proxy, mode: str, seen: type[BaseException]
) -> None:
    assert ask(proxy) == (200, b"1")
    proxy.set(mode)
    with pytest.raises(seen):
        ask(proxy)
    proxy.set("pass")
    assert ask(proxy) == (200, b"3" if mode == "lost" else b"2"), "a lost reply's request was carried out, no other"


def test_a_server_out_of_order_is_never_reached(proxy: Proxy) -> None:
    proxy.set("http500")
    assert ask(proxy)[0] == 500
    assert Echo.carried_out == 0


def test_only_the_reply_that_was_asked_for_is_lost_and_only_once(proxy: Proxy) -> None:
    proxy.lose_next("runs/create")
    assert ask(proxy, "/runs/search") == (200, b"1")
    with pytest.raises(ConnectionError):
        ask(proxy, "/runs/create")
    assert ask(proxy, "/runs/create") == (200, b"3")
    assert proxy.hits == 1
    assert proxy.requests == ["/runs/search", "/runs/create", "/runs/create"]


def test_a_connection_that_was_open_before_the_fault_feels_it(proxy: Proxy) -> None:
    link = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=5)
    link.request("GET", "/")
    assert link.getresponse().read() == b"1"
    proxy.set("refuse")

    def ask_again() -> None:
        link.request("GET", "/")
        link.getresponse()

    with pytest.raises((ConnectionError, http.client.HTTPException)):
        ask_again()


def test_an_unknown_mode_is_refused(proxy: Proxy) -> None:
    with pytest.raises(ValueError, match="mode must be one of pass, refuse"):
        proxy.set("gone")
