"""The server under load, under attack, live, and against its own description.

    python -m benchmarks.serve load    [--seconds 120] [--clients 8] [--burst 64]
                                       [--recordings FOLDER] [--length SECONDS] [--model MODEL]
    python -m benchmarks.serve hostile [--uploads 1000] …
    python -m benchmarks.serve live    [--streams 4] [--seconds 180] …
    python -m benchmarks.serve schema  [--examples 100]        (pip install schemathesis)

Each starts `wavconformer serve` as a process of its own on a free port. FOLDER holds recordings; by default those that
ship with the package; --length joins them to such of about so many seconds. `load` measures requests and seconds of
audio a second against the same recordings through `Transcriber.many` in another process, before and after; then many
clients at once, and whether it recovers. `hostile` sends what no server should get, a good request after each, and
looks for memory, files and descriptors that are left. `live` sends recordings, joined, at the pace of speech, and
measures how long after its end a word is final.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import av
import numpy as np
import psutil
from websockets.sync.client import connect

from wavconformer import load_audio
from wavconformer.files import samples

RATE = 16_000
PATH = "/v1/audio/transcriptions"
DIRECT = """
import json, sys, time
from wavconformer import load_model, Transcript
files = json.loads(sys.stdin.readline())
transcriber = load_model(sys.argv[1] or None, device="cpu")
list(transcriber.many(files[:4]))
begun, busy, seconds = time.monotonic(), time.process_time(), 0.0
for transcript in transcriber.many(files):
    seconds += transcript.duration
print(seconds / (time.monotonic() - begun), seconds / (time.process_time() - busy))
"""


class Server:
    """`wavconformer serve`, as a process with a folder for all that it writes."""

    def __init__(self, folder: Path, model: str | None, *options: str) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        command = [sys.executable, "-m", "wavconformer", "serve", "--port", "0", "--folder", str(folder / "jobs")]
        self.process = subprocess.Popen(
            [*command, *(("--model", model, "--name", "tiny-en") if model else ()), *options],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(self.temporary)},
        )
        assert self.process.stderr is not None
        self.faults: list[str] = []
        while "listening" not in (line := self.process.stderr.readline()):
            assert line, "the server didn't start"
        self.port: int = json.loads(line)["port"]
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if '"level": "error"' in line:
                self.faults.append(line)

    @property
    def memory(self) -> float:
        """MiB that it and its processes of the model have in memory; what they have in common counts once."""
        ours = [psutil.Process(self.process.pid), *self._processes(decode=False)]
        return sum(process.memory_full_info().pss for process in ours) / (1 << 20)

    def _processes(self, *, decode: bool) -> list[psutil.Process]:
        """Those that decode, or those of the model."""
        found = psutil.Process(self.process.pid).children()
        return [process for process in found if decode == ("wavconformer.serve.decoder" in process.cmdline())]

    @property
    def busy(self) -> float:
        """Seconds of the CPU that it and its decoders have taken, those that have ended included."""
        server = psutil.Process(self.process.pid)
        return sum(server.cpu_times()[:4]) + sum(sum(process.cpu_times()[:2]) for process in server.children())

    @property
    def decoders(self) -> str:
        """How many there are, and what they have in memory."""
        sizes = [process.memory_full_info().uss / (1 << 20) for process in self._processes(decode=True)]
        return f"{len(sizes)} decoders with {sum(sizes):.0f} MiB"

    @property
    def descriptors(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    @property
    def files(self) -> list[str]:
        return [str(path) for path in self.temporary.rglob("*")]

    def post(self, body: bytes, timeout: float = 120) -> tuple[int, bytes]:
        """The answer to one request, over a connection of its own."""
        with closing(self.connection(timeout)) as connection:
            return ask(connection, body)

    def connection(self, timeout: float = 120) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


def ask(connection: HTTPConnection, body: bytes) -> tuple[int, bytes]:
    connection.request("POST", PATH, body, {"Content-Type": "multipart/form-data; boundary=x"})
    answer = connection.getresponse()
    return answer.status, answer.read()


@contextmanager
def server(model: str | None, *options: str) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        it = Server(Path(folder), model, *options)
        try:
            yield it
        finally:
            it.stop()
            print(f"errors in the log: {len(it.faults)}")
            print("".join(it.faults[:3]))


def form(content: bytes, name: str = "a.flac", model: str = "tiny-en") -> bytes:
    return (
        f'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model}\r\n--x\r\n'
        f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    ).encode() + content + b"\r\n--x--\r\n"  # fmt: skip


def load(arguments: argparse.Namespace, files: list[Path]) -> None:
    bodies = [form(path.read_bytes(), path.name) for path in files]
    lengths = [len(load_audio(path)) / RATE for path in files]

    def direct() -> tuple[float, float]:
        """Seconds of audio a second, and a second of the CPU."""
        # As many recordings as take a while.
        many = [str(path) for path in files] * max(1, round(120 / sum(lengths)))
        command = [sys.executable, "-c", DIRECT, arguments.model or ""]
        done = subprocess.run(command, input=json.dumps(many) + "\n", capture_output=True, text=True, check=True)
        rate, busy = map(float, done.stdout.split())
        return rate, busy

    before = direct()
    with server(arguments.model) as it:
        latencies: list[float] = []
        statuses: Counter[int] = Counter()
        heard = 0.0
        lock = threading.Lock()
        with ThreadPoolExecutor(arguments.clients) as pool:  # so that all decoders are there
            list(pool.map(it.post, [bodies[number % len(bodies)] for number in range(3 * arguments.clients)]))
        begun, busy = time.monotonic(), it.busy
        until = begun + arguments.seconds

        def client(number: int) -> None:
            nonlocal heard
            draw = random.Random(number)
            with closing(it.connection()) as connection:  # kept, as clients of the API keep it
                while time.monotonic() < until:
                    choice = draw.randrange(len(bodies))
                    asked = time.monotonic()
                    status, _ = ask(connection, bodies[choice])
                    with lock:
                        latencies.append(time.monotonic() - asked)
                        statuses[status] += 1
                        heard += lengths[choice] * (status == 200)

        memory: list[float] = []
        threads = [threading.Thread(target=client, args=(number,)) for number in range(arguments.clients)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            memory.append(it.memory)
            time.sleep(arguments.seconds / 40)
        took, busy = time.monotonic() - begun, it.busy - busy
        print(
            f"{arguments.clients} clients for {took:.0f} s: {len(latencies) / took:.1f} requests a second, {statuses}"
        )
        ordered = sorted(latencies)
        print(f"latency p50 {statistics.median(ordered):.3f} s, p95 {ordered[int(len(ordered) * 0.95)]:.3f} s")
        quarter = len(memory) // 4
        sizes = f"at a quarter {memory[quarter]:.0f}, at the end {memory[-1]:.0f}, most {max(memory):.0f}"
        print(f"memory MiB: {sizes}; {it.decoders}")

        barrier, burst = threading.Barrier(arguments.burst), Counter[object]()

        def at_once(number: int) -> None:
            barrier.wait()
            try:
                status: object = it.post(bodies[number % len(bodies)])[0]
            except (OSError, HTTPException) as error:
                status = type(error).__name__
            with lock:
                burst[status] += 1

        threads = [threading.Thread(target=at_once, args=(number,)) for number in range(arguments.burst)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(f"{arguments.burst} at once: {dict(burst)}; then {it.post(bodies[0])[0]}")
    after = direct()
    for what, rate, first, last in (
        ("audio seconds a second", heard / took, before[0], after[0]),
        ("audio seconds a second of the CPU", heard / busy, before[1], after[1]),
    ):
        ratio = 2 * rate / (first + last)
        print(f"{what}: {rate:.1f}; through many: {first:.1f} before, {last:.1f} after; ratio {ratio:.2f}")


def hostile(arguments: argparse.Namespace, files: list[Path]) -> None:
    draw = random.Random(0)
    good = form(files[0].read_bytes())
    seeds = [*(path.read_bytes() for path in files[:4]), *_encoded(files[0])]
    bombs = [_bomb(hours) for hours in (1, 5)]

    def fuzzed() -> bytes:
        content = bytearray(draw.choice(seeds))
        for _ in range(draw.randint(1, 40)):
            content[draw.randrange(min(len(content), draw.choice((16, 64, 512, 1 << 30))))] = draw.randrange(256)
        return bytes(content)

    def truncated() -> bytes:
        content = draw.choice(seeds)
        return content[: draw.randrange(len(content))]

    kinds: dict[str, Callable[[], bytes]] = {
        "fuzzed": fuzzed,
        "truncated": truncated,
        "zero length": lambda: b"",
        "bomb": lambda: draw.choice(bombs),
        "wrong type": lambda: (
            draw.choice([b"%PDF-1.7\n", b"PK\x03\x04", b"GIF89a", b"#!/bin/sh\n", b"#EXTM3U\nfile:///etc/passwd\n"])
            + draw.randbytes(draw.randrange(1 << 16))
        ),
        "noise": lambda: draw.randbytes(draw.randrange(1 << 18)),
    }
    ways = [*kinds, "slow", "gone", "not a form", "not http"]
    with server(arguments.model, "--max-minutes", "10") as it:
        expected = it.post(good)
        for body in (*[good] * 8, form(_joined(files))):  # what is loaded at its first use is there then
            it.post(body)
        before, files_before = (it.memory, it.descriptors), it.files
        answers: Counter[tuple[str, object]] = Counter()
        bad = 0
        for number in range(arguments.uploads):
            way = ways[number % len(ways)]
            answers[way, _attack(it, way, kinds, draw)] += 1
            bad += it.post(good) != expected
            if number % 100 == 99:
                print(
                    f"{number + 1}: memory {it.memory:.0f} MiB, {it.descriptors} descriptors, {it.decoders}", flush=True
                )
        time.sleep(17)  # slow senders are given up after 15 s
        print(f"good requests that weren't answered as before: {bad} of {arguments.uploads}")
        print(f"memory MiB before {before[0]:.0f}, after {it.memory:.0f}; descriptors {before[1]}, {it.descriptors}; "
              f"temporary files that are new: {sorted({*it.files} - {*files_before})}")  # fmt: skip
        for (way, answer), count in sorted(answers.items(), key=str):
            print(f"  {way}: {answer} × {count}")


def _attack(it: Server, way: str, kinds: dict[str, Callable[[], bytes]], draw: random.Random) -> object:
    name = draw.choice(["a.wav", "a.flac", "a.mp3", "a.mp4", "../../etc/passwd", "\x00", "a" * 5000, ""])
    if way in kinds:
        try:
            return it.post(form(kinds[way](), name.replace("\x00", "%00")))[0]
        except (OSError, HTTPException) as error:
            return type(error).__name__
    body = form(draw.randbytes(100_000))
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    connection = socket.create_connection(("127.0.0.1", it.port), timeout=30)
    if way == "not http":
        connection.sendall(draw.randbytes(2000))
    elif way == "not a form":
        connection.sendall(head.encode() + b"Content-Length: 2000\r\n\r\n" + draw.randbytes(2000))
    else:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[: draw.randrange(len(body))])
    if way == "slow":  # says no more, and is left open
        _SLOW.append(connection)
        return "left open"
    if way == "gone":
        connection.close()
        return "left"
    try:
        return connection.recv(1 << 16)[9:12].decode()
    except OSError as error:
        return type(error).__name__
    finally:
        connection.close()


_SLOW: list[socket.socket] = []


def _lengthened(files: list[Path], seconds: float, folder: Path) -> list[Path]:
    """The recordings joined, with pauses of 0.2 s, to such of half to one and a half times so many seconds."""
    draw = random.Random(0)
    rest = draw.sample(files, len(files))
    made: list[Path] = []
    while rest:
        wanted, pieces = draw.uniform(0.5, 1.5) * seconds * RATE, [load_audio(rest.pop())]
        while rest and sum(map(len, pieces)) < wanted:
            pieces += [np.zeros(RATE // 5, np.float32), load_audio(rest.pop())]
        made.append(folder / f"{len(made):04}.flac")
        with av.open(made[-1], "w") as output:
            stream = output.add_stream("flac", rate=RATE, layout="mono")
            samples = np.round(np.concatenate(pieces)[None] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.rate = RATE
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    return made


def _joined(files: list[Path]) -> bytes:
    """Two minutes of recordings as one: long enough to be cut at pauses."""
    import io
    import wave

    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setparams((1, 2, RATE, 0, "NONE", ""))
        waveform = np.resize(np.concatenate([load_audio(path) for path in files[:20]]), 120 * RATE)
        output.writeframes(np.round(waveform * 32767).astype("<i2").tobytes())
    return file.getvalue()


def _encoded(path: Path) -> list[bytes]:
    """A recording in other formats, for their parsers."""
    import io

    found = []
    waveform = load_audio(path, sampling_rate=48_000)
    for container, codec in (
        ("wav", "pcm_s16le"),
        ("ogg", "libopus"),
        ("mp4", "aac"),
        ("matroska", "flac"),
        ("mp3", "mp3"),
    ):
        file = io.BytesIO()
        with av.open(file, "w", format=container) as output:
            stream = output.add_stream(codec, rate=48_000, layout="mono")
            for start in range(0, len(waveform) - 960, 960):
                block = np.round(waveform[None, start : start + 960] * 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
                frame.rate, frame.pts = 48_000, start
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        found.append(file.getvalue())
    return found


def _bomb(hours: int) -> bytes:
    """Silence of hours in a small file, that doesn't say how long it is."""
    import io

    file = io.BytesIO()
    with av.open(file, "w", format="flac") as output:
        stream = output.add_stream("flac", rate=8_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 80_000), np.int16), format="s16", layout="mono")
        frame.rate = 8_000
        for _ in range(hours * 360):
            frame.pts = None
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    content = bytearray(file.getvalue())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    return bytes(content)


def live(arguments: argparse.Namespace, files: list[Path]) -> None:
    pause = np.zeros(RATE, np.float32)
    delays: list[float] = []
    seconds: list[float] = []
    with server(arguments.model, "--streams", str(arguments.streams)) as it:

        def stream(number: int) -> None:
            draw = random.Random(number)
            pieces: list[np.ndarray] = []
            while sum(map(len, pieces)) < arguments.seconds * RATE:
                pieces += [load_audio(draw.choice(files)), pause]
            data = (np.concatenate(pieces)[: arguments.seconds * RATE] * 32767).astype("<i2").tobytes()
            with connect(f"ws://127.0.0.1:{it.port}/v1/live", proxy=None) as client:
                client.send(json.dumps({"format": "pcm_s16le", "sample_rate": RATE}))
                json.loads(client.recv())
                begun = time.monotonic()

                def speak() -> None:
                    step = RATE // 10
                    for block in range(0, len(data), 2 * step):
                        time.sleep(max(0.0, begun + (block / 2 + step) / RATE - time.monotonic()))
                        client.send(data[block : block + 2 * step])
                    client.send(json.dumps({"type": "end"}))

                threading.Thread(target=speak).start()
                for message in client:
                    event = json.loads(message)
                    now = time.monotonic() - begun
                    if event["type"] == "final":
                        delays.extend(now - word["end"] for word in event["words"])
                    if event["type"] == "done":
                        seconds.append(event["duration"])

        threads = [threading.Thread(target=stream, args=(number,)) for number in range(arguments.streams)]
        memory = it.memory
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ordered = sorted(delays)
        print(f"{arguments.streams} streams, {seconds} s, {len(ordered)} words")
        if ordered:
            print(f"final after p50 {statistics.median(ordered):.2f} s, p95 {ordered[int(len(ordered) * 0.95)]:.2f} s, "
                  f"most {ordered[-1]:.2f} s; memory {memory:.0f} to {it.memory:.0f} MiB")  # fmt: skip


def schema(arguments: argparse.Namespace, files: list[Path]) -> None:
    program = shutil.which("schemathesis", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if program is None:
        sys.exit("pip install schemathesis")
    with server(arguments.model) as it:
        subprocess.run(
            [
                program, "run", f"http://127.0.0.1:{it.port}/openapi.json", "--checks", "not_a_server_error",
                "--max-examples", str(arguments.examples), "--seed", "1",
            ],
            check=True,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cases = {"load": load, "hostile": hostile, "live": live, "schema": schema}
    parser.add_argument("case", choices=cases)
    parser.add_argument("--model")
    parser.add_argument("--recordings", type=Path)
    parser.add_argument("--length", type=float, help="of recordings in seconds: they are joined to about that")
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--burst", type=int, default=64)
    parser.add_argument("--uploads", type=int, default=1000)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--examples", type=int, default=100)
    arguments = parser.parse_args()
    arguments.seconds = arguments.seconds or {"live": 180}.get(arguments.case, 120)
    folder = arguments.recordings
    files = (
        samples() if folder is None else sorted(path for path in folder.iterdir() if path.suffix in (".flac", ".wav"))
    )
    with tempfile.TemporaryDirectory() as made:
        if arguments.length is not None:
            files = _lengthened(files, arguments.length, Path(made))
        cases[arguments.case](arguments, files)


if __name__ == "__main__":
    main()
