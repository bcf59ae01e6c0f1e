"""The process that decodes, run here in a thread."""

from __future__ import annotations

import json
import os
import resource
import socket
import threading
from dataclasses import asdict

import numpy as np
import pytest

from wavconformer import load_audio
from wavconformer.serve import decoder
from wavconformer.serve.decoder import HEADER, Asked


@pytest.fixture
def ask(monkeypatch):
    """Asks a decoder for a file and gives the kinds and the contents of what it says."""
    monkeypatch.setattr(decoder, "_limit", lambda megabytes: None)
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=decoder.main, args=(theirs.detach(), 1.0))
    thread.start()

    def read(size):
        data = b""
        while len(data) < size:
            data += ours.recv(size - len(data))
        return data

    def call(descriptor, most=60.0):
        socket.send_fds(ours, [json.dumps(asdict(Asked("a.flac", 16_000, 0.5, most))).encode()], [descriptor])
        said = []
        while not said or said[-1][0] not in b"ETZ":
            kind, length = HEADER.unpack(read(HEADER.size))
            said.append((kind, read(length)))
        return said

    yield call
    ours.close()
    thread.join()


def test_it_gives_what_load_audio_gives_one_after_the_other(ask, sample):
    for _ in range(2):
        with sample.open("rb") as file:
            (first, *blocks, last) = ask(file.fileno())
        assert (first[0], json.loads(first[1])["duration"]) == (b"I", pytest.approx(2.7235, abs=1e-3))
        assert {kind for kind, _ in blocks} == {b"A"}
        assert last == (b"Z", b"")
        heard = np.concatenate([np.frombuffer(content, np.float32) for _, content in blocks])
        np.testing.assert_array_equal(heard, load_audio(sample))


def test_it_says_what_is_lost_or_wrong(ask, sample, tmp_path, monkeypatch):
    path = tmp_path / "a.flac"
    path.write_bytes(sample.read_bytes()[:-8000])
    with path.open("rb") as file:
        assert b"L" in [kind for kind, _ in ask(file.fileno())]
    path.write_bytes(b"nothing of the kind")
    with path.open("rb") as file:
        *_, (kind, content) = ask(file.fileno())
    assert (kind, content.startswith(b"'a.flac': ")) == (b"E", True)
    with sample.open("rb") as file:
        assert ask(file.fileno(), most=1.0) == [(b"T", b"")]

    def exhausted(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(decoder, "stream_audio", exhausted)
    with sample.open("rb") as file:
        *_, (kind, content) = ask(file.fileno())
    assert (kind, b"more memory" in content) == (b"E", True)


def test_it_reads_from_a_pipe_as_it_comes(ask, sample):
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as ours, os.fdopen(writing, "wb") as theirs:
        threading.Thread(target=lambda: (theirs.write(sample.read_bytes()), theirs.close())).start()
        (first, *blocks, last) = ask(ours.fileno(), most=2.0)
    assert json.loads(first[1]) == {"duration": None}
    assert last[0] == b"T"
    assert blocks


def test_it_bounds_itself(monkeypatch):
    limits = {}
    monkeypatch.setattr(resource, "setrlimit", lambda kind, most: limits.update({kind: most}))
    decoder._limit(100)
    assert limits[resource.RLIMIT_FSIZE] == (0, 0)
    soft, hard = limits[resource.RLIMIT_AS]
    assert soft == hard > 100 << 20
