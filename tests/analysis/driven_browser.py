"""A real browser that tests can click in: the DevTools protocol over two pipes, no port and no further package."""

from __future__ import annotations

import itertools
import json
import os
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars")
OFFLINE = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
PATIENCE_S = 60


class Tab:
    """One page: ``run`` evaluates JavaScript of ours in it, ``press`` and ``click`` are a user's."""

    def __init__(self, reader: Any, writer: Any) -> None:
        self._reader, self._writer, self._ids = reader, writer, itertools.count(1)
        self._read = b""
        self.session = ""
        self.refused: list[str] = []

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its answer; events that come between are kept where they tell of a refusal."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self._writer.write(json.dumps(message).encode() + b"\0")
        self._writer.flush()
        return self._until(lambda found: found.get("id") == number).get("result", {})

    def open(self, address: str) -> None:
        """Loads a page and waits until it is there."""
        self.send("Page.navigate", url=address)
        self._until(lambda found: found.get("method") == "Page.loadEventFired")

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """A key, with the text that it types."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            code = {"Enter": 13, " ": 32}.get(key, 0)
            self.send("Input.dispatchKeyEvent", type=kind, key=key, text=text, windowsVirtualKeyCode=code)

    def place(self, selector: str) -> tuple[float, float]:
        """The middle of an element, scrolled into view."""
        script = f"""(() => {{ const e = document.querySelector({json.dumps(selector)});
            e.scrollIntoView({{block: "center", behavior: "instant"}}); const b = e.getBoundingClientRect();
            return [b.x + b.width / 2, b.y + b.height / 2]; }})()"""
        x, y = self.run(script)
        return x, y

    def point(self, selector: str) -> None:
        """Moves the pointer onto an element."""
        x, y = self.place(selector)
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, selector: str, *, loads: bool = False) -> None:
        """Clicks on an element; with ``loads`` waits for the page that this opens."""
        x, y = self.place(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        if loads:
            self._until(lambda found: found.get("method") == "Page.loadEventFired")

    def _until(self, wanted: Any) -> dict[str, Any]:
        while True:
            found = self._next()
            if found.get("method") == "Log.entryAdded":
                self.refused.append(found["params"]["entry"]["text"])
            if wanted(found):
                return found

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._reader], [], [], PATIENCE_S)
            assert ready, f"the browser said nothing for {PATIENCE_S} s"
            more = os.read(self._reader.fileno(), 65536)
            assert more, "the browser went away"
            self._read += more
        message, _, self._read = self._read.partition(b"\0")
        return dict(json.loads(message))


@contextmanager
def driven(browser: str, profile: Path, *, width: int = 1280, height: int = 1000) -> Iterator[Tab]:
    """A tab of a fresh browser, closed at the end."""
    to_browser, ours_out = os.pipe()
    ours_in, from_browser = os.pipe()
    plumbing = f'exec 3<&{to_browser} 4>&{from_browser}; exec "$@"'
    command = [browser, *QUIET, *OFFLINE, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(
        ["bash", "-c", plumbing, "bash", *command],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    with os.fdopen(ours_in, "rb") as reader, os.fdopen(ours_out, "wb") as writer:
        tab = Tab(reader, writer)
        try:
            target = tab.send("Target.createTarget", url="about:blank")["targetId"]
            tab.session = tab.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log"):
                tab.send(f"{domain}.enable")
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            tab.send("Emulation.setDeviceMetricsOverride", **size)
            yield tab
        finally:
            process.terminate()
            process.wait(timeout=30)
