"""The page as it is started: many at once, clients that hang up, and a real browser, at every size and by keyboard."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

httpx = pytest.importorskip("httpx", reason="asks the page over HTTP")
pytest.importorskip("uvicorn", reason="the page needs dgnet[serve]")
pytest.importorskip("fastapi", reason="the page needs dgnet[serve]")
browser = pytest.importorskip("browser", reason="websockets, through which a browser is spoken to, is missing")

pytestmark = pytest.mark.slow
in_a_browser = pytest.mark.skipif(browser.program() is None, reason=f"none of {browser.PROGRAMS} is installed")


@pytest.fixture(scope="module")
def started(runs: Path, people: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`dgnet serve`, and where its page is."""
    command = ["serve", str(runs / "joint"), "--images", str(people / "bounding_box_test"), "--port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "dgnet", *command], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("http://127.0.0.1:"), line
        yield line.split()[0], process
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def url(started: tuple[str, subprocess.Popen[str]]) -> str:
    address, process = started
    assert process.poll() is None
    return address


def alive(url: str) -> None:
    assert httpx.get(f"{url}/api/about", timeout=30).json()["generates"]


def test_fifty_at_once_all_get_the_answer_to_their_own_question(url: str, photos: list[Path]) -> None:
    asked = [(photos[0], photos[-1]), (photos[-1], photos[0]), (photos[1], photos[0])]

    def ask(number: int) -> tuple[int, str]:
        a, b = asked[number % len(asked)]
        reply = httpx.post(f"{url}/api/pair", files={"a": a.read_bytes(), "b": b.read_bytes()}, timeout=120)
        return reply.status_code, reply.text

    alone = [ask(number) for number in range(len(asked))]  # whose rightness tests/serve/test_page.py looks at
    assert [status for status, _ in alone] == [200] * len(asked)
    assert len(set(alone)) == len(asked)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(ask, range(50)))
    assert answers == [alone[number % len(asked)] for number in range(50)]


def test_clients_that_hang_up_leave_nothing_behind(url: str, photos: list[Path]) -> None:
    at = urlsplit(url)
    photo = photos[0].read_bytes()
    part = b'--x\r\ncontent-disposition: form-data; name="%s"; filename="a.jpg"\r\n\r\n%s\r\n'
    body = part % (b"a", photo) + part % (b"b", photo) + b"--x--\r\n"
    head = f"POST /api/pair HTTP/1.1\r\nhost: {at.netloc}\r\ncontent-type: multipart/form-data; boundary=x\r\n"
    head += f"content-length: {len(body)}\r\n\r\n"
    for sent in (head.encode()[:40], head.encode(), head.encode() + body[: len(body) // 2], head.encode() + body):
        for _ in range(15):
            with socket.create_connection((at.hostname, at.port)) as line:
                line.sendall(sent)
    alive(url)
    began = time.monotonic()
    files = {"a": photo, "b": photo}
    assert httpx.post(f"{url}/api/pair", files=files, timeout=60).status_code == 200
    assert time.monotonic() - began < 30


def test_a_flood_is_refused_and_survived(url: str) -> None:
    for _ in range(3):
        with contextlib.suppress(httpx.TransportError):  # the line may be closed before all is sent
            files = {"a": bytes(60_000_000), "b": b""}
            assert httpx.post(f"{url}/api/pair", files=files, timeout=60).status_code == 413
    alive(url)


def test_nobody_but_this_machine_reaches_it(url: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        try:
            line.connect(("192.0.2.1", 9))  # sends nothing; says by which address this machine would
        except OSError:
            pytest.skip("this machine has no address but the loopback's")
        own = line.getsockname()[0]
    if own.startswith("127."):
        pytest.skip("this machine has no address but the loopback's")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((own, urlsplit(url).port), timeout=5)


def test_ctrl_c_stops_it(runs: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "dgnet", "serve", str(runs / "teacher"), "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    alive_at = process.stdout.readline().split()[0]
    assert httpx.get(alive_at, timeout=30).status_code == 200
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in err


@in_a_browser
@pytest.mark.parametrize(("width", "dark"), [(1100, False), (390, True)], ids=["desktop", "phone, dark"])
def test_a_browser_shows_everything_and_asks_nobody_else(
    url: str, photos: list[Path], tmp_path: Path, width: int, dark: bool
) -> None:
    with browser.opened(url, tmp_path / "profile", width, 844, dark=dark) as tab:
        tab.choose("[data-well=a] input", [photos[0]])
        tab.choose("[data-well=b] input", [photos[-1]])
        tab.until("!document.getElementById('step').disabled")
        tab.choose("[data-well=query] input", [photos[0]])
        tab.until("document.querySelectorAll('#matches li').length === 12")
        tab.run("document.querySelector('#matches [data-do=why]').click()")
        tab.until("document.querySelector('#matches [data-do=why]').getAttribute('aria-pressed') === 'true'")
        tab.run("document.querySelector('#matches [data-do=b]').click()")
        tab.until("document.querySelector('[data-well=b] img').alt.includes('_c')")
        tab.until("[...document.images].every((image) => image.hidden || image.complete && image.naturalWidth)")
        assert tab.run("document.documentElement.scrollWidth") <= width
        assert tab.run("document.querySelectorAll('img:not([hidden]):not([alt])').length") == 0
        shown = np.asarray(Image.open(io.BytesIO(tab.picture(tmp_path / "page.png"))).convert("L"))
        assert (shown[5, 5] < 64) == dark
        assert {urlsplit(asked).netloc for asked in tab.requested() if asked.startswith("http")} == {
            urlsplit(url).netloc
        }
        assert tab.complaints() == []


@in_a_browser
def test_a_keyboard_alone_reaches_and_uses_everything(url: str, photos: list[Path], tmp_path: Path) -> None:
    with browser.opened(url, tmp_path / "profile") as tab:
        tab.until("!document.getElementById('search').hidden")
        tab.choose("[data-well=a] input", [photos[0]])
        tab.choose("[data-well=b] input", [photos[-1]])
        tab.choose("[data-well=query] input", [photos[0]])
        tab.until("document.querySelectorAll('#matches li').length === 12 && !document.getElementById('step').disabled")
        reached: list[str] = []
        where = "((e) => e.id || e.dataset.do || e.name || e.parentNode.dataset.well || '')(document.activeElement)"
        for _ in range(60):
            tab.press("Tab", 9)
            reached.append(tab.run(where))
            assert tab.run(
                "document.activeElement === document.body || document.activeElement.matches(':focus-visible')"
            )
            if reached[-1] == "shares" and reached.count("shares") == 1:
                tab.press(" ", 32)
                tab.until("!document.getElementById('legend').hidden")
            if reached[-1] == "step" and reached.count("step") == 1:
                tab.press("ArrowRight", 39)
                assert tab.run("document.getElementById('percent').textContent") == "8 %"
            if reached[-1] == "why":
                tab.press("Enter", 13)
                tab.until("document.activeElement.getAttribute('aria-pressed') === 'true'")
                break
        assert reached == ["a", "b", "shares", "of", "step", "query", "text", "why"]


@in_a_browser
def test_a_browser_is_told_what_is_no_photo(url: str, photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "notes <b>.jpg").write_text("no photo")
    with (tmp_path / "scan.png").open("wb") as scan:
        scan.truncate(20_000_001)
    with browser.opened(url, tmp_path / "profile") as tab:
        tab.until("!document.getElementById('search').hidden")
        tab.choose("[data-well=a] input", [tmp_path / "scan.png"])
        tab.until("!document.getElementById('trouble').hidden")
        assert tab.run("document.getElementById('trouble').textContent") == "scan.png: more than 20 MB; save it smaller"
        tab.choose("[data-well=a] input", [tmp_path / "notes <b>.jpg"])
        tab.until("document.getElementById('trouble').hidden")
        tab.choose("[data-well=b] input", [photos[0]])
        tab.until("!document.getElementById('trouble').hidden")
        assert tab.run("document.getElementById('trouble').textContent") == (
            "notes <b>.jpg: not a JPEG, PNG or WebP photo"
        )
        assert tab.run("document.getElementById('likeness').hidden")
        tab.choose("[data-well=a] input", [photos[1]])
        tab.until("!document.getElementById('likeness').hidden")
        assert tab.run("document.getElementById('trouble').hidden")
