"""A server, as a user starts it, and Debian's Chromium before it, whose microphone hears a file."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from wavconformer import load_audio
from wavconformer.files import samples

SHOTS = Path(__file__).parent / "screenshots"
expect.set_options(timeout=60_000)  # the machine may be busy with other things


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[str]:
    """The address of a server of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "wavconformer", "serve", "--port", str(port), "--folder", str(folder), *arguments]
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                assert process.poll() is None, "the server ended"
                try:
                    urllib.request.urlopen(f"{address}/readyz").close()
                    break
                except OSError:
                    time.sleep(0.2)
            yield address
        finally:
            process.send_signal(signal.SIGTERM)


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("jobs")) as address:
        yield address


def write_wav(path: Path, waveform: Any) -> Path:
    """A waveform (S,) at 16 kHz as a wav file of 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((waveform * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="session")
def timer() -> Path:
    """A shipped sample: SET A TIMER FOR TWENTY THREE SECONDS."""
    return next(path for path in samples() if path.stem == "timer")


@pytest.fixture(scope="session")
def long_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 s: long enough for a job."""
    pieces: list[Any] = []
    for path in samples():
        pieces += [load_audio(path), np.zeros(12_000, np.float32)]
    return write_wav(tmp_path_factory.mktemp("long") / "long.wav", np.resize(np.concatenate(pieces), 70 * 16_000))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory, timer: Path) -> Iterator[Browser]:
    heard = np.concatenate([np.zeros(16_000, np.float32), load_audio(timer), np.zeros(32_000, np.float32)])
    microphone = write_wav(tmp_path_factory.mktemp("microphone") / "microphone.wav", heard)
    chromium = shutil.which("chromium") or "/usr/bin/chromium"
    flags = [
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}%noloop",
        "--autoplay-policy=no-user-gesture-required",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=flags, chromium_sandbox=hasattr(os, "getuid") and os.getuid() != 0
        )
        yield browser
        browser.close()


class Visitor:
    """A browser's tab before the page. Whatever it asks for elsewhere, or complains of, fails the test."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.page: Page = context.new_page()
        self.address, self.requests, self.complaints = address, [address], list[str]()
        # The context sees what workers ask for too. What the policy keeps from being sent at all, the console tells.
        context.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", lambda socket: self.requests.append(socket.url))
        self.page.on("console", lambda line: line.type == "error" and self.complaints.append(line.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        # The driver catches file choosers from when somebody asks for them, a moment later: too late for the Enter key.
        self.page.on("filechooser", lambda chooser: None)
        self.page.goto(address)

    def open(self, path: Path) -> None:
        """Chooses a file, and waits for its words."""
        self.page.set_input_files("#file", path)
        expect(self.page.locator("#text .word").first).to_be_visible()

    @property
    def words(self) -> list[str]:
        return [text.strip() for text in self.page.locator("#text .word").all_text_contents()]

    @property
    def seconds(self) -> float:
        """Where the recording is."""
        return float(self.page.evaluate("document.querySelector('audio').currentTime"))

    def shoot(self, name: str) -> None:
        """A picture to look at."""
        SHOTS.mkdir(exist_ok=True)
        self.page.wait_for_timeout(300)
        self.page.screenshot(path=SHOTS / f"{name}.png")

    def check(self) -> None:
        origin = self.address.removeprefix("http://")
        # A blob is the recording that the page has in its memory.
        strays = [
            url
            for url in self.requests
            if url.removeprefix("blob:").split("/")[2] != origin and not url.startswith("data:")
        ]
        assert not strays
        assert not [line for line in self.complaints if "the server responded with a status of 4" not in line]


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Callable[..., Visitor]]:
    """Opens the page; the options are those of a browser's context."""
    visitors: list[tuple[BrowserContext, Visitor]] = []

    def visit(at: str = address, **options: Any) -> Visitor:
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 820}, "locale": "en-GB", **options})
        visitors.append((context, Visitor(context, at)))
        return visitors[-1][1]

    yield visit
    for context, visitor in visitors:
        visitor.check()
        context.close()
