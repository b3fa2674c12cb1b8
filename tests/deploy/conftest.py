from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@pytest.fixture
def metadata() -> Iterator[str]:
    """AWS's metadata service as far as the script asks: a session token by PUT, the notice at the third question."""
    asked: list[str] = []

    class Service(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"session")

        def do_GET(self) -> None:
            asked.append(self.path)
            noticed = len(asked) >= 3 and self.headers["X-aws-ec2-metadata-token"] == "session"
            self.send_response(200 if noticed and self.path == "/latest/meta-data/spot/instance-action" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/latest"
    server.shutdown()
