from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavconformer import Cutting, WavConformerError, load_audio
from wavconformer.audio import vad
from wavconformer.audio.vad import EnergyDetector, SileroDetector, SpeechSpans, voice_detector
from wavconformer.audio.windows import LONGEST, PAD, Window, Windower

RATE, HOP, FIELD = 16_000, 320, 400


class Switched:
    """A detector that knows where speech is."""

    frame = 512

    def __init__(self, speech: list[tuple[float, float]]) -> None:
        self._speech = speech
        self._heard = self._told = 0

    def _probabilities(self, until: int) -> np.ndarray:
        middles = (np.arange(self._told, until) + 0.5) * self.frame / RATE
        self._told = until
        inside = [any(start <= middle < stop for start, stop in self._speech) for middle in middles]
        return np.array(inside, np.float32)

    def feed(self, samples: np.ndarray) -> np.ndarray:
        self._heard += len(samples)
        return self._probabilities(self._heard // self.frame)

    def finish(self) -> np.ndarray:
        return self._probabilities(-(-self._heard // self.frame))


def cut(audio: np.ndarray, cutting: Cutting, detector=None, sizes: list[int] | None = None) -> list[Window]:
    """The windows of a recording that comes in blocks of these sizes, over and over."""
    windower = Windower(cutting, rate=RATE, hop=HOP, field=FIELD, detector=detector)
    windows: list[Window] = []
    place, number = 0, 0
    while place < len(audio):
        size = (sizes or [160_000])[number % len(sizes or [1])]
        windows += windower.feed(audio[place : place + size])
        place, number = place + size, number + 1
    assert windower.heard == len(audio)
    return windows + windower.finish()


def frames_of(window: Window) -> list[int]:
    """Numbers, in the recording, of the frames that are kept of a window."""
    count = (len(window.samples) - FIELD) // HOP + 1
    return list(range(window.offset // HOP, window.offset // HOP + count))[window.kept]


@settings(deadline=None, max_examples=40)
@given(
    seconds=st.floats(3, 60),
    window=st.floats(1, 10),
    context=st.sampled_from([0.0, 0.01, 0.5, 2.0]),
    sizes=st.lists(st.integers(1_000, 100_000), min_size=1, max_size=4),
)
def test_without_a_detector_every_frame_is_there_once(seconds, window, context, sizes):
    audio = np.arange(round(seconds * RATE), dtype=np.float32)  # a sample tells its own number
    cutting = Cutting(window_seconds=window, context_seconds=context)
    windows = cut(audio, cutting, sizes=sizes)
    assert [frame for one in windows for frame in frames_of(one)] == list(range((len(audio) - FIELD) // HOP + 1))
    for one in windows:
        assert one.offset % HOP == one.start % HOP == 0
        assert np.array_equal(one.samples, audio[one.offset : one.offset + len(one.samples)])
        assert one.stop - one.start <= LONGEST * window * RATE
        assert one.start - one.offset <= (context * RATE // HOP + 1) * HOP
        assert frames_of(one)[0] == one.first_frame
    assert [one.closed for one in windows] == [False] * (len(windows) - 1) + [True]


@settings(deadline=None, max_examples=40)
@given(
    spans=st.lists(st.tuples(st.floats(0.05, 4), st.floats(0.15, 12)), min_size=1, max_size=8),
    sizes=st.lists(st.integers(1_000, 200_000), min_size=1, max_size=4),
)
def test_speech_is_in_a_window_and_pauses_are_not(spans, sizes):
    speech, place = [], 0.0
    for pause, length in spans:
        speech.append((place + pause, place + pause + length))
        place += pause + length
    audio = np.random.default_rng(0).standard_normal(round((place + 1) * RATE)).astype(np.float32)
    cutting = Cutting(window_seconds=4, context_seconds=0.5)
    windows = cut(audio, cutting, Switched(speech), sizes)
    kept = [frame for one in windows for frame in frames_of(one)]
    assert kept == sorted(set(kept))
    heard = np.zeros(len(audio) // HOP + 1, bool)
    heard[kept] = True
    for start, stop in speech:
        inner = slice(int((start + 0.032) * RATE) // HOP, int((stop - 0.032) * RATE) // HOP)
        assert heard[inner].all()
    for (_, stop), (start, _) in pairwise(speech):
        if start - stop > cutting.pause_seconds + 0.064:
            edge = PAD + 0.064 + HOP / RATE
            assert not heard[int((stop + edge) * RATE) // HOP + 1 : int((start - edge) * RATE) // HOP].any()
    # The same however it comes in.
    again = cut(audio, cutting, Switched(speech), [len(audio)])
    assert [(one.start, one.stop) for one in again] == [(one.start, one.stop) for one in windows]


@settings(deadline=None, max_examples=40)
@given(
    spans=st.lists(st.tuples(st.floats(0.05, 1), st.floats(0.15, 4)), min_size=1, max_size=8),
    pause=st.sampled_from([0.2, 0.3, 0.5]),
    window=st.sampled_from([0.3, 0.5, 2.0]),
    size=st.integers(100, 5_000),
)
def test_short_windows_are_the_same_however_samples_come(spans, pause, window, size):
    speech, place = [], 0.0
    for silence, length in spans:
        speech.append((place + silence, place + silence + length))
        place += silence + length
    audio = np.random.default_rng(0).standard_normal(round((place + 1) * RATE)).astype(np.float32)
    cutting = Cutting(window_seconds=window, context_seconds=3, lookahead_seconds=0.5, pause_seconds=pause)
    live, whole = (cut(audio, cutting, Switched(speech), [step]) for step in (size, len(audio)))
    assert len(live) == len(whole)
    for one, other in zip(live, whole, strict=True):
        assert (one.offset, one.start, one.stop, one.closed) == (other.offset, other.start, other.stop, other.closed)
        assert np.array_equal(one.samples, other.samples)
        assert one.stop - one.start <= cutting.longest_seconds * RATE
    # Context reaches back to where the speech begins, no further, and forward to what is looked ahead.
    begin = 0
    for before, one in zip([None, *whole], whole, strict=False):
        begin = one.start if before is None or before.closed else begin
        assert one.offset == max(begin, one.start - 3 * RATE)
        if not one.closed:
            assert one.offset + len(one.samples) <= one.stop + RATE // 2


def test_what_is_growing_is_known_before_it_is_a_window():
    audio = np.arange(10 * RATE, dtype=np.float32)
    cutting = Cutting(window_seconds=2, context_seconds=1, lookahead_seconds=0.5)
    windower = Windower(cutting, rate=RATE, hop=HOP, field=FIELD, detector=Switched([(1, 6)]))
    done = 0
    for start in range(0, len(audio), 1_600):
        for window in windower.feed(audio[start : start + 1_600]):
            done = window.stop
        growing = windower.growing()
        if growing is None:
            assert not RATE * 1.2 < start < RATE * 6
            continue
        assert growing.start == done if done else growing.start == pytest.approx(0.8 * RATE, abs=512 + HOP)
        assert growing.stop == windower.heard == growing.offset + len(growing.samples)
        assert growing.start - growing.offset <= RATE
        assert growing.samples[0] == growing.offset
    assert windower.held < 3 * RATE


def test_windows_end_in_pauses_without_context_beyond():
    audio = np.ones(12 * RATE, np.float32)
    speech = [(1.0, 3.0), (3.3, 4.0), (6.0, 8.0)]
    first, second = cut(audio, Cutting(window_seconds=8), Switched(speech))
    assert first.closed
    assert second.closed
    assert first.offset == first.start == pytest.approx((1 - PAD) * RATE, abs=600)
    assert first.stop == pytest.approx((4 + PAD) * RATE, abs=600)
    assert second.start == pytest.approx((6 - PAD) * RATE, abs=600)
    assert len(second.samples) == second.stop - second.offset + FIELD - HOP


def test_speech_without_a_pause_is_cut_at_rest_then_where_it_is_quietest():
    audio = np.ones(30 * RATE, np.float32)
    rests = cut(audio, Cutting(window_seconds=4), Switched([(0, 5.0), (5.3, 30)]))
    assert rests[0].stop == pytest.approx(5.1 * RATE, abs=900)
    assert not rests[0].closed
    assert rests[1].start == rests[0].stop
    assert rests[1].start - rests[1].offset == RATE
    audio[round(5.5 * RATE) : round(5.7 * RATE)] = 0.1
    for detector in (Switched([(0, 30)]), None):
        windows = cut(audio, Cutting(window_seconds=4), detector)
        assert windows[0].stop == pytest.approx(5.6 * RATE, abs=0.1 * RATE)
        assert all(one.stop - one.start <= 6 * RATE for one in windows)


def test_memory_does_not_grow_with_silence_or_speech():
    for speech in ([], [(0.0, 1e6)]):
        windower = Windower(Cutting(), rate=RATE, hop=HOP, field=FIELD, detector=Switched(speech))
        block = np.ones(10 * RATE, np.float32)
        for _ in range(30):
            windower.feed(block)
            assert len(windower._samples) <= 45 * RATE
        assert windower.heard == 300 * RATE


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_seconds": 0.2}, "window_seconds is 0.2"),
        ({"window_seconds": float("nan")}, "window_seconds is nan"),
        ({"context_seconds": -1}, "context_seconds is -1"),
        ({"lookahead_seconds": -1}, "lookahead_seconds is -1"),
        ({"lookahead_seconds": float("inf")}, "lookahead_seconds is inf"),
        ({"pause_seconds": 0.1}, "pause_seconds is 0.1"),
        ({"vad": "best"}, "vad is 'best', but must be one of auto, silero, energy, off"),
    ],
)
def test_settings_that_make_no_windows(settings, message):
    with pytest.raises(ValueError, match=message):
        Cutting(**settings)


@pytest.mark.parametrize("sizes", [[8_000], [160_000]])
def test_long_rests_within_speech_make_no_window_too_long(sizes):
    speech = [(0.5, 3.0), (11.0, 12.0), (20.5, 21.0), (28.0, 29.0)]
    cutting = Cutting(window_seconds=4, pause_seconds=10, context_seconds=0)
    windows = cut(np.zeros(40 * RATE, np.float32), cutting, Switched(speech), sizes)
    assert max(one.stop - one.start for one in windows) <= cutting.longest_seconds * RATE
    assert [one.closed for one in windows] == [False] * (len(windows) - 1) + [True]
    assert all(one.stop == other.start for one, other in pairwise(windows))


# Speech


def test_spans_have_hysteresis_and_forget_clicks():
    spans = SpeechSpans(512, RATE)
    click, word, doubt, silence = [1.0] * 2, [1.0] * 6, [0.4] * 20, [0.0] * 8
    found = spans.feed(np.array([*silence, *click, *silence, *word, *doubt, *word, *silence], np.float32))
    assert found == [(18 * 512, 50 * 512)]
    assert spans.open is None
    assert spans.since == spans.decided == 58 * 512
    assert spans.feed(np.array([1.0] * 3, np.float32)) == []
    assert spans.open is None  # it may be a click yet
    assert spans.since == 58 * 512
    spans.feed(np.array([1.0], np.float32))
    assert spans.open == 58 * 512
    assert spans.finish() == [(58 * 512, 62 * 512)]
    assert spans.finish() == []


def detectors():
    return [SileroDetector(RATE), EnergyDetector(RATE)]


@pytest.mark.parametrize("detector", detectors(), ids=lambda detector: type(detector).__name__)
def test_detectors_hear_speech_and_nothing_else(detector, sample_texts):
    voice = load_audio(next(iter(sample_texts)))
    random = np.random.default_rng(0)
    audio = np.concatenate([np.zeros(3 * RATE, np.float32), voice, np.zeros(4 * RATE, np.float32)])
    audio += 0.001 * random.standard_normal(len(audio)).astype(np.float32)
    found = np.concatenate([*map(detector.feed, np.array_split(audio, 13)), detector.finish()])
    assert len(found) == -(-len(audio) // detector.frame)
    times = (np.arange(len(found)) + 0.5) * detector.frame / RATE
    speaking = found >= vad.SPEECH
    end = 3 + len(voice) / RATE
    assert not speaking[(times < 2.9) | (times > end + 0.1)].any()
    assert speaking[(times > 3.3) & (times < end - 0.3)].mean() > 0.5


@pytest.mark.parametrize("decibels", [60, 20, 15])
def test_loudness_finds_the_speech_that_silero_finds_in_noise_too(decibels, sample_texts):
    random = np.random.default_rng(0)
    pauses = [np.zeros(round(seconds * RATE), np.float32) for seconds in random.uniform(0.8, 1.6, len(sample_texts))]
    voices = [load_audio(path) for path in sample_texts]
    audio = np.concatenate([part for pair in zip(pauses, voices, strict=True) for part in pair])
    loudness = np.sqrt(np.mean(np.square(np.concatenate(voices))))
    noise = loudness * 10 ** (-decibels / 20) * random.standard_normal(len(audio)).astype(np.float32)

    def heard(detector, samples):
        windower = Windower(Cutting(), rate=RATE, hop=320, field=400, detector=detector)
        found = np.zeros(len(samples), bool)
        for window in [*windower.feed(samples), *windower.finish()]:
            found[window.start : window.stop] = True
        return found

    speech, found = heard(SileroDetector(RATE), audio), heard(EnergyDetector(RATE), audio + noise)
    edges = np.flatnonzero(np.diff(speech.astype(int), prepend=0, append=0)).reshape(-1, 2)
    assert all(found[start + 4_000 : end - 4_000].mean() > 0.95 for start, end in edges)  # what stands round it apart
    assert (found & ~speech).mean() < 0.03


@pytest.mark.parametrize("kind", [SileroDetector, EnergyDetector])
@pytest.mark.parametrize("sizes", [[100], [512], [5_000, 7], [200_000]])
def test_detectors_do_not_care_how_samples_come(kind, sizes, sample):
    audio = load_audio(sample)
    whole = kind(RATE)
    expected = np.concatenate([whole.feed(audio), whole.finish()])
    parts, place, number = kind(RATE), 0, 0
    found = []
    while place < len(audio):
        size = sizes[number % len(sizes)]
        found.append(parts.feed(audio[place : place + size]))
        place, number = place + size, number + 1
    found.append(parts.finish())
    assert np.allclose(np.concatenate(found), expected, atol=1e-5)


def test_silero_is_that_of_its_own_code(sample):
    from silero_vad.sequence_vad import SileroVADSequence

    audio = load_audio(sample)
    detector = SileroDetector(RATE)
    found = np.concatenate([detector.feed(audio), detector.finish()])
    theirs = SileroVADSequence(str(vad._silero_path())).audio_forward(audio)
    assert np.allclose(found, theirs, atol=1e-6)


@pytest.mark.parametrize("kind", ["silero", "energy"])
def test_noise_and_silence_are_no_speech(kind):
    random = np.random.default_rng(0)
    time = np.arange(20 * RATE) / RATE
    for audio in (
        np.zeros(len(time)),
        0.1 * random.standard_normal(len(time)),
        0.01 * np.cumsum(random.standard_normal(len(time))) / 100,
        0.3 * np.sin(2 * np.pi * 50 * time),
        np.full(len(time), 0.5),
    ):
        detector = voice_detector(kind, RATE)
        found = np.concatenate([detector.feed(audio.astype(np.float32)), detector.finish()])
        assert (found < vad.SPEECH).all()


def test_which_detector_is_taken(monkeypatch):
    assert isinstance(voice_detector("auto", RATE), SileroDetector)
    assert isinstance(voice_detector("auto", 8_000), EnergyDetector)
    assert isinstance(voice_detector("energy", RATE), EnergyDetector)
    assert voice_detector("off", RATE) is None
    with pytest.raises(WavConformerError, match="takes 16000 samples a second, not 8000"):
        voice_detector("silero", 8_000)
    vad._silero_session.cache_clear()
    monkeypatch.setattr(vad, "find_spec", lambda name: None)
    assert isinstance(voice_detector("auto", RATE), EnergyDetector)
    with pytest.raises(WavConformerError, match=r"pip install 'wavconformer\[vad\]'"):
        voice_detector("silero", RATE)


def test_an_older_wheel_without_the_network_is_as_good_as_none(monkeypatch, tmp_path):
    import importlib.machinery

    spec = importlib.machinery.ModuleSpec("silero_vad", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(vad, "find_spec", lambda name: spec)
    assert vad._silero_path() is None
