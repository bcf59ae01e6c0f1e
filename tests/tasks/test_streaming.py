"""Speech that is transcribed while it comes in."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict

import numpy as np
import pytest

from tasks.told import TEXTS, Sound, Told, spoken
from wavconformer import (
    AudioError,
    BeamSettings,
    EndOfUtterance,
    FinalWords,
    PartialWords,
    StreamingTranscriber,
    Word,
    load_audio,
)
from wavconformer.lm.kneser_ney import estimate
from wavconformer.tasks import transcribe as transcribing

RATE = 16_000


@pytest.fixture
def told(transcriber, monkeypatch) -> Told:
    monkeypatch.setattr(transcribing, "voice_detector", lambda kind, rate: None if kind == "off" else Sound())
    return Told(transcriber.processor)


@pytest.fixture(scope="module")
def joined() -> np.ndarray:
    """Texts as the told model hears them, with pauses of a second between."""
    random = np.random.default_rng(0)
    pause = np.zeros(RATE, np.float32)
    return np.concatenate([pause, *(part for text in TEXTS for part in (spoken(text, random), pause))])


@pytest.fixture(scope="module")
def voices(sample_texts) -> np.ndarray:
    """Two of the sample recordings, with pauses."""
    pause = np.zeros(RATE, np.float32)
    return np.concatenate([pause, *(part for path in list(sample_texts)[:2] for part in (load_audio(path), pause))])


def events_of(live: StreamingTranscriber, audio: np.ndarray, size: int = 1_600) -> list:
    """All events of a stream that comes in chunks of this size."""
    events = []
    for start in range(0, len(audio), size):
        events += live.feed(audio[start : start + size])
    return events + live.close()


def finals(events: list) -> list:
    return [event.segment for event in events if isinstance(event, FinalWords)]


@pytest.mark.parametrize("size", [1, 7, 512, 1_600, 50_000, 10_000_000])
def test_final_words_do_not_depend_on_the_chunks(told, joined, size):
    texts = TEXTS[:2] if size == 1 else TEXTS
    if size == 1:  # so that it is quick: up to the middle of the pause after the second
        joined = joined[: np.flatnonzero(joined == 0)[round(2.5 * RATE)]]
    live = StreamingTranscriber(told)
    events = events_of(live, joined, size)
    assert " ".join(segment.text for segment in finals(events)) == " ".join(texts)
    assert finals(events) == list(told.stream(joined, sampling_rate=RATE, **asdict(live.cutting)))
    ends = [event for event in events if isinstance(event, EndOfUtterance)]
    assert len(ends) == len(texts)
    assert live.heard == len(joined) / RATE
    last = [event for event in events if event.kind != "partial"][-1]
    assert last is ends[-1]
    assert ends[-1].end == finals(events)[-1].end


@pytest.mark.parametrize(
    ("vad", "windows"), [("silero", {}), ("energy", {"window_seconds": 4.0, "context_seconds": 1.0})]
)
def test_final_words_are_those_of_the_offline_path(transcriber, voices, vad, windows):
    live = StreamingTranscriber(transcriber, vad=vad, **windows)
    found = finals(events_of(live, voices))
    # Each window alone, as here; together they give the same words, to float error.
    assert found == list(transcriber.stream(voices, sampling_rate=RATE, batch_seconds=0.1, **asdict(live.cutting)))
    assert len([word for segment in found for word in segment.words]) > 8


def test_words_are_final_before_the_utterance_ends(told):
    audio = spoken("TEN TONE A NOTE EAT " * 20, np.random.default_rng(0))
    events = events_of(StreamingTranscriber(told), audio)
    delays = [event.heard - word.end for event in events if event.kind == "final" for word in event.words]
    assert len(audio) > 20 * RATE
    assert max(delays) < 2.0
    assert [event.kind for event in events].count("end") == 1


def test_partial_words_come_first_and_are_what_is_not_final(told, joined):
    events = events_of(StreamingTranscriber(told, window_seconds=4, partial_seconds=0.3), joined)
    place = 0
    for number, text in enumerate(TEXTS):
        end = next(at for at in range(place, len(events)) if events[at].kind == "end")
        partials = [event for event in events[place:end] if event.kind == "partial"]
        assert partials, number
        assert all(text.startswith(partial.text[:-1]) for partial in partials)
        place = end + 1
    assert not any(
        isinstance(one, PartialWords) for one in events_of(StreamingTranscriber(told, partial_seconds=None), joined)
    )


def test_the_model_runs_a_bounded_time_for_a_second_of_audio(told, monkeypatch):
    audio = spoken("TEN TONE A NOTE EAT " * 40, np.random.default_rng(0))
    heard: list[float] = []
    scores = told.log_probs_of
    monkeypatch.setattr(
        told, "log_probs_of", lambda waves, *rest: heard.append(len(waves[0]) / RATE) or scores(waves, *rest)
    )
    for settings, each in (
        ({}, 8 + 0.9 + 0.5),
        ({"window_seconds": 5, "context_seconds": 1, "lookahead_seconds": None}, 1 + 7.5 + 1.1),
    ):
        heard.clear()
        events_of(StreamingTranscriber(told, partial_seconds=0.6, **settings), audio)
        assert max(heard) <= each
        assert len(heard) <= len(audio) / RATE / 0.5 + 1


def test_memory_is_bounded_in_endless_speech_and_silence(told):
    speech = spoken("TEN TONE A NOTE EAT " * 6, np.random.default_rng(0))
    babble = np.full(10 * RATE, 0.05, np.float32)  # one letter, that goes on for ever
    babble[::2] *= -1
    most = 8 + 0.9 + 0.5 + 1.0
    for vad in ("auto", "off"):
        for block in (speech, np.zeros(10 * RATE, np.float32), babble):
            live = StreamingTranscriber(told, vad=vad, partial_seconds=5)
            held = waiting = 0
            for _ in range(round(75 * RATE / len(block))):
                for start in range(0, len(block), RATE):
                    live.feed(block[start : start + RATE])
                    held = max(held, live.held)
                    waiting = max(waiting, sum(len(one.log_probs) for one in live._utterances._joiner._waiting))
            assert held <= most
            assert waiting <= 3_050
            assert live.heard > 60


@pytest.mark.parametrize("vad", ["silero", "energy"])
def test_silence_and_noise_give_nothing(transcriber, vad, random):
    noise = random.standard_normal(8 * RATE).astype(np.float32)
    live = StreamingTranscriber(transcriber, vad=vad)
    for level in (0.0, 0.001, 0.1, 0.0):
        assert events_of_open(live, level * noise) == []
    assert live.close() == []
    assert live.heard == 32


def events_of_open(live: StreamingTranscriber, audio: np.ndarray) -> list:
    return [event for start in range(0, len(audio), 1_600) for event in live.feed(audio[start : start + 1_600])]


def test_digital_silence_gives_nothing_without_a_detector(transcriber):
    live = StreamingTranscriber(transcriber, vad="off")
    assert events_of(live, np.zeros(5 * RATE, np.float32)) == []


def test_what_waits_is_final_when_digital_silence_follows(told):
    """Without a detector there is no pause to tell of it."""
    audio = np.concatenate([spoken("TO A TEE", np.random.default_rng(0)), np.zeros(3 * RATE, np.float32)])
    live = StreamingTranscriber(told, vad="off", context_seconds=0, lookahead_seconds=0)
    assert " ".join(event.text for event in events_of_open(live, audio) if event.kind == "final") == "TO A TEE"


def test_closing_twice_gives_nothing_more(told):
    audio = spoken("TEN", np.random.default_rng(0))
    live = StreamingTranscriber(told)
    assert [event.kind for event in live.feed(audio)] == []
    assert [event.kind for event in live.close()] == ["final", "end"]
    assert live.close() == []
    with pytest.raises(ValueError, match="The stream was closed"):
        live.feed(audio)
    assert StreamingTranscriber(told).close() == []


@pytest.mark.parametrize("vad", ["auto", "off"])
def test_a_stream_of_next_to_nothing(transcriber, vad):
    field, hop = transcriber.model.config.receptive_field, transcriber.model.config.hop_length
    for count in (0, 1, field - 1, field, field + hop - 1):
        live = StreamingTranscriber(transcriber, vad=vad, partial_seconds=0.01)
        assert events_of(live, np.linspace(-0.5, 0.5, count, dtype=np.float32)) == [], count


@pytest.mark.parametrize("kind", [np.int16, np.float64])
def test_other_rates_and_types_are_converted(told, joined, kind):
    from wavconformer.audio.decode import load_audio as resample

    fast = resample(joined, source_rate=RATE, sampling_rate=48_000)
    scaled = np.round(fast * 32_767).astype(np.int16) if kind is np.int16 else fast.astype(kind)
    live = StreamingTranscriber(told, sampling_rate=48_000)
    found = finals(events_of(live, scaled, 4_800))
    assert found == list(told.stream(scaled, sampling_rate=48_000, **asdict(live.cutting)))
    assert live.heard == pytest.approx(len(joined) / RATE, abs=1e-3)
    assert found == finals(events_of(StreamingTranscriber(told, sampling_rate=48_000), scaled, 333))


def test_a_bad_chunk_is_refused_and_the_stream_goes_on(told, joined):
    live = StreamingTranscriber(told)
    half = len(joined) // 2
    events = live.feed(joined[:half])
    bad = joined[half : half + 100].copy()
    bad[50] = np.inf
    with pytest.raises(AudioError, match=rf"The stream: at {(half + 50) / RATE:.3f} s a sample is NaN or infinite"):
        live.feed(bad)
    with pytest.raises(ValueError, match="one dimension"):
        live.feed(joined[:100].reshape(2, 50))
    with pytest.raises(TypeError, match="not complex64"):
        live.feed(joined[:100].astype(np.complex64))
    with pytest.raises(TypeError, match="numpy arrays"):
        live.feed([0.0, 0.1])
    events += live.feed(joined[half:]) + live.close()
    assert " ".join(segment.text for segment in finals(events)) == " ".join(TEXTS)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sampling_rate": 0}, ValueError, "must be positive, not 0"),
        ({"partial_seconds": 0}, ValueError, "partial_seconds is 0"),
        ({"partial_seconds": float("nan")}, ValueError, "partial_seconds is nan"),
        ({"window_seconds": 0.1}, ValueError, "window_seconds is 0.1"),
        ({"lookahead_seconds": -1}, ValueError, "lookahead_seconds is -1"),
        ({"vad": "ears"}, ValueError, "vad is 'ears'"),
        ({"windows": 3}, TypeError, "windows"),
    ],
)
def test_arguments_that_cannot_be_used(transcriber, arguments, error, message):
    with pytest.raises(error, match=message):
        StreamingTranscriber(transcriber, **arguments)


def test_a_decoder_of_the_streams_own(transcriber, voices, monkeypatch):
    lm = estimate((line.split() for line in ["SET AN ALARM FOR TWENTY THREE MINUTES", "SEVEN EIGHT FOUR"]), 3).model
    beam = transcriber.beam_decoder(lm, hotwords={"EIGHT": 5.0}, settings=BeamSettings(20))
    live = StreamingTranscriber(transcriber, decoder=beam)
    found = finals(events_of(live, voices))
    assert " ".join(segment.text for segment in found).startswith("SET AN ALARM FOR TWENTY THREE MINUTES SEVEN SEVEN")
    monkeypatch.setattr(transcriber, "decoder", beam)
    assert found == list(transcriber.stream(voices, sampling_rate=RATE, batch_seconds=0.1, **asdict(live.cutting)))


def test_words_that_were_none_are_taken_back(told, joined):
    def doubtful(log_probs, first_frame=0):
        return (Word("HM", 0.0, 0.1),) if len(log_probs) < 40 else ()

    live = StreamingTranscriber(told, decoder=doubtful, partial_seconds=0.2, window_seconds=4)
    events = events_of(live, np.concatenate([spoken("NEAT TEA TO EAT", np.random.default_rng(0)), joined[:RATE]]))
    assert [(event.kind, event.text) for event in events] == [("partial", "HM"), ("partial", "")]


def test_streams_in_several_threads_share_a_transcriber(transcriber, voices):
    parts = [voices[: 4 * RATE], voices[4 * RATE :], voices[2 * RATE : 6 * RATE]]
    expected = {number: finals(events_of(StreamingTranscriber(transcriber), part)) for number, part in enumerate(parts)}
    assert all(expected.values())
    found: dict[int, list] = {}
    together = threading.Barrier(len(parts), timeout=60)

    def work(number: int) -> None:
        together.wait()
        found[number] = finals(events_of(StreamingTranscriber(transcriber), parts[number]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_one_stream_may_be_closed_from_another_thread(told, joined):
    live = StreamingTranscriber(told)
    refused = threading.Event()

    def feed() -> None:
        try:
            while True:
                live.feed(joined[:3_200])
        except ValueError:
            refused.set()

    thread = threading.Thread(target=feed)
    thread.start()
    live.close()
    thread.join(timeout=30)
    assert refused.is_set()


def test_events_are_plain_in_json(told, joined):
    events = events_of(StreamingTranscriber(told), joined)
    plain = [json.loads(json.dumps(event.as_dict())) for event in events]
    assert {one["type"] for one in plain} == {"partial", "final", "end"}
    final = next(one for one in plain if one["type"] == "final")
    assert final["words"][0]["start"] == final["start"]
    assert final["text"] == " ".join(word["text"] for word in final["words"])
    assert all(one["heard"] <= len(joined) / RATE for one in plain)
