"""Recordings that are longer than a window, and whatever can be wrong with them."""

from __future__ import annotations

import io
import wave
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest

import wavconformer
from tasks.told import CONFIG, TEXTS, Sound, Told, spoken
from wavconformer import AudioError, AudioWarning, Cutting, load_audio
from wavconformer.tasks import recording as recordings
from wavconformer.tasks import transcribe as transcribing

RATE = 16_000
# So short that the tests are quick; everything longer than 6 s is long.
SHORT = {"window_seconds": 4.0, "context_seconds": 0.5}


def wav(audio: np.ndarray, rate: int = RATE) -> bytes:
    """The samples as a 16-bit WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(np.round(audio * 32_767).astype("<i2").tobytes())
    return file.getvalue()


@pytest.fixture
def told(transcriber, monkeypatch) -> Told:
    monkeypatch.setattr(transcribing, "voice_detector", lambda kind, rate: None if kind == "off" else Sound())
    return Told(transcriber.processor)


@pytest.fixture(scope="module")
def joined() -> tuple[np.ndarray, list[str], list[float]]:
    """Texts as they are spoken above with pauses between them, and where each begins, in seconds."""
    random = np.random.default_rng(0)
    parts, starts = [], []
    for text in TEXTS * 4:
        parts.append(np.zeros(CONFIG.hop_length * int(random.integers(45, 150)), np.float32))
        starts.append(sum(map(len, parts)) / RATE)
        parts.append(spoken(text, random))
    return np.concatenate(parts), TEXTS * 4, starts


def test_a_long_recording_is_all_of_its_parts_at_their_places(told, joined):
    audio, texts, starts = joined
    transcript = told(audio, sampling_rate=RATE, **SHORT)
    assert transcript.text == " ".join(texts)
    assert [segment.text for segment in transcript.segments] == texts
    assert [segment.start for segment in transcript.segments] == pytest.approx(starts, abs=1e-3)
    assert transcript.duration == len(audio) / RATE
    assert transcript.problems == ()
    assert {word.probability for word in transcript.words} == {round(float(np.exp(np.float32(-0.1))), 4)}


@pytest.mark.parametrize("vad", ["silero", "energy"])
def test_a_recording_of_voices_is_parted_at_its_pauses(transcriber, sample_texts, vad):
    random = np.random.default_rng(0)
    parts, starts, alone = [], [], []
    for path in sample_texts:
        parts.append(np.zeros(round(random.uniform(1, 3) * RATE), np.float32))
        starts.append(sum(map(len, parts)) / RATE)
        parts.append(load_audio(path))
        alone += transcriber(path).text.split()
    transcript = transcriber(np.concatenate(parts), sampling_rate=RATE, vad=vad, **SHORT)
    begins = [segment.start for segment in transcript.segments]
    assert all(min(abs(begin - start) for begin in begins) < 0.5 for start in starts)
    same = SequenceMatcher(None, alone, transcript.text.split(), autojunk=False).get_matching_blocks()
    assert sum(block.size for block in same) > 0.7 * len(alone)


def test_every_kind_of_source_gives_the_same(told, joined, tmp_path):
    audio, texts, _ = joined
    path = tmp_path / "long.wav"
    path.write_bytes(wav(audio))
    expected = told(path, **SHORT)
    assert expected.text == " ".join(texts)
    with path.open("rb") as file:
        assert told(file, **SHORT) == expected
    assert told(path.read_bytes(), **SHORT) == expected
    as_read = load_audio(path)
    assert told(as_read, sampling_rate=RATE, **SHORT) == expected
    blocks = (as_read[start : start + 7_000] for start in range(0, len(as_read), 7_000))
    assert told(blocks, sampling_rate=RATE, **SHORT) == expected
    assert told(list(np.array_split(as_read, 5)), sampling_rate=RATE, **SHORT) == expected
    assert wavconformer.transcribe(path, model=told, **SHORT) == expected


def test_batches_change_nothing(transcriber, sample_texts):
    audio = np.concatenate([load_audio(path) for path in list(sample_texts)[:3]])
    alone = transcriber(audio, sampling_rate=RATE, batch_seconds=0.1, **SHORT)
    together = transcriber(audio, sampling_rate=RATE, batch_seconds=60, **SHORT)
    assert [(word.text, word.start, word.end) for word in alone.words] == [
        (word.text, word.start, word.end) for word in together.words
    ]


def test_a_recording_of_one_window_is_heard_whole(transcriber, sample):
    recording = recordings.open_recording(sample, RATE, longest=30)
    assert isinstance(recording, recordings.Recording)
    whole = transcriber.together([recording])[0]
    assert transcriber(sample) == transcriber(sample, **SHORT) == whole


@pytest.mark.parametrize("window", [1.0, 2.5])
@pytest.mark.parametrize(
    "strides",
    [
        {},
        # 30 ms, as tiny-en; then a frame that sees no more than itself.
        {"conv_dim": (8, 8, 8), "conv_kernel": (400, 3, 3), "conv_stride": (160, 1, 3)},
        {"conv_dim": (8,), "conv_kernel": (400,), "conv_stride": (400,)},
    ],
)
def test_no_word_is_cut_or_doubled_at_a_seam(transcriber, window, strides):
    """Without a pause, and cut wherever it falls: decoding all frames at once is the truth."""
    random = np.random.default_rng(0)
    told = Told(transcriber.processor, **strides)
    labels = random.choice([0, 0, 4, 5, 6, 7, 8], size=3_000)
    audio = np.repeat(labels, told.model.config.hop_length).astype(np.float32) / 100
    found = told(audio, sampling_rate=RATE, vad="off", window_seconds=window, context_seconds=0.2)
    (log_probs,) = told.log_probs_of([audio], "")
    expected = told.decoder(log_probs)
    assert [(word.text, word.start, word.end) for word in found.words] == [
        (word.text, word.start, word.end) for word in expected
    ]
    assert len(expected) > 200


def test_context_brings_a_cut_recording_nearer_to_the_whole(transcriber, sample_texts):
    """Windows that end in the middle of speech, against all of it at once."""
    audio = np.concatenate([load_audio(path) for path in list(sample_texts)[:3]])
    whole = transcriber(audio, sampling_rate=RATE, window_seconds=30).text
    differences = []
    for context in (0.0, 2.0):
        text = transcriber(audio, sampling_rate=RATE, vad="off", window_seconds=1, context_seconds=context).text
        differences.append(1 - SequenceMatcher(None, whole, text, autojunk=False).ratio())
    assert differences[1] < differences[0] / 2


# Streams


def test_segments_come_while_the_recording_is_read(told, joined):
    audio, texts, _ = joined
    asked = []

    def blocks():
        for number, start in enumerate(range(0, len(audio), RATE)):
            asked.append(number)
            yield audio[start : start + RATE]
        while True:  # it never ends
            asked.append(-1)
            yield np.zeros(RATE, np.float32)

    stream = told.stream(blocks(), sampling_rate=RATE, batch_seconds=1, **SHORT)
    assert next(stream).text == texts[0]
    assert len(asked) <= 12
    assert stream.duration <= 12
    assert [next(stream).text for _ in texts[1:]] == texts[1:]
    stream.close()
    assert list(stream) == []


@pytest.mark.parametrize("how", ["close", "drop", "unbegun"])
def test_a_reader_that_stops_leaves_no_file_open(told, joined, tmp_path, monkeypatch, how):
    path = tmp_path / "long.wav"
    path.write_bytes(wav(joined[0]))
    opened: list[io.BufferedReader] = []
    real = Path.open

    def remembered(self, *arguments, **keywords):
        opened.append(real(self, *arguments, **keywords))
        return opened[-1]

    monkeypatch.setattr(Path, "open", remembered)
    monkeypatch.setattr(recordings, "BLOCK_SECONDS", 1.0)
    stream = told.stream(path, **SHORT)
    if how != "unbegun":
        next(stream)
    assert not opened[-1].closed
    if how == "drop":
        del stream
    else:
        stream.close()
    assert opened[-1].closed


def test_arguments_that_cannot_be_used(transcriber, joined):
    audio = joined[0]
    with pytest.raises(TypeError, match="windw_seconds"):
        transcriber(audio, sampling_rate=RATE, windw_seconds=3)
    with pytest.raises(ValueError, match="vad is 'loud'"):
        transcriber.stream(audio, sampling_rate=RATE, vad="loud")
    with pytest.raises(ValueError, match="batch_seconds is 0"):
        transcriber(audio, sampling_rate=RATE, batch_seconds=0)
    with pytest.raises(ValueError, match="sampling_rate goes with an array"):
        transcriber(iter([audio]))
    with pytest.raises(TypeError, match="Blocks of samples are numpy arrays"):
        transcriber(iter([[0.0, 0.1]]), sampling_rate=RATE)
    with pytest.raises(ValueError, match="one that is loaded has its own"):
        wavconformer.transcribe(audio, model=transcriber, sampling_rate=RATE, device="cpu")


# Many


def test_many_take_long_ones_among_short_ones(told, joined):
    audio, texts, _ = joined
    progress = []
    short = spoken("NOTE", np.random.default_rng(0))
    results = told.many(
        [short, audio, short],
        sampling_rate=RATE,
        on_progress=lambda number, seconds: progress.append((number, seconds)),
        **SHORT,
    )
    assert [result.text for result in results] == ["NOTE", " ".join(texts), "NOTE"]
    assert {number for number, _ in progress} == {1}
    assert [seconds for _, seconds in progress] == sorted(seconds for _, seconds in progress)
    assert progress[-1][1] <= len(audio) / RATE


def test_a_long_one_that_fails_takes_no_other_with_it(told, joined):
    bad = joined[0].copy()
    bad[-100] = np.nan
    short = spoken("NOTE", np.random.default_rng(0))
    results = [*told.many([short, bad, short], sampling_rate=RATE, on_error="return", **SHORT)]
    assert [type(result).__name__ for result in results] == ["Transcript", "AudioError", "Transcript"]
    results = told.many([short, bad, short], sampling_rate=RATE, **SHORT)
    assert next(results).text == "NOTE"
    with pytest.raises(AudioError, match="NaN"):
        next(results)


# Bad input


def test_a_file_that_breaks_off_is_heard_up_to_there(told, joined, tmp_path):
    audio, texts, starts = joined
    path = tmp_path / "cut.wav"
    path.write_bytes(wav(audio)[: 44 + 2 * round((starts[10] - 0.3) * RATE)])
    with pytest.warns(AudioWarning, match=r"cut\.wav.*cut off or damaged; \d+\.\d+ s could be decoded"):
        transcript = told(path, **SHORT)
    assert transcript.text == " ".join(texts[:10])
    (problem,) = transcript.problems
    assert "its header speaks of" in problem
    assert transcript.as_dict()["problems"] == [problem]
    path.write_bytes(wav(audio[: 5 * RATE])[:-40_000])  # a short one says so too
    with pytest.warns(AudioWarning):
        assert len(told(path).problems) == 1


def test_an_error_in_the_middle_comes_after_what_was_heard(told, joined):
    audio, texts, starts = joined

    class Torn(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 2 * starts[12] * RATE:
                raise OSError("the disk is gone")
            return super().read(size)

    stream = told.stream(Torn(wav(audio)), **SHORT)
    heard = []
    with pytest.raises(AudioError, match="the disk is gone"):
        for segment in stream:
            heard.append(segment.text)
    assert 3 < len(heard) < len(texts)
    assert heard[:-1] == texts[: len(heard) - 1]

    def blocks():
        yield audio[: 8 * RATE]
        raise KeyError("of the caller's own")

    stream = told.stream(blocks(), sampling_rate=RATE, **SHORT)
    assert next(stream).text == texts[0]
    with pytest.raises(KeyError, match="of the caller's own"):
        list(stream)


@pytest.mark.parametrize("vad", ["silero", "energy"])
def test_hours_of_silence_and_noise_have_no_words(transcriber, vad):
    """Minutes, here: it is the same windows over and over."""
    noise = np.random.default_rng(0).standard_normal(10 * RATE).astype(np.float32)

    def blocks():
        for level in (0.0, 0.0, 0.001, 0.001, 0.1, 0.1, 0.1, 0.001, 0.0):
            yield level * noise

    transcript = transcriber(blocks(), sampling_rate=RATE, vad=vad)
    assert (transcript.text, transcript.words, transcript.segments) == ("", (), ())
    assert transcript.duration == 90


@pytest.fixture
def talkative(transcriber):
    """The model, but so that it makes words of any noise: blanks are less likely."""
    bias, blank = transcriber.model.lm_head.bias.data, transcriber.model.blank
    before = bias[blank].clone()
    bias[blank] -= 4
    yield transcriber
    bias[blank] = before


@pytest.mark.parametrize("vad", ["silero", "energy", "auto"])
def test_some_seconds_of_noise_have_no_words_either(talkative, vad, sample):
    noise = (0.1 * np.random.default_rng(0).standard_normal(8 * RATE)).astype(np.float32)
    assert talkative(noise, sampling_rate=RATE, vad="off").words  # what the model makes of it
    assert talkative(noise, sampling_rate=RATE, vad=vad).text == ""
    (noisy,) = talkative.many([noise], sampling_rate=RATE, vad=vad)
    assert (noisy.text, noisy.duration) == ("", 8)
    assert talkative(sample, vad=vad) == talkative(sample, vad="off")


def test_nobody_asks_where_the_model_is_sure_of_a_word(transcriber, sample, monkeypatch):
    expected = transcriber(sample)
    monkeypatch.setattr("wavconformer.audio.vad.voice_detector", lambda *_: pytest.fail("asked"))
    assert transcriber(sample) == expected


def test_digital_silence_has_no_words_without_a_detector(transcriber):
    assert transcriber(np.full(30 * RATE, 0.2, np.float32), sampling_rate=RATE, vad="off", **SHORT).text == ""


def test_a_rate_that_changes_in_the_middle(transcriber, sample_texts, tmp_path):
    """Two MPEG streams of different rates, one after the other, as some recorders write them."""
    import av

    voices = np.concatenate([load_audio(path) for path in sample_texts])
    parts = []
    for rate, piece in ((RATE, voices[: 6 * RATE]), (24_000, voices[6 * RATE :])):
        at_rate = load_audio(piece, source_rate=RATE, sampling_rate=rate)
        file = io.BytesIO()
        with av.open(file, "w", format="adts") as container:
            stream = container.add_stream("aac", rate=rate, layout="mono")
            frame = av.AudioFrame.from_ndarray(at_rate[None], format="fltp", layout="mono")
            frame.sample_rate = rate
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)
        parts.append(file.getvalue())
    path = tmp_path / "two.aac"
    path.write_bytes(b"".join(parts))
    transcript = transcriber(path, **SHORT)
    assert transcript.duration == pytest.approx(len(voices) / RATE, abs=0.3)
    assert transcript == transcriber(load_audio(path), sampling_rate=RATE, **SHORT)
    assert transcript.words[-1].end > len(voices) / RATE - 1


def test_a_bit_rate_that_varies(transcriber, sample, tmp_path):
    """MP3 whose frames are as long as what is in them, without a header that says how many there are."""
    import av

    voice = load_audio(sample)
    audio = np.concatenate([voice, np.zeros(3 * RATE, np.float32), voice])
    path = tmp_path / "variable.mp3"
    with av.open(str(path), "w", format="mp3", options={"write_xing": "0"}) as container:
        stream = container.add_stream("libmp3lame", rate=RATE, layout="mono")
        stream.codec_context.qscale = 4
        frame = av.AudioFrame.from_ndarray(audio[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        packets = [*stream.encode(frame), *stream.encode(None)]
        assert len({packet.size for packet in packets}) > 3
        for packet in packets:
            container.mux(packet)
    transcript = transcriber(path, window_seconds=4, context_seconds=0.5, vad="silero")
    assert transcript.duration == pytest.approx(len(audio) / RATE, abs=0.2)
    first, second = transcript.segments
    assert first.text == second.text
    assert second.start - first.start == pytest.approx(3 + len(voice) / RATE, abs=0.1)


def test_music_has_no_words_where_the_detector_knows_it(transcriber, random):
    """Chords of strings that are plucked, four a second, over a drum: minutes are the same bars over and over."""
    time = np.arange(RATE // 4) / RATE
    notes = []
    for number in range(4 * 30):
        root = 110 * 2 ** (random.integers(0, 12) / 12)
        chord = sum(
            np.sin(2 * np.pi * root * part * time) / part for step in (1, 1.25, 1.5) for part in (step, 2 * step)
        )
        drum = random.standard_normal(len(time)) * np.exp(-60 * time) * (number % 2)
        notes.append((chord * np.exp(-6 * time) + drum) * 0.1)
    audio = np.concatenate(notes).astype(np.float32)
    assert transcriber(audio, sampling_rate=RATE, vad="silero", **SHORT).words == ()


def test_scores_that_are_no_numbers_end_a_long_one_too(joined):
    import torch

    broken = wavconformer.load_model(device="cpu")
    with torch.no_grad():
        broken.model.lm_head.bias[3] = torch.nan
    with pytest.raises(wavconformer.CheckpointError, match="NaN or infinite scores"):
        broken(joined[0], sampling_rate=RATE, vad="off", **SHORT)


def test_the_defaults_are_those_of_the_command():
    from typer.main import get_command

    from wavconformer.cli import app

    options = {option.name: option.default for option in get_command(app).commands["transcribe"].params}
    for name in ("window_seconds", "context_seconds", "pause_seconds"):
        assert options[name] == getattr(Cutting(), name)
    assert options["vad"] == Cutting().vad
