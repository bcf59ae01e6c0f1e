"""Vectors of recordings: of one length, whoever keeps them company, and of long ones by windows."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
import torch

import wavconformer
from wavconformer.errors import AudioError, CheckpointError
from wavconformer.files import samples
from wavconformer.model.lengths import encoder_length, tdnn_length
from wavconformer.tasks import embedding
from wavconformer.tasks.embedding import Embedder, embedder_of

RATE = 16_000


def test_vectors_have_length_one_and_depend_on_no_company(speaker_model):
    embedder = Embedder.load(speaker_model, device="cpu", threads=1)
    together = embedder.many(samples(), batch_seconds=30.0)
    assert together.shape == (len(samples()), embedder.size) and together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-6)
    alone = np.stack([embedder(path) for path in samples()])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-3


def test_it_is_the_models_embedding(speaker_model, sample):
    embedder = Embedder.load(speaker_model, device="cpu")
    waveform = wavconformer.load_audio(sample)
    inputs = embedder.feature_extractor(waveform, sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        expected = torch.nn.functional.normalize(embedder.model(inputs["input_values"]).embeddings, dim=-1)[0]
    for source in (sample, str(sample), sample.read_bytes(), io.BytesIO(sample.read_bytes()), waveform):
        np.testing.assert_allclose(embedder(source), expected.numpy(), atol=1e-5)
    twice = np.repeat(waveform, 2)
    assert float(embedder(twice, sampling_rate=2 * RATE) @ expected.numpy()) > 0.99


def test_embed_takes_one_or_several(speaker_model, sample):
    waveform = wavconformer.load_audio(sample)
    one = wavconformer.embed(sample, model=speaker_model)
    assert one.ndim == 1
    both = wavconformer.embed([sample, waveform], model=speaker_model)
    np.testing.assert_allclose(both, [one, one], atol=1e-5)
    assert wavconformer.embed((), model=speaker_model).shape == (0, len(one))
    embedder = embedder_of(speaker_model)
    assert embedder_of(speaker_model) is embedder is embedder_of(embedder)
    with pytest.raises(ValueError, match="device goes with a model's name"):
        wavconformer.embed(sample, model=embedder, device="cpu")
    with pytest.raises(ValueError, match="batch_seconds is 0"):
        wavconformer.embed([sample], model=embedder, batch_seconds=0)


def speech(seconds: float) -> np.ndarray:
    """The samples one after the other, with pauses, over and over."""
    pause = np.zeros(RATE, np.float32)
    parts = [part for path in samples() for part in (wavconformer.load_audio(path), pause)]
    return np.resize(np.concatenate(parts), round(seconds * RATE))


def test_a_long_recording_is_the_mean_of_its_windows(speaker_model, monkeypatch, tmp_path):
    embedder = Embedder.load(speaker_model, device="cpu")
    heard = []
    run = embedder._run
    monkeypatch.setattr(embedder, "_run", lambda group: heard.extend(group) or run(group))
    waveform = speech(40.0)
    found = embedder(waveform)
    assert len(heard) > 3 and max(map(len, heard)) <= 16 * RATE
    assert sum(map(len, heard)) < len(waveform)  # pauses are left out
    lengths = np.array([len(window) for window in heard])
    expected = lengths @ np.concatenate([run([window]) for window in heard])
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-5)
    path = tmp_path / "long.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((waveform * 32767).astype("<i2").tobytes())
    monkeypatch.setattr(embedding, "AHEAD_SECONDS", 5.0)  # it is embedded as it is read
    assert float(embedder(path) @ found) > 0.9999
    # In a list long and short ones keep their places.
    three = embedder.many([samples()[0], path, samples()[1]])
    np.testing.assert_allclose(three[[0, 2]], embedder.many(samples()[:2]), atol=1e-5)
    assert float(three[1] @ found) > 0.9999


def test_errors_come_in_their_place_and_the_others_go_on(speaker_model, monkeypatch, tmp_path):
    embedder = Embedder.load(speaker_model, device="cpu")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)  # two batches side by side
    silence = np.zeros(RATE, np.float32)
    sources = [samples()[0], tmp_path / "none.wav", samples()[1], silence, samples()[2], speech(30.0)]
    found = list(embedder.each(sources, batch_seconds=3.0, on_error="return"))
    assert [type(one) for one in found] == [np.ndarray, AudioError, np.ndarray, AudioError, np.ndarray, np.ndarray]
    assert "none.wav" in str(found[1]) and "number 4 is silent" in str(found[3])
    np.testing.assert_allclose(np.stack(found[::2][:3]), embedder.many(samples()[:3]), atol=1e-5)
    np.testing.assert_allclose(found[5], embedder(speech(30.0)), atol=1e-5)
    # Where errors are raised, what was read before is given first.
    given = embedder.each(sources)
    np.testing.assert_allclose(next(given), found[0], atol=1e-5)
    with pytest.raises(AudioError, match=r"none\.wav"):
        next(given)
    with pytest.raises(ValueError, match="on_error is 'ignore'"):
        next(embedder.each(sources, on_error="ignore"))


def test_a_long_recording_that_breaks_off_is_an_error(speaker_model):
    embedder = Embedder.load(speaker_model, device="cpu")
    broken = speech(30.0)
    broken[-100] = np.nan
    with pytest.raises(AudioError, match="NaN"):
        embedder(broken)


@pytest.mark.parametrize(
    ("waveform", "reason"),
    [
        (np.ones(RATE // 5, np.float32), r"is 0\.20 s long, but the speaker model needs at least 0\.\d\d s"),
        (np.zeros(2 * RATE, np.float32), "is silent"),
        (np.full(2 * RATE, 0.25, np.float32), "is silent"),
        (np.tile(np.array([1e-5, -1e-5], np.float32), RATE), "is silent"),
        (np.zeros(40 * RATE, np.float32), "no speech was found in its 40 s"),
    ],
)
def test_recordings_that_tell_nobody_are_refused(speaker_model, waveform, reason):
    with pytest.raises(AudioError, match=reason):
        wavconformer.embed(waveform, model=speaker_model)
    with pytest.raises(AudioError, match=f"The given audio, number 2.*{reason}" if len(waveform) < 9e4 else reason):
        wavconformer.embed([speech(2.0), waveform], model=speaker_model)


@pytest.mark.parametrize("adapter", [{}, {"add_adapter": True}, {"add_adapter": True, "use_weighted_layer_sum": True}])
def test_the_least_length_is_the_least_that_works(make_speaker_model, adapter):
    embedder = Embedder.load(make_speaker_model(**adapter), device="cpu")
    least = round(embedder.least_seconds * RATE)
    random = np.random.default_rng(0)
    assert embedder(random.uniform(-0.5, 0.5, least).astype(np.float32)).shape == (embedder.size,)
    with pytest.raises(AudioError, match="needs at least"):
        embedder(random.uniform(-0.5, 0.5, least - 1).astype(np.float32))
    if not adapter:
        assert tdnn_length(encoder_length(least, embedder.model.config), embedder.model.config) == 2


def test_the_name_is_that_of_the_weights(make_speaker_model, tmp_path):
    first = Embedder.load(make_speaker_model(), device="cpu")
    first.model.save_pretrained(tmp_path / "copy")
    assert Embedder.load(tmp_path / "copy", device="cpu").name == first.name
    with torch.no_grad():
        first.model.feature_extractor.bias += 1e-3
    first.model.save_pretrained(tmp_path / "other")
    assert Embedder.load(tmp_path / "other", device="cpu").name != first.name


def test_a_model_without_the_head_is_refused(make_speaker_model, tmp_path):
    Embedder.load(make_speaker_model(), device="cpu").model.wav2vec2_conformer.save_pretrained(tmp_path / "bare")
    with pytest.warns(UserWarning, match="start from random values"), pytest.raises(CheckpointError, match="x-vector"):
        Embedder.load(tmp_path / "bare", device="cpu")


@pytest.mark.parametrize(
    ("model", "command"), [("tiny-en", "transcribe"), ("keywords", "classify"), ("diarize", "diarize")]
)
def test_a_model_with_another_head_is_refused_with_its_command(model, command):
    with pytest.raises(CheckpointError, match=f"'{model}' is a .* Give it to `wavconformer {command}`; telling"):
        Embedder.load(model, device="cpu")


def test_weights_that_give_no_numbers_are_told(make_speaker_model, sample):
    embedder = Embedder.load(make_speaker_model(), device="cpu")
    with torch.no_grad():
        embedder.model.feature_extractor.bias[0] = np.nan
    with pytest.raises(CheckpointError, match="NaN or infinite embeddings"):
        embedder(sample)
