"""Recordings to labels, with heads of every kind; the model that ships."""

from __future__ import annotations

import json
import wave

import numpy as np
import pytest
import torch

import wavconformer
from model.builders import build
from wavconformer import AudioError, CheckpointError, Wav2Vec2FeatureExtractor
from wavconformer.files import ASSETS, samples
from wavconformer.tasks.classify import Classifier, Listening, load_classifier

RATE = 16_000
SMALL = {"num_hidden_layers": 1, "conv_dim": (8, 14), "conv_kernel": (40, 8), "conv_stride": (40, 8)}


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.standard_normal(round(seconds * RATE)).astype(np.float32) * np.float32(0.1)


def made(head: str = "ForSequenceClassification", **settings):
    torch.manual_seed(0)
    return build(head, **{**SMALL, **settings}).eval()


def classifier(**settings) -> Classifier:
    return Classifier(made(**settings), Wav2Vec2FeatureExtractor(), "tiny")


def saved(folder, head: str = "ForSequenceClassification", **settings):
    made(head, **settings).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def written(path, audio: np.ndarray):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((audio * 32767).astype("<i2").tobytes())
    return path


def logits_of(model, audio: np.ndarray) -> torch.Tensor:
    inputs = Wav2Vec2FeatureExtractor()(audio, sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits[0]


# --- heads


def test_a_single_label_is_a_softmax():
    model = made(num_labels=3, id2label={0: "x", 1: "y", 2: "z"})
    found = Classifier(model, Wav2Vec2FeatureExtractor())(sound(1.0), sampling_rate=RATE)
    expected = logits_of(model, sound(1.0)).softmax(-1)
    assert found.problem == "single_label_classification"
    assert {one.label: one.score for one in found.scores} == {
        name: pytest.approx(float(value), abs=1e-5) for name, value in zip("xyz", expected, strict=True)
    }
    assert found.label == "xyz"[int(expected.argmax())]
    assert found.duration == 1.0


def test_several_labels_are_sigmoids():
    model = made(num_labels=3, problem_type="multi_label_classification")
    tell = Classifier(model, Wav2Vec2FeatureExtractor())
    expected = logits_of(model, sound(1.0)).sigmoid()
    threshold = float(expected.median()) - 1e-3
    found = tell(sound(1.0), sampling_rate=RATE, threshold=threshold, top=None)
    assert [one.score for one in found.scores] == pytest.approx(
        expected.sort(descending=True).values.tolist(), abs=1e-5
    )
    assert len(found.labels) == 2


def test_regression_gives_values():
    for settings in ({"num_labels": 1}, {"num_labels": 3, "problem_type": "regression"}):
        model = made(**settings)
        found = Classifier(model, Wav2Vec2FeatureExtractor())(sound(1.0), sampling_rate=RATE, top=1)
        assert found.problem == "regression"
        assert [one.score for one in found.scores] == pytest.approx(logits_of(model, sound(1.0)).tolist(), abs=1e-4)


# --- long recordings


@pytest.mark.parametrize("sizes", [(1,), (7,), (100,), (16, 3, 40)])
@pytest.mark.parametrize("length", [10, 11, 14, 15, 16, 30, 31])
def test_windows_hear_everything_and_no_block_matters(sizes, length):
    """Windows of 10 audio, 4 apart, at one sample a second."""
    audio = np.arange(length, dtype=np.float32)
    blocks, start = [], 0
    while start < length:
        blocks.append(audio[start : start + sizes[len(blocks) % len(sizes)]])
        start += len(blocks[-1])
    windows = [*Listening(10, 4).windows(blocks, rate=1)]
    for start, window in windows:
        assert window.tolist() == audio[start : start + 10].tolist()
        assert len(window) == 10
    starts = [start for start, _ in windows]
    assert starts[:-1] == [4 * number for number in range(len(starts) - 1)]
    assert starts[-1] == length - 10
    assert len(set(starts)) == len(starts)


def test_a_long_recording_is_heard_as_its_windows_are():
    tell, audio = classifier(), sound(4.3)
    found = tell(audio, sampling_rate=RATE, window_seconds=1.0, hop_seconds=0.7, top=None, batch_seconds=2.0)
    assert [window.start for window in found.windows] == pytest.approx([0, 0.7, 1.4, 2.1, 2.8, 3.3])
    for window in found.windows:
        part = audio[round(window.start * RATE) : round(window.end * RATE)]
        alone = tell(part, sampling_rate=RATE, top=None)
        assert {one.label: one.score for one in window.scores} == {
            one.label: pytest.approx(one.score, abs=1e-4) for one in alone.scores
        }
    mean = {label: np.mean([dict(_pairs(window))[label] for window in found.windows]) for label in tell.labels}
    assert dict(_pairs(found)) == {label: pytest.approx(value, abs=1e-5) for label, value in mean.items()}
    assert (found.spans[0].start, found.spans[-1].end) == (0.0, 4.3)


def _pairs(found):
    return [(one.label, one.score) for one in found.scores]


def test_half_as_long_again_as_a_window_is_heard_whole():
    tell = classifier()
    assert len(tell(sound(1.5), sampling_rate=RATE, window_seconds=1.0).windows) == 1
    assert len(tell(sound(1.6), sampling_rate=RATE, window_seconds=1.0).windows) == 3


def test_the_configuration_says_how_long_windows_are(tmp_path):
    assert classifier().window_seconds == 30.0
    assert load_classifier(saved(tmp_path / "a", window_seconds=0.8)).window_seconds == 0.8
    with pytest.raises(CheckpointError, match=r"window_seconds in config.json is 'long'"):
        load_classifier(saved(tmp_path / "b", window_seconds="long"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_seconds": 0}, "window_seconds is 0"),
        ({"window_seconds": float("inf")}, "window_seconds is inf"),
        ({"window_seconds": 0.01}, "needs at least 0.020 s"),
        ({"window_seconds": 1, "hop_seconds": 1.5}, "hop_seconds is 1.5"),
        ({"hop_seconds": 0}, "hop_seconds is 0"),
        ({"top": 0}, "top is 0"),
        ({"threshold": 2}, "threshold is 2"),
        ({"batch_seconds": 0}, "batch_seconds is 0"),
        ({"on_error": "ignore"}, "on_error is 'ignore'"),
    ],
)
def test_settings_that_can_t_be(settings, message):
    with pytest.raises(ValueError, match=message):
        [*classifier().many([sound(1.0)], sampling_rate=RATE, **settings)]


# --- many


def test_many_give_what_each_gives_alone_in_order():
    tell = classifier()
    sources = [sound(seconds, number) for number, seconds in enumerate((0.5, 2.0, 0.6, 7.0, 1.9, 0.2))]
    heard = []
    found = [
        *tell.many(
            sources,
            sampling_rate=RATE,
            window_seconds=2.0,
            batch_seconds=3.0,
            on_progress=lambda number, seconds: heard.append((number, seconds)),
        )
    ]
    for source, one in zip(sources, found, strict=True):
        alone = tell(source, sampling_rate=RATE, window_seconds=2.0)
        assert dict(_pairs(one)) == {label: pytest.approx(score, abs=1e-4) for label, score in _pairs(alone)}
        assert one.duration == len(source) / RATE
    assert {number for number, _ in heard} == {3}
    assert wavconformer.classify(sources, model=tell, sampling_rate=RATE, window_seconds=2.0)[3].windows


def test_bad_recordings_among_good_ones(tmp_path):
    tell = classifier()
    good = written(tmp_path / "good.wav", sound(1.0))
    empty = written(tmp_path / "empty.wav", sound(0.0))
    short = written(tmp_path / "short.wav", sound(0.01))
    brief = written(tmp_path / "brief.wav", sound(0.2))
    silent = written(tmp_path / "silent.wav", np.zeros(RATE))
    found = wavconformer.classify(
        [good, empty, short, tmp_path / "no.wav", brief, silent], model=tell, on_error="return"
    )
    assert [type(one).__name__ for one in found] == [
        "Classification",
        "AudioError",
        "AudioError",
        "AudioError",
        "Classification",
        "Classification",
    ]
    assert "10.0 ms long, but the model needs at least 20 ms" in str(found[2])
    with pytest.raises(AudioError, match=r"empty\.wav"):
        wavconformer.classify(empty, model=tell)


def test_a_recording_that_breaks_off_in_the_middle():
    def blocks():
        yield sound(3.0)
        raise AudioError("the line is dead")

    with pytest.raises(AudioError, match="the line is dead"):
        classifier()(blocks(), sampling_rate=RATE, window_seconds=1.0)


def test_scores_that_are_no_numbers():
    tell = classifier()
    with torch.no_grad():
        tell.model.classifier.bias.fill_(torch.nan)
    with pytest.raises(CheckpointError, match="tiny gives NaN"):
        tell(sound(1.0), sampling_rate=RATE)


# --- models


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("ForCTC", "wavconformer transcribe"),
        ("ForAudioFrameClassification", "wavconformer diarize"),
        ("ForXVector", "wavconformer verify"),
        ("Model", "train one on it with `wavconformer finetune`"),
    ],
)
def test_models_of_other_kinds_say_what_they_are_for(tmp_path, head, message):
    with pytest.raises(CheckpointError, match=message):
        load_classifier(saved(tmp_path, head))


def test_a_head_that_is_not_there(tmp_path):
    saved(tmp_path, "Model")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps({**config, "architectures": ["Wav2Vec2ConformerForSequenceClassification"]})
    )
    with pytest.warns(UserWarning, match="random values"), pytest.raises(CheckpointError, match="holds no head"):
        load_classifier(tmp_path)


def test_a_model_is_named_or_given(tmp_path):
    folder, audio = saved(tmp_path), sound(1.0)
    tell = load_classifier(folder, device="cpu", threads=1)
    assert wavconformer.classify(audio, model=folder, sampling_rate=RATE, device="cpu") == tell(
        audio, sampling_rate=RATE
    )
    with pytest.raises(ValueError, match="device goes with a model's name"):
        wavconformer.classify(audio, model=tell, device="cpu", sampling_rate=RATE)


def test_a_graph_says_the_same(tmp_path):
    from wavconformer.tasks.export import export

    folder = saved(tmp_path / "model", conv_kernel=(10, 8), conv_stride=(5, 8))
    audio = sound(1.0)
    export(folder, tmp_path / "graph")
    graph, model = load_classifier(tmp_path / "graph"), load_classifier(folder, device="cpu")
    sources = [audio, audio[:9000]]
    for one, other in zip(
        graph.many(sources, sampling_rate=RATE), model.many(sources, sampling_rate=RATE), strict=True
    ):
        assert dict(_pairs(one)) == {label: pytest.approx(score, abs=1e-4) for label, score in _pairs(other)}
    with pytest.raises(ValueError, match="engine 'onnx' runs a graph as it was written"):
        load_classifier(tmp_path / "graph", quantization="int8")


def test_a_quantized_model_is_near(tmp_path):
    folder, audio = saved(tmp_path), sound(1.0)
    plain, rounded = (load_classifier(folder, device="cpu", quantization=kind) for kind in (None, "int8"))
    near = rounded(audio, sampling_rate=RATE, top=None)
    assert dict(_pairs(near)) == {
        label: pytest.approx(score, abs=0.1) for label, score in _pairs(plain(audio, sampling_rate=RATE, top=None))
    }


# --- the model that ships


@pytest.fixture(scope="module")
def keywords() -> Classifier:
    return load_classifier(device="cpu")


def test_the_shipped_model_hears_words_of_voices_that_it_never_heard(keywords):
    words = [path for path in samples("keywords") if path.stem != "commands"]
    found = wavconformer.classify(words, model=keywords)
    assert [one.label for one in found] == [path.stem for path in words]
    assert len(words) == 5


def test_the_shipped_model_finds_words_in_a_longer_recording(keywords):
    path = next(path for path in samples("keywords") if path.stem == "commands")
    found = keywords(path, hop_seconds=0.25)
    said = [span.label for span in found.spans if span.label not in ("silence", "unknown")]
    assert [label for label in said if label in ("left", "five", "stop")] == ["left", "five", "stop"]
    # Half-way between the windows' middles, so within a window of the word.
    times = {span.label: (span.start + span.end) / 2 for span in found.spans}
    assert times["left"] == pytest.approx(1.0, abs=0.5)
    assert times["five"] == pytest.approx(2.3, abs=0.5)
    assert times["stop"] == pytest.approx(5.1, abs=0.5)


def test_nothing_is_silence(keywords):
    for seconds in (0.2, 1.0, 5.0):
        assert keywords(np.zeros(round(seconds * RATE), np.float32), sampling_rate=RATE).label == "silence"
    assert keywords(sound(1.0) * np.float32(0.01), sampling_rate=RATE).label == "silence"


def test_the_shipped_model_is_small_and_the_default(keywords):
    assert keywords.name == "keywords"
    assert keywords.window_seconds == 1.0
    assert len(keywords.labels) == 26
    assert (ASSETS / "keywords" / "model.safetensors").stat().st_size < 4_000_000
    assert wavconformer.classify(samples("keywords")[0]).label is not None
