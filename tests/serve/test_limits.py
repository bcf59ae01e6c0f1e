"""What a server withstands: too many, too much, too long, too slow, and those who leave."""

from __future__ import annotations

import io
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np
import pytest
from tests.serve.servers import wait_for

from wavconformer.errors import AudioError
from wavconformer.serve.decoders import _Process

TEXT = "SET A TIMER FOR TWENTY THREE SECONDS"
PATH = "/v1/audio/transcriptions"


@pytest.fixture
def gate():
    """Lets a server's model answer nobody before it is opened."""
    opened = threading.Event()

    def guard(server):
        words = server.service.batcher.words

        def gated(waveforms, name, language, work):
            while not opened.wait(0.01):
                work.check()
            return words(waveforms, name, language, work)

        server.service.batcher.words = gated
        return opened

    yield guard
    opened.set()


def is_well(server, sample):
    answer = server.post(PATH, sample, model="tiny-en")
    return answer.status_code == 200 and answer.json()["text"] == TEXT


def raw(server, sample, *, part=1.0):
    """A connection that has sent a request, or part of its body."""
    body = (
        b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\ntiny-en\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.flac"\r\n\r\n'
        + sample.read_bytes()
        + b"\r\n--x--\r\n"
    )
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    connection.sendall(head.encode() + body[: round(len(body) * part)])
    return connection


def test_who_finds_no_place_is_told_when_to_come_again(start, gate, sample):
    with start(concurrency=1, queue=1) as server, ThreadPoolExecutor(2) as pool:
        opened = gate(server)
        inside = [pool.submit(is_well, server, sample) for _ in range(2)]
        wait_for(lambda: len(server.service.admission) == 2)
        answer = server.post(PATH, sample, model="tiny-en")
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "busy")
        assert answer.json()["error"]["type"] == "rate_limit_error"
        assert int(answer.headers["retry-after"]) >= 1
        assert server.post(PATH, sample, model="tiny-en", stream="true").status_code == 429
        assert "wavconformer_requests_inside 2.0" in server.http.get("/metrics").text
        opened.set()
        assert all(answer.result() for answer in inside)
        assert is_well(server, sample)


def test_bodies_have_so_much_room_together(start, sample):
    with start(upload_megabytes=0.01) as server:
        answer = server.post(PATH, sample, model="tiny-en")
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "busy")
        assert server.service.uploads.held == 0


def test_a_request_has_its_time(start, gate, sample):
    with start(timeout_seconds=0.2) as server:
        gate(server)
        answer = server.post(PATH, sample, model="tiny-en")
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "time_limit")


def test_the_work_of_who_leaves_ends(start, gate, sample):
    with start() as server:
        opened = gate(server)
        connection = raw(server, sample)
        wait_for(lambda: len(server.service.admission) == 1)
        connection.close()
        wait_for(lambda: len(server.service.admission) == 0)
        stream = socket.create_connection(("127.0.0.1", server.port))
        stream.close()
        opened.set()
        assert is_well(server, sample)
        assert server.service.uploads.held == 0


def test_who_leaves_while_sending_leaves_nothing(server, sample):
    raw(server, sample, part=0.5).close()
    wait_for(lambda: server.service.uploads.held > 0 or len(server.service.admission) == 0)
    wait_for(lambda: server.service.uploads.held == 0)
    assert is_well(server, sample)


def test_slow_senders_are_given_up(start, sample, monkeypatch):
    with start(stall_seconds=0.2) as server:
        with raw(server, sample, part=0.5) as connection:
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 408 ")
        monkeypatch.setattr("wavconformer.serve.uploads._GRACE_SECONDS", -1e9)  # as if it had sent for years
        with raw(server, sample, part=0.5) as connection:
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 408 ")
        monkeypatch.undo()
        assert is_well(server, sample)


def test_connections_without_a_request_are_closed(start, monkeypatch):
    monkeypatch.setattr("wavconformer.serve.server.IDLE_SECONDS", 0.2)
    with start() as server, socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHo")
        assert connection.recv(100) == b""


def flac(seconds: int) -> bytearray:
    """Silence, which takes next to nothing."""
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        for _ in range(seconds):
            frame.pts = None
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return bytearray(file.getvalue())


def test_answers_on_a_connection_that_is_kept_wait_for_nothing(server):
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        ours = client.getsockname()
        wait_for(lambda: any(it.client == ours for it in server.server.server_state.connections))
        (theirs,) = [it for it in server.server.server_state.connections if it.client == ours]
        assert theirs.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_small_file_that_holds_hours_is_refused(start, sample):
    bomb = flac(200)
    unsaid = bytearray(bomb)
    unsaid[21] &= 0xF0  # how many samples there are, in 36 bits: unknown
    unsaid[22:26] = bytes(4)
    with start(minutes=1) as server:
        for content in (bomb, unsaid):
            answer = server.post(PATH, bytes(content), model="tiny-en")
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "audio_too_long"), answer.json()
        assert is_well(server, sample)
        assert len(server.service.decoders._idle) == 2  # none had to be ended for it


def test_a_decoder_that_dies_takes_one_request_along(server, sample, monkeypatch):
    ask = _Process.ask

    def die(process, descriptor, asked):
        process._process.kill()
        process._process.wait()
        ask(process, descriptor, asked)

    with monkeypatch.context() as patch:
        patch.setattr(_Process, "ask", die)
        answer = server.post(PATH, sample, model="tiny-en")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_audio")
    assert "decoding it failed" in answer.json()["error"]["message"]
    for process in server.service.decoders._idle:  # those that died while they rested are replaced
        process._process.kill()
        process._process.wait()
    assert is_well(server, sample)
    assert "wavconformer_decoders_ended_total 1.0" in server.http.get("/metrics").text


def test_a_decoder_is_free_once_all_was_read_and_few_are_kept(start, sample, monkeypatch):
    with start() as server, sample.open("rb") as file, server.service.working() as work:
        decoders = server.service.decoders
        with decoders.decode(file.fileno(), "a.flac", 16_000, work, most_seconds=9) as decoding:
            assert len(decoders._idle) == 1
            assert sum(map(len, decoding.blocks)) > 40_000
            assert len(decoders._idle) == 2
        assert len(decoders._idle) == 2
        monkeypatch.setattr("wavconformer.serve.decoders._IDLE", 2)
        decoders.warm(1)
        assert len(decoders._idle) == 2
        assert "wavconformer_decoders_ended_total 0.0" in server.http.get("/metrics").text


def test_a_decoder_that_hangs_is_ended(server, sample, monkeypatch):
    monkeypatch.setattr(_Process, "ask", lambda process, descriptor, asked: None)
    bounds = {"most_seconds": 9, "stall_seconds": 0.2}
    with sample.open("rb") as file, server.service.working() as work:
        decoding = server.service.decoders.decode(file.fileno(), "a.flac", 16_000, work, **bounds)
        with pytest.raises(AudioError, match="takes too long"), decoding:
            pass


def test_a_server_that_stops_lets_requests_finish_and_ends_those_that_don_t(start, gate, sample):
    with ThreadPoolExecutor(2) as pool, start(grace_seconds=20) as server:
        opened = gate(server)
        answer = pool.submit(server.post, PATH, sample, model="tiny-en")
        wait_for(lambda: len(server.service.admission) == 1)
        server.server.should_exit = True
        wait_for(lambda: server.service.stopping)
        opened.set()
        assert answer.result().status_code == 200
    with ThreadPoolExecutor(2) as pool, start(grace_seconds=2.1) as server:
        server.service.batcher.words = lambda waveforms, name, language, work: [
            time.sleep(0.01) or work.check() for _ in range(10_000)
        ]
        answer = pool.submit(server.post, PATH, sample, model="tiny-en")
        wait_for(lambda: len(server.service.admission) == 1)
        server.server.should_exit = True
        assert (answer.result().status_code, answer.result().json()["error"]["code"]) == (503, "stopping")
