from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import wavconformer
from wavconformer import (
    AudioError,
    CheckpointError,
    DataError,
    Diarizer,
    Wav2Vec2ConformerConfig,
    Wav2Vec2ConformerForAudioFrameClassification,
    Wav2Vec2ConformerForXVector,
    Wav2Vec2ConformerModel,
    Wav2Vec2FeatureExtractor,
    diarize,
)
from wavconformer.audio.windows import sliding
from wavconformer.data.rttm import Turn
from wavconformer.scoring.diarization import score_diarization
from wavconformer.store import open_backend
from wavconformer.tasks.diarize import DiarizationSettings
from wavconformer.tasks.embedding import Embedder
from wavconformer.tasks.speakers import SpeakerStore

from .tones import CONFIG, RATE, SHAPE, Ears, Voices, diarizer, talk

FRAME = CONFIG.hop_length / RATE


def who(diarization) -> list[tuple[str, float, float]]:
    return [(turn.speaker, turn.start, turn.end) for turn in diarization.turns]


def assert_turns(diarization, *expected: tuple[str, float, float]) -> None:
    assert [turn.speaker for turn in diarization.turns] == [speaker for speaker, _, _ in expected]
    for turn, (_, start, end) in zip(diarization.turns, expected, strict=True):
        assert turn.start == pytest.approx(start, abs=FRAME)
        assert turn.end == pytest.approx(end, abs=FRAME)


LONG = ((0, 1.0, 6.0), (1, 6.5, 14.0), (0, 13.0, 18.0), (2, 18.5, 27.0), (1, 28.0, 33.0), (0, 33.5, 38.0))
FOUND = tuple((f"speaker{who_ + 1}", start, end) for who_, start, end in LONG)


def test_turns_of_a_long_recording_are_exact():
    found = diarize(talk(40.0, *LONG), model=diarizer(), sampling_rate=RATE)
    assert_turns(found, *FOUND)
    assert found.duration == 40.0 and found.speakers == ("speaker1", "speaker2", "speaker3")


@pytest.mark.parametrize("settings", [{"step_seconds": 2.5}, {"window_seconds": 6.0, "step_seconds": 6.0}])
def test_other_windows_give_the_same(settings):
    assert_turns(diarize(talk(40.0, *LONG), model=diarizer(), sampling_rate=RATE, **settings), *FOUND)


def test_blocks_as_they_come_in_and_progress():
    samples = talk(40.0, *LONG)
    seen: list[float] = []
    blocks = (samples[start : start + 7001] for start in range(0, len(samples), 7001))
    found = diarize(blocks, model=diarizer(), sampling_rate=RATE, progress=seen.append)
    assert_turns(found, *FOUND)
    assert seen == sorted(seen) and seen[-1] == 40.0


def test_the_number_of_speakers():
    samples = talk(40.0, *LONG)
    tool = diarizer()
    assert len(tool(samples, speakers=2, sampling_rate=RATE).speakers) == 2
    assert len(tool(samples, max_speakers=1, sampling_rate=RATE).speakers) == 1
    assert len(tool(samples, min_speakers=3, threshold=2.0, sampling_rate=RATE).speakers) == 3
    alone = tool(samples, speakers=1, sampling_rate=RATE)
    assert all(one.end <= other.start for one, other in zip(alone.turns, alone.turns[1:], strict=False))


def test_four_people_of_whom_no_window_has_more_than_three():
    turns = [(who_, 4.0 * number, 4.0 * number + 3.7) for number, who_ in enumerate([0, 1, 2, 3, 0, 2, 1, 3, 2, 0])]
    found = diarize(talk(40.0, *turns), model=diarizer(), sampling_rate=RATE)
    scores = score_diarization(
        [Turn("x", start, end, str(who_)) for who_, start, end in turns],
        [Turn("x", turn.start, turn.end, turn.speaker) for turn in found.turns],
    )
    assert len(found.speakers) == 4 and scores.rate < 0.02


def test_one_speaker_only():
    found = diarize(talk(25.0, (2, 1.0, 9.0), (2, 11.0, 24.0)), model=diarizer(), sampling_rate=RATE)
    assert_turns(found, ("speaker1", 1.0, 9.0), ("speaker1", 11.0, 24.0))


@pytest.mark.parametrize("seconds", [0.2, 5.0, 30.0])
def test_silence(seconds):
    tool = diarizer()
    found = tool(np.zeros(round(seconds * RATE), np.float32), sampling_rate=RATE)
    assert found.turns == () and found.duration == pytest.approx(seconds)
    assert tool.model.windows == []


def test_one_window_needs_no_speaker_model():
    def none() -> Voices:
        raise AssertionError("no voices are to be compared")

    tool = Diarizer(Ears(), Wav2Vec2FeatureExtractor(return_attention_mask=True), none)
    turns = (0, 0.5, 3.0), (1, 2.5, 6.0), (3, 6.5, 8.0)
    found = tool(talk(9.0, *turns), sampling_rate=RATE)
    assert_turns(found, ("speaker1", 0.5, 3.0), ("speaker2", 2.5, 6.0), ("speaker3", 6.5, 8.0))
    assert_turns(tool(talk(0.2, (0, 0.0, 0.2)), sampling_rate=RATE), ("speaker1", 0.0, 0.2))
    with pytest.raises(AssertionError):
        tool(talk(9.0, *turns), speakers=2, sampling_rate=RATE)


def test_the_speaker_model_hears_those_alone_who_speak_alone():
    tool = diarizer()
    tool(talk(20.0, (0, 1.0, 12.0), (1, 10.2, 19.0), (2, 12.5, 12.7)), sampling_rate=RATE)
    lengths = [length / RATE for length in tool.embedder.lengths]
    # Windows begin at 0, 5 and 9.9 s. The first person's last words are hidden but for 0.2 s: they are heard whole. The
    # last person is never alone, and too short: heard over again.
    assert sorted(lengths)[-1] == pytest.approx(2.1, abs=FRAME) and sorted(lengths)[-2] <= 1.8
    assert sorted(lengths)[:2] == [0.33, 0.33] and sorted(lengths)[2] >= 0.4
    assert sum(lengths) == pytest.approx(9.0 + 5.2 + 2.8 + 6.8 + 2.1 + 2 * 0.33, abs=1.0)


def test_people_whom_the_frame_head_mixes_up_are_told_apart_by_their_voices():
    class Muddled(Ears):
        """Everybody who speaks is in the first column."""

        def __call__(self, input_values, attention_mask=None):
            logits = super().__call__(input_values).logits
            one = torch.zeros_like(logits)
            one[..., 0] = logits[..., 0]
            one[..., 1] = logits[..., 1:].amax(-1)
            return SimpleNamespace(logits=one)

    turns = [(number % 2, 2.0 * number, 2.0 * number + 1.6) for number in range(15)]
    tool = Diarizer(Muddled(), Wav2Vec2FeatureExtractor(return_attention_mask=True), Voices)
    expected = [(f"speaker{who_ + 1}", start, end) for who_, start, end in turns]
    assert_turns(tool(talk(30.0, *turns), sampling_rate=RATE), *expected)


def test_rests_and_short_turns():
    turns = (0, 1.0, 2.0), (0, 2.2, 3.0), (1, 3.5, 3.58), (0, 4.0, 5.0)
    tool, samples = diarizer(), talk(6.0, *turns)
    assert_turns(tool(samples, sampling_rate=RATE), ("speaker1", 1.0, 3.0), ("speaker1", 4.0, 5.0))
    every = tool(samples, sampling_rate=RATE, gap_seconds=0.0, turn_seconds=0.0)
    assert len(every.turns) == 4


# --- a store


@pytest.fixture
def store(tmp_path):
    with SpeakerStore(tmp_path / "voices.db", model=None) as opened:
        yield opened


def test_people_keep_their_names_across_recordings(tmp_path, monkeypatch):
    tool = diarizer()
    monkeypatch.setattr(SpeakerStore, "embedder", property(lambda self: tool.embedder))
    monkeypatch.setattr(SpeakerStore, "calibration", property(lambda self: None))
    store = SpeakerStore(tmp_path / "voices.db", model=tool.embedder)
    known = {"store": store, "store_threshold": 0.9, "sampling_rate": RATE}
    first = tool(talk(20.0, (0, 1.0, 8.0), (1, 9.0, 18.0)), **known)
    second = tool(talk(20.0, (2, 1.0, 5.0), (1, 6.0, 12.0), (0, 13.0, 19.0)), **known)
    names = first.speakers
    assert len(set(names)) == 2 and all(name.startswith("speaker-") for name in names)
    assert second.speakers[1:] == names[::-1] and second.speakers[0] not in names
    store.rename(names[0], "Ann")
    short = tool(talk(6.0, (0, 1.0, 5.0)), **known)  # a single window, whose voices are compared all the same
    assert short.speakers == ("Ann",)
    third = tool(talk(20.0, (3, 1.0, 8.0), (0, 9.0, 18.0)), **known, enroll=False)
    assert third.speakers == ("speaker1", "Ann")
    assert len(store.speakers()) == 3
    brief = tool(talk(20.0, (3, 1.0, 2.0), (0, 9.0, 18.0)), **known)  # too little to know anybody by
    assert len(store.speakers()) == 3 and brief.speakers[-1] == "Ann"
    with pytest.raises(DataError, match="There is no store of voices"):
        tool(
            talk(20.0, (0, 1.0, 8.0)),
            store=SpeakerStore(tmp_path / "none.db"),
            store_threshold=0.9,
            enroll=False,
            sampling_rate=RATE,
        )


def test_a_store_of_another_speaker_model_is_refused(tmp_path, folders):
    other = Embedder.load(folders["voices"], device="cpu")
    with pytest.raises(ValueError, match="of another speaker model"):
        diarizer()(talk(9.0), store=SpeakerStore(tmp_path / "x.db", model=other), sampling_rate=RATE)


@pytest.mark.parametrize("kind", ["threshold", "other", "missing"])
def test_a_store_is_looked_at_before_the_recording_is_heard(tmp_path, monkeypatch, kind):
    tool, place = diarizer(), tmp_path / "voices.db"
    monkeypatch.setattr(SpeakerStore, "embedder", property(lambda self: tool.embedder))
    monkeypatch.setattr(Diarizer, "listen", lambda *_, **__: pytest.fail("it was heard in vain"))
    if kind == "other":
        open_backend(place, model="xvector-other", size=tool.embedder.size, create=True).close()
    told = {"threshold": "threshold is nan", "other": "another speaker model", "missing": "no store of voices"}
    with pytest.raises((ValueError, DataError), match=told[kind]), SpeakerStore(place) as store:
        tool(
            talk(20.0, (0, 1.0, 8.0)),
            store=store,
            store_threshold=float("nan") if kind == "threshold" else 0.9,
            enroll=kind != "missing",
            sampling_rate=RATE,
        )
    assert place.exists() == (kind == "other")


# --- models


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Random models: with a frame head, another without labels that name sets, and a speaker model."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    config = Wav2Vec2ConformerConfig(**SHAPE, num_labels=3)
    frames = Wav2Vec2ConformerForAudioFrameClassification(config)
    with torch.no_grad():
        frames.classifier.weight.mul_(50)
    frames.save_pretrained(folder / "frames")
    Wav2Vec2ConformerForXVector(config).save_pretrained(folder / "voices")
    Wav2Vec2ConformerModel(config).save_pretrained(folder / "bare")
    named = Wav2Vec2ConformerConfig(
        **SHAPE, id2label={0: "speech", 1: "music"}, problem_type="single_label_classification"
    )
    Wav2Vec2ConformerForAudioFrameClassification(named).save_pretrained(folder / "music")
    return {path.name: path for path in folder.iterdir()}


def test_models_of_folders(folders, random):
    samples = random.standard_normal(40 * RATE).astype(np.float32) * talk(40.0, *LONG)
    found = diarize(samples, model=folders["frames"], speaker_model=folders["voices"], device="cpu", sampling_rate=RATE)
    assert found.turns and found.turns[0].start >= 0 and found.turns[-1].end <= 40.0
    tool = Diarizer.load(folders["frames"], speaker_model=folders["voices"], device="cpu", threads=1)
    assert tool(samples, sampling_rate=RATE) == found
    assert tool(samples, sampling_rate=RATE, batch_seconds=40.0) == found  # windows together, and each alone


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("tiny-en", "Give it to `wavconformer transcribe`; `diarize` needs a"),
        ("voices", "Give it to `wavconformer verify`; `diarize` needs a"),
        ("keywords", "Give it to `wavconformer classify`; `diarize` needs a"),
        ("bare", "holds no frame head"),
        ("music", "must name sets of speakers"),
        ("/nowhere/at-all", "There is no folder"),
    ],
)
def test_another_model_is_refused(folders, model, message):
    with pytest.raises(CheckpointError, match=message):
        diarize(talk(3.0), model=folders.get(model, model), sampling_rate=RATE)


@pytest.mark.parametrize("change", ["drop", "cut"])
def test_weights_that_are_not_whole_are_refused(folders, tmp_path, change):
    shutil.copytree(folders["frames"], tmp_path / "frames")
    weights = load_file(tmp_path / "frames" / "model.safetensors")
    name = "wav2vec2_conformer.encoder.layer_norm.weight"
    kept = weights.pop(name)
    if change == "cut":
        weights[name] = kept[:3].clone()
    save_file(weights, tmp_path / "frames" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks weights .*encoder.layer_norm.weight"):
        Diarizer.load(tmp_path / "frames", device="cpu")


def test_another_speaker_model_is_refused(folders):
    tool = Diarizer.load(folders["frames"], speaker_model=folders["frames"], device="cpu")
    with pytest.raises(CheckpointError, match="XVector"):
        _ = tool.embedder


def test_broken_weights_are_told_of(folders):
    tool = Diarizer.load(folders["frames"], device="cpu")
    with torch.no_grad():
        tool.model.classifier.bias.fill_(torch.nan)
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        tool(talk(3.0, (0, 1.0, 2.0)), sampling_rate=RATE)


# --- misuse


def test_a_recording_without_a_frame():
    with pytest.raises(AudioError, match=r"50\.0 ms long, but the model needs at least 85 ms"):
        diarize(np.ones(800, np.float32), model=diarizer(), sampling_rate=RATE)


def test_an_error_in_reading_comes_out():
    def blocks():
        yield talk(15.0, (0, 1.0, 9.0))
        yield np.full(1000, np.nan, np.float32)

    with pytest.raises(AudioError, match="NaN"):
        diarize(blocks(), model=diarizer(), sampling_rate=RATE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"speakers": 2, "max_speakers": 3}, "leave min_speakers and max_speakers out"),
        ({"speakers": 0}, "speakers is 0"),
        ({"min_speakers": 3, "max_speakers": 2}, "more than max_speakers"),
        ({"batch_seconds": 0.0}, "batch_seconds is 0"),
        ({"window_seconds": 0.5}, "window_seconds is 0.5"),
        ({"step_seconds": 11.0}, "step_seconds is 11"),
        ({"piece_seconds": 0.0}, "piece_seconds is 0"),
        ({"threshold": -1.0}, "threshold is -1"),
        ({"gap_seconds": -1.0}, "gap_seconds is -1"),
        ({"device": "cpu"}, "device and speaker_model go with a model's name"),
    ],
)
def test_arguments_that_do_not_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        diarize(talk(3.0), model=diarizer(), sampling_rate=RATE, **arguments)


def test_settings_have_defaults():
    assert DiarizationSettings().window_seconds == 10.0
    assert wavconformer.Diarizer is Diarizer


# --- windows


@pytest.mark.parametrize("length", [1, 4, 39, 40, 41, 60, 61, 64, 100, 101, 139, 140])
@pytest.mark.parametrize("block", [1, 7, 33, 200])
@pytest.mark.parametrize("window_", [20, 40, 43])
def test_sliding_windows_have_every_sample(length, block, window_):
    samples = np.arange(length, dtype=np.float32)
    blocks = (samples[start : start + block] for start in range(0, length, block))
    windows = list(sliding(blocks, window_, 20, 4))
    for start, window in windows:
        assert window.tolist() == samples[start : start + len(window)].tolist()
        assert start % 4 == 0
    assert [start for start, _ in windows[:-1]] == [20 * number for number in range(len(windows) - 1)]
    assert all(len(window) == window_ for _, window in windows[:-1])
    last, window = windows[-1]
    assert last + len(window) == length
    assert len(window) in range(window_, window_ + 4) if length >= window_ else (last, len(window)) == (0, length)
    seen = {place for start, one in windows for place in range(start, start + len(one))}
    assert seen == set(range(length))


def test_no_samples_make_no_window():
    assert list(sliding(iter([]), 40, 20, 4)) == []
