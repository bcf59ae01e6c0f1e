"""Live streams over a web socket."""

from __future__ import annotations

import io
import json
import threading
import time
from contextlib import ExitStack

import av
import numpy as np
import pytest
from tests.serve.servers import running, wait_for
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from wavconformer import load_audio
from wavconformer.tasks.events import FinalWords
from wavconformer.tasks.streaming import StreamingTranscriber

KEY = "a-key-of-the-tests"


@pytest.fixture(scope="module")
def server(transcriber, tmp_path_factory):
    with running(transcriber, tmp_path_factory.mktemp("jobs"), keys=(KEY,), streams=2, stream_minutes=0.5) as server:
        yield server


def opened(server, **options):
    return connect(server.url.replace("http", "ws") + "/v1/live", proxy=None, **options)


class Client:
    """A live stream, seen by its client."""

    def __init__(self, server, **first):
        self._stack = ExitStack()
        self.socket = self._stack.enter_context(opened(server))
        self.send({"api_key": KEY, **first})

    def close(self):
        self._stack.close()

    def send(self, content):
        self.socket.send(content if isinstance(content, bytes) else json.dumps(content))

    def next(self):
        return json.loads(self.socket.recv(timeout=60))

    def rest(self):
        """All events to the last, and the code that the server closed with."""
        events = []
        while True:
            try:
                events.append(self.next())
            except ConnectionClosed as closed:
                return events, closed.rcvd.code

    def error(self):
        events, code = self.rest()
        return events[-1]["error"]["code"], code


@pytest.fixture
def client(server):
    made = []

    def make(**first):
        made.append(Client(server, **first))
        return made[-1]

    yield make
    for one in made:
        one.close()
    wait_for(lambda: not len(server.service.streams))


def check(events, code, text):
    assert code == 1000
    kinds = [event["type"] for event in events]
    assert (kinds[0], kinds[-1]) == ("ready", "done")
    assert set(kinds) <= {"ready", "partial", "final", "end", "done"}
    finals = [event for event in events if event["type"] == "final"]
    assert " ".join(event["text"] for event in finals) == text
    words = [word for event in finals for word in event["words"]]
    assert all(0 <= word["start"] < word["end"] < 4 and 0 < word["probability"] <= 1 for word in words)
    return kinds


def heard(transcriber, samples, rate, hotwords=None):
    """What the same samples give without a server."""
    decoder = transcriber.beam_decoder(hotwords=hotwords) if hotwords else None
    stream = StreamingTranscriber(transcriber, sampling_rate=rate, decoder=decoder)
    events = [*stream.feed(samples), *stream.close()]
    text = " ".join(event.text for event in events if isinstance(event, FinalWords))
    assert text.startswith("SET A " if hotwords else "SET A TIMER")
    return text


@pytest.mark.parametrize("kind", ["pcm_s16le", "pcm_f32le"])
def test_words_come_while_the_sound_does(client, transcriber, sample, kind):
    waveform = load_audio(sample)
    stream = client(format=kind, sample_rate=16_000)
    assert stream.next() == {"type": "ready", "model": "tiny-en"}
    samples = np.round(waveform * 32767).astype("<i2") if kind == "pcm_s16le" else waveform.astype("<f4")
    data = samples.tobytes()
    half = len(data) // 2 + 1  # within a sample
    stream.send(data[:half])
    first = stream.next()  # before the sound has ended
    assert first["type"] in ("partial", "final")
    stream.send(data[half:])
    stream.send({"type": "end"})
    events, code = stream.rest()
    check([{"type": "ready"}, first, *events], code, heard(transcriber, samples, 16_000))
    assert events[-1]["duration"] == pytest.approx(len(waveform) / 16_000, abs=0.01)


def test_another_rate_and_hot_words(client, transcriber, sample):
    waveform = load_audio(sample, sampling_rate=48_000)
    stream = client(format="pcm_f32le", sample_rate=48_000)
    stream.send(waveform.astype("<f4").tobytes())
    stream.send({"type": "end"})
    plain = heard(transcriber, waveform, 48_000)
    check(*stream.rest(), plain)
    stream = client(format="pcm_f32le", sample_rate=48_000, hotwords=["TIGER=500"])
    stream.send(waveform.astype("<f4").tobytes())
    stream.send({"type": "end"})
    hot = heard(transcriber, waveform, 48_000, {"TIGER": 500.0})
    check(*stream.rest(), hot)
    assert hot != plain  # so heavy a word overrules what is heard


@pytest.mark.parametrize("container", ["webm", "ogg"])
def test_opus_of_a_browser(client, transcriber, sample, container):
    waveform = load_audio(sample, sampling_rate=48_000)
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        encoder = output.add_stream("libopus", rate=48_000, layout="mono")
        for start in range(0, len(waveform) - 960, 960):
            frame = av.AudioFrame.from_ndarray(waveform[None, start : start + 960], format="flt", layout="mono")
            frame.rate = 48_000
            frame.pts = start
            output.mux(encoder.encode(frame))
        output.mux(encoder.encode(None))
    data = file.getvalue()
    stream = client(format="opus")
    for start in range(0, len(data), 1000):
        stream.send(data[start : start + 1000])
    stream.send({"type": "end"})
    check(*stream.rest(), heard(transcriber, load_audio(data), 16_000))


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ({"api_key": "wrong"}, "invalid_api_key"),
        ({"api_key": None}, "invalid_api_key"),
        ({"model": "gpt-5"}, "model_not_found"),
        ({"format": "mp3"}, "invalid_value"),
        ({"sample_rate": 1}, "invalid_value"),
        ({"what": 1}, "unknown_parameter"),
        ({"target_lang": "fra"}, "invalid_value"),
        ({"hotwords": ["ПРИВЕТ"]}, "invalid_value"),
    ],
)
def test_a_first_message_that_can_t_be(client, first, code):
    assert client(**first).error() == (code, 1008)


def test_messages_that_can_t_be(client, server, monkeypatch):
    stream = client()
    stream.send([1])
    assert stream.error() == ("invalid_body", 1008)
    stream = client()
    stream.socket.send("no json")
    assert stream.error() == ("invalid_body", 1008)
    stream = client(format="opus")
    stream.send(b"no sound at all" * 100)
    stream.send({"type": "end"})
    assert stream.error() == ("invalid_audio", 1008)
    stream = client(format="pcm_f32le")
    stream.send(np.full(16_000, np.nan, "<f4").tobytes())
    assert stream.error() == ("invalid_audio", 1008)
    with opened(server) as socket:
        socket.send(b"sound")
        assert json.loads(socket.recv())["error"]["code"] == "invalid_body"


def test_who_says_nothing_is_given_up(client, server, monkeypatch):
    monkeypatch.setattr("wavconformer.serve.live._SILENT_SECONDS", 0.1)
    monkeypatch.setattr("wavconformer.serve.live._FIRST_SECONDS", 0.1)
    assert client().error() == ("too_slow", 1008)
    with opened(server) as socket:
        assert json.loads(socket.recv())["error"]["code"] == "invalid_body"


def test_a_stream_is_so_long_at_most(client):
    stream = client(format="pcm_s16le")
    threading.Thread(target=lambda: [stream.send(bytes(320_000)) for _ in range(4)], daemon=True).start()
    assert stream.error() == ("audio_too_long", 1009)


def test_so_many_streams_at_once(client, server):
    streams = [client() for _ in range(2)]
    assert all(stream.next()["type"] == "ready" for stream in streams)
    assert client().error() == ("busy", 1013)
    streams[0].close()
    wait_for(lambda: len(server.service.streams) == 1)
    assert client().next()["type"] == "ready"


def test_pages_of_other_sites_open_nothing(server):
    with pytest.raises(InvalidStatus, match="403"), opened(server, origin="https://evil.example"):
        pass


def test_a_server_without_streams(start):
    with start(streams=0) as server:
        stream = Client(server)
        assert stream.error() == ("not_available", 1008)
        stream.close()


def test_a_server_that_stops_gives_the_words_that_it_has_heard(start, transcriber, sample):
    samples = np.round(load_audio(sample) * 32767).astype("<i2")
    with start() as server:
        stream = Client(server)
        stream.send(samples.tobytes())  # and no end
        ready, first = stream.next(), stream.next()
        server.server.should_exit = True
        events, code = stream.rest()
        assert (events[-1].pop("reason"), code) == ("stopping", 1012)
        check([ready, first, *events], 1000, heard(transcriber, samples, 16_000))
        stream.close()


def test_a_server_that_stops_waits_no_longer_than_it_may(start, sample):
    with start(grace_seconds=2.2) as server:
        server.service.batcher.scores = lambda waveforms, name, language, work: [
            time.sleep(0.01) or work.check() for _ in range(10_000)
        ]
        stream = Client(server)
        stream.send(np.round(load_audio(sample) * 32767).astype("<i2").tobytes())
        assert stream.next()["type"] == "ready"
        server.server.should_exit = True
        assert stream.error() == ("stopping", 1013)
        assert len(server.service.streams) == 0
        stream.close()
