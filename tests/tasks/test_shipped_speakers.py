"""The speaker model that ships along, as a user without any option meets it."""

from __future__ import annotations

import json

import numpy as np
import pytest

import wavconformer
from wavconformer.files import ASSETS, samples
from wavconformer.tasks.embedding import SPEAKER_MODEL, Embedder

RATE = 16_000


@pytest.fixture(scope="module")
def embedder():
    return Embedder.load(device="cpu")


def test_it_is_small_and_knows_its_threshold(embedder):
    folder = ASSETS / SPEAKER_MODEL
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8e6
    assert sum(parameter.numel() for parameter in embedder.model.parameters()) <= 4_000_000
    assert embedder.calibration is not None and embedder.calibration.model == embedder.name
    assert -1 < embedder.calibration.threshold < 1
    assert 0.2 < embedder.least_seconds < 0.5
    assert "no human" in (folder / "README.md").read_text(encoding="utf-8").lower()


def test_halves_of_a_recording_are_nearer_than_other_voices(embedder):
    """The samples are by different voices, each of which the model could tell apart; none is by two."""
    waveforms = [wavconformer.load_audio(path) for path in samples()]
    first = embedder.many([waveform[: len(waveform) // 2] for waveform in waveforms])
    second = embedder.many([waveform[len(waveform) // 2 :] for waveform in waveforms])
    scores = first @ second.T
    own, others = np.diag(scores), scores[~np.eye(len(scores), dtype=bool)]
    assert own.mean() > others.mean() + 0.2


def test_verify_and_identify_need_no_option(run, tmp_path):
    a, b = samples()[:2]
    code, out, _ = run("verify", a, a)
    assert code == 0 and out.startswith("the same speaker (score 1.000, threshold ")
    place = ("--store", tmp_path / "voices.db")
    assert run("enroll", "Ann", a, *place)[0] == 0
    code, out, _ = run("identify", a, b, "--json", *place)
    found = [json.loads(line) for line in out.splitlines()]
    assert found[0]["name"] == "Ann" and found[1]["score"] < found[0]["score"]
    assert code == (0 if found[1]["name"] else 3)


def test_a_clip_of_a_fifth_of_a_second_is_refused(run, tmp_path):
    import soundfile

    short = tmp_path / "short.wav"
    soundfile.write(short, wavconformer.load_audio(samples()[0])[RATE : RATE + RATE // 5], RATE)
    code, _, said = run("verify", short, short)
    assert code == 1 and "0.20 s long, but the speaker model needs at least 0.2" in said
