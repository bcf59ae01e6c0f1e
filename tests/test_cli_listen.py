"""`wavconformer listen`."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import types

import numpy as np
import pytest

from wavconformer import EndOfUtterance, FinalWords, PartialWords, Word, load_audio
from wavconformer.audio import microphone
from wavconformer.cli import listen as listening
from wavconformer.decoding.transcript import Segment
from wavconformer.tasks.streaming import StreamingTranscriber

SAID = "SET A TIMER FOR TWENTY THREE SECONDS"
LONG = ("--window-seconds", 20)  # what this checkpoint hears best


@pytest.fixture(scope="module")
def pcm() -> bytes:
    """The sample recording, a pause, and the sample again, as raw 16-bit samples."""
    from wavconformer.files import ASSETS

    audio = load_audio(ASSETS / "samples" / "timer.flac")
    pause = np.zeros(16_000, np.float32)
    return np.round(np.concatenate([audio, pause, audio, pause]) * 32_767).astype("<i2").tobytes()


@pytest.fixture
def stdin(monkeypatch):
    """Sets what standard input holds."""

    def pipe(content: bytes | io.BytesIO) -> None:
        buffer = io.BytesIO(content) if isinstance(content, bytes) else content
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=buffer))

    return pipe


class Interrupted(io.BytesIO):
    """A pipe in which somebody presses Ctrl-C once nothing more comes."""

    def read1(self, size: int = -1, /) -> bytes:
        content = super().read1(size)
        if not content:
            os.kill(os.getpid(), signal.SIGINT)
        return content


def test_a_line_for_each_utterance(run, pcm, stdin):
    stdin(pcm)
    assert run("listen", "-", *LONG) == (0, f"{SAID}\n{SAID}\n", "")


def test_a_compressed_recording_is_refused_in_one_line(run, sample):
    code, out, err = run("listen", sample)
    assert (code, out) == (1, "")
    assert err.startswith("This is a recording") and err.count("\n") == 1


def test_raw_samples_of_another_kind(run, pcm, tmp_path):
    """Stereo, floats, 48 kHz, from a file."""
    mono = np.frombuffer(pcm, "<i2")[: len(pcm) // 4].astype(np.float32) / 32_768
    fast = load_audio(mono, source_rate=16_000, sampling_rate=48_000)
    path = tmp_path / "stereo.raw"
    path.write_bytes(np.stack([fast, fast], axis=1).astype("<f4").tobytes())
    options = ("--rate", 48_000, "--channels", 2, "--sample-format", "f32le")
    assert run("listen", path, *options, *LONG) == (0, f"{SAID}\n", "")


def test_an_object_for_each_event(run, pcm, stdin):
    stdin(pcm)
    code, out, _ = run("listen", "--raw", "--format", "json", "--partial-seconds", 0)
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [event["type"] for event in events].count("end") == 2
    assert {event["type"] for event in events} == {"final", "end"}
    assert all(event["words"][0]["text"] == event["text"].split()[0] for event in events if event["type"] == "final")
    stdin(pcm)
    _, out, _ = run("listen", "--raw", "--format", "json")
    assert '"type": "partial"' in out
    assert [line for line in map(json.loads, out.splitlines()) if line["type"] == "final"] != []


def test_a_decoder_with_hot_words(run, pcm, stdin):
    stdin(pcm[: len(pcm) // 2])
    assert run("listen", "-", "--hotword", "TIMERS=60", *LONG)[1].startswith("SET A TIMERS")


def test_silence_is_told_of(run, stdin):
    stdin(bytes(32_000 * 3))
    assert run("listen", "-") == (0, "", "No words in 3.0 s of audio.\n")


def test_what_was_heard_before_a_fault_is_printed(run, pcm, stdin):
    stdin(pcm[: len(pcm) // 2] + b"!")
    code, out, err = run("listen", "-", *LONG)
    assert (code, out) == (1, f"{SAID}\n")
    assert "end in the middle of one: 1 bytes" in err
    stdin(pcm[: len(pcm) // 2] + b"!")
    with pytest.raises(Exception, match="end in the middle"):
        run("--debug", "listen", "-")


def test_interrupting_prints_what_was_open(run, pcm, stdin):
    stdin(Interrupted(pcm[: len(pcm) // 2 - 32_000]))  # no pause has ended it
    before = signal.getsignal(signal.SIGINT)
    assert run("listen", "-", *LONG) == (0, f"{SAID}\n", "")
    assert signal.getsignal(signal.SIGINT) is before


def test_interrupting_in_the_middle_of_work_loses_nothing(run, pcm, stdin, monkeypatch):
    feed = StreamingTranscriber.feed

    def interrupted(self, chunk):
        signal.raise_signal(signal.SIGINT)
        return feed(self, chunk)

    monkeypatch.setattr(StreamingTranscriber, "feed", interrupted)
    stdin(pcm)  # three reads' worth: one is heard
    code, out, err = run("listen", "-")
    assert (code, err) == (0, "")
    assert out.startswith("SET A")
    assert len(out) < len(SAID) + 2


def test_interrupting_twice_ends_everything(run, pcm, stdin, monkeypatch):
    def twice(self, chunk):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(StreamingTranscriber, "feed", twice)
    stdin(pcm)
    code, out, err = run("listen", "-")
    assert code != 0
    assert out == ""
    assert "Traceback" not in err


def test_a_reader_that_goes_away_is_no_traceback(pcm, tmp_path):
    path = tmp_path / "samples.raw"
    path.write_bytes(pcm)
    command = [sys.executable, "-m", "wavconformer", "listen", str(path), "--format", "json", "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
    assert err == b""
    assert process.returncode == 1


class Recorder:
    """A microphone of which some is lost."""

    def __init__(self, device, rate) -> None:
        self.device, self.rate, self.lost, self.closed = device, 48_000, 0.0, False
        opened.append(self)

    def __iter__(self):
        yield np.zeros(4_800, np.float32)
        self.lost = 1.5
        yield np.zeros(4_800, np.float32)
        yield np.zeros(4_800, np.float32)

    def close(self) -> None:
        self.closed = True


opened: list[Recorder] = []


@pytest.mark.parametrize(
    ("option", "device"), [((), None), (("--microphone", "3"), 3), (("--microphone", "Head"), "Head")]
)
def test_the_microphone(run, monkeypatch, option, device):
    opened.clear()
    monkeypatch.setattr(microphone, "Microphone", Recorder)
    code, out, err = run("listen", *option)
    assert (code, out) == (0, "")
    assert err.count("1.5 s of sound are lost") == 1
    assert "No words in 0.3 s of audio." in err
    assert (opened[0].device, opened[0].closed) == (device, True)


def test_no_microphone_is_one_line(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    code, out, err = run("listen")
    assert (code, out) == (1, "")
    assert "pip install 'wavconformer[listen]'" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-", "--microphone", "Headset"], 2, "--microphone names a device"),
        (["x.raw", "--raw"], 2, "--raw reads standard input"),
        (["-", "--lm", "none", "--alpha", "1"], 2, "--lm none is without one"),
        (["-", "--hotword", "A=B"], 2, "is not TEXT or TEXT=WEIGHT"),
        (["-", "--sample-format", "mp3"], 2, "mp3"),
        (["missing.raw"], 1, "missing.raw"),
        (["-", "--model", "no/where/at/all"], 1, "no/where/at/all"),
    ],
)
def test_bad_options_are_said_in_a_line(run, stdin, arguments, code, message):
    stdin(b"")
    found, out, err = run("listen", *arguments)
    assert (found, out) == (code, "")
    assert message in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err


def word(text: str, start: float) -> Word:
    return Word(text, start, start + 0.2, 0.9)


def final(*words: Word) -> FinalWords:
    return FinalWords(Segment.of(words), 9.0)


def test_partial_words_stand_in_place(capsys, monkeypatch):
    monkeypatch.setattr(listening.shutil, "get_terminal_size", lambda: os.terminal_size((12, 24)))
    screen = listening._Screen()
    screen.show([PartialWords((word("SAT", 0),), 0.5), final(word("SET", 0))])
    screen.show([PartialWords((word("AN", 1), word("ELEPHANT", 1)), 1.0), final(word("AN", 1), word("ALARM", 1.5))])
    screen.show([PartialWords((), 2.0), EndOfUtterance(0, 1.7, 2.0)])
    screen.show([final(word("一二三四五六", 3)), EndOfUtterance(3, 3.2, 4.0)])
    assert screen.has_words
    shown = capsys.readouterr().out.replace("\r\x1b[K", "<").replace("\x1b[2m", "{").replace("\x1b[0m", "}")
    lines = ["<{SAT}<SET<SET {AN ELEP}<SET AN", "<ALARM<ALARM<ALARM", "<一二三四五六<一二三四五六", ""]
    assert shown == "\n".join(lines)


def test_an_utterance_that_does_not_end_is_broken(capsys):
    lines = listening._Lines()
    lines.show([PartialWords((word("X", 0),), 0.5)])
    lines.show([final(word(f"W{number}", 6.0 * number)) for number in range(6)])
    lines.finish()
    lines.finish()
    assert capsys.readouterr().out == "W0 W1 W2 W3\nW4 W5\n"
