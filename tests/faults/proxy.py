"""A TCP proxy that misbehaves on demand, to stand between a study and its MLflow server."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

REQUEST = re.compile(rb"(?:GET|POST|PUT|PATCH|DELETE|HEAD) (\S+) HTTP/1\.[01]\r\n")
ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\nConnection: close\r\n\r\noops"
MODES = ("pass", "refuse", "reset", "blackhole", "slow", "http500", "lost")
_CHUNK = 65536


@dataclass
class _Link:
    """One client's connection, the upstream one that belongs to it, and what it last asked for."""

    client: socket.socket
    server: socket.socket | None = None
    request: bytes = b""

    def cut(self) -> None:
        """Both ends see a reset; a thread that reads from one of them wakes up."""
        for end in (self.client, self.server):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()


@dataclass
class Proxy:
    """Forwards 127.0.0.1:``port`` to 127.0.0.1:``upstream``, in one of ``MODES``:

    pass; refuse (nobody listens); reset (connections are cut as they come); blackhole (nothing is ever answered);
    slow (every chunk of a reply waits ``delay_s``); http500 (every request); lost (carried out, the reply never comes).
    ``requests`` are the paths asked for, ``hits`` how often a fault struck: what tests wait for instead of sleeping.
    """

    upstream: int
    mode: str = "pass"
    requests: list[str] = field(default_factory=list)
    hits: int = 0
    port: int = field(init=False)
    _delay_s: float = field(init=False, default=0.0)
    _losses: list[bytes] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        with socket.socket() as probe:  # bound by number, the port stays ours while nobody listens on it
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._changed = threading.Condition()
        self._open: dict[int, _Link] = {}
        self._listening, self._closed = True, False
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    @property
    def uri(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self.port}"

    def set(self, mode: str, *, delay_s: float = 0.0) -> None:
        """Changes the mode; connections that are open are cut, so that each one lives in a single mode."""
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        with self._changed:
            self.mode, self._delay_s, self._losses, self.hits = mode, delay_s, [], 0
            links = list(self._open.values())
            self._listen(mode != "refuse")
            self._changed.notify_all()
        for link in links:
            link.cut()

    def lose_next(self, *paths: str) -> None:
        """One reply is lost for each of ``paths`` (a part of the path asked for); all others pass."""
        self.set("pass")
        self._losses = [path.encode() for path in paths]

    def wait(self, true: Callable[[Proxy], bool], *, timeout_s: float = 60.0) -> None:
        """Waits for something that ``requests`` and ``hits`` tell; raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: true(self), timeout_s):
                raise TimeoutError(f"{self.mode}: {self.hits} hits, last requests {self.requests[-5:]}")

    def struck(self, times: int = 1) -> None:
        """Waits until the present fault has struck so often."""
        self.wait(lambda proxy: proxy.hits >= times)

    def close(self) -> None:
        """Ends everything."""
        with self._changed:
            self._closed = True
            links = list(self._open.values())
            self._changed.notify_all()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link in links:
            link.cut()

    def _listen(self, wanted: bool) -> None:
        """A bound socket that does not listen refuses, and keeps the port ours."""
        if wanted and not self._listening:
            self._listener.listen()
        elif self._listening and not wanted:
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listening = wanted

    def _accept(self) -> None:
        while not self._closed:
            with self._changed:
                self._changed.wait_for(lambda: self._listening or self._closed)
            try:
                client, _ = self._listener.accept()
            except OSError:
                continue
            link = _Link(client)
            with self._changed:
                self._open[id(link)] = link
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: _Link) -> None:
        try:
            if self.mode == "reset":
                self._hit()
                return
            if self.mode not in ("blackhole", "http500"):
                link.server = socket.create_connection(("127.0.0.1", self.upstream), timeout=60)
                threading.Thread(target=self._replies, args=(link,), daemon=True).start()
            while data := link.client.recv(_CHUNK):
                self._noted(link, data)
                if self.mode == "http500":
                    self._hit()
                    link.client.sendall(ERROR)
                    return
                if link.server is not None:
                    link.server.sendall(data)
        except OSError:  # either end went away
            pass
        finally:
            self._end(link)

    def _replies(self, link: _Link) -> None:
        assert link.server is not None
        try:
            while data := link.server.recv(_CHUNK):
                if self._loses(link):
                    self._hit()
                    return
                if self.mode == "slow":
                    self._hit()
                    with self._changed:
                        self._changed.wait_for(lambda: self._closed, self._delay_s)
                link.client.sendall(data)
        except OSError:
            pass
        finally:
            self._end(link)

    def _noted(self, link: _Link, data: bytes) -> None:
        if found := REQUEST.match(data):
            link.request = found[1]
            with self._changed:
                self.requests.append(found[1].decode("latin-1"))
                if self.mode == "blackhole":
                    self.hits += 1
                self._changed.notify_all()

    def _loses(self, link: _Link) -> bool:
        if self.mode == "lost":
            return True
        with self._changed:
            wanted = next((path for path in self._losses if path in link.request), None)
            if wanted is not None:
                self._losses.remove(wanted)
        return wanted is not None

    def _hit(self) -> None:
        with self._changed:
            self.hits += 1
            self._changed.notify_all()

    def _end(self, link: _Link) -> None:
        link.cut()
        with self._changed:
            self._open.pop(id(link), None)
