"""A headless Chromium, spoken to through its DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def program() -> str | None:
    """Where a Chromium is, if there is one."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


@contextmanager
def opened(url: str, profile: Path, width: int = 1100, height: int = 900, *, dark: bool = False) -> Iterator[Tab]:
    """A page in a browser of its own, closed afterwards."""
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += ["--remote-debugging-port=0", f"--user-data-dir={profile}", "--hide-scrollbars", "--disable-extensions"]
    started = subprocess.Popen([str(program()), *options, "about:blank"], stderr=subprocess.DEVNULL)
    try:
        port = _wait(lambda: (profile / "DevToolsActivePort").read_text().splitlines()[0], 30)
        # Of its own list of pages the browser tells anybody on this machine; no client library is needed.
        from urllib.request import urlopen

        def first_page() -> str:
            with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=5) as reply:
                return next(tab["webSocketDebuggerUrl"] for tab in json.load(reply) if tab["type"] == "page")

        with connect(_wait(first_page, 30), max_size=None) as line:
            tab = Tab(line)
            for domain in ("Page", "Runtime", "DOM", "Network", "Log"):
                tab.call(f"{domain}.enable")
            tab.view(width, height, dark=dark)
            tab.call("Page.navigate", url=url)
            tab.until("document.readyState === 'complete'")
            yield tab
    finally:
        started.terminate()
        started.wait(timeout=20)


class Tab:
    """One page of a browser."""

    def __init__(self, line: ClientConnection) -> None:
        self.line, self.number = line, 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **parameters: Any) -> Any:
        """What a method of the protocol gives; events that come meanwhile are kept."""
        self.number += 1
        self.line.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self.line.recv(timeout=60))
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        given = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in given, given["exceptionDetails"]
        return given["result"].get("value")

    def until(self, script: str, seconds: float = 60) -> None:
        """Wait until an expression is true."""
        _wait(lambda: self.run(f"Boolean({script})") or None, seconds, script)

    def view(self, width: int, height: int, *, dark: bool = False) -> None:
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def choose(self, selector: str, files: Sequence[Path]) -> None:
        """Give files to an input, as its dialog would."""
        document = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=document, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def press(self, key: str, code: int) -> None:
        """One key, as from a keyboard."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        about: dict[str, Any] = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def picture(self, file: Path) -> bytes:
        """The whole page as a PNG, also written to `file`."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))
        return file.read_bytes()

    def requested(self) -> list[str]:
        """Every address that the page has asked so far."""
        self.run("0")
        sent = [event for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    def complaints(self) -> list[str]:
        """Errors that the console has shown."""
        self.run("0")
        thrown = [e["params"]["exceptionDetails"] for e in self.events if e.get("method") == "Runtime.exceptionThrown"]
        entries = [e["params"]["entry"] for e in self.events if e.get("method") == "Log.entryAdded"]
        return [str(each) for each in thrown] + [entry["text"] for entry in entries if entry["level"] == "error"]


def _wait(ask: Any, seconds: float, what: str = "the browser") -> Any:
    """The first value of `ask` that is something. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while True:
        try:
            if (found := ask()) is not None:
                return found
        except (OSError, StopIteration, IndexError) as error:
            what = f"{what} ({error})"
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.1)
