from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from tests.model.builders import SHAPE

from wavconformer import Wav2Vec2ConformerConfig, Wav2Vec2ConformerForCTC
from wavconformer.training.objectives import objective_of
from wavconformer.training.recipe import Pretraining
from wavconformer.training.silence import silent_frames

RATE, HOP, FIELD = 16_000, 320, 400


def sound(seconds: float) -> np.ndarray:
    return np.sin(np.arange(round(seconds * RATE)) * 0.3).astype(np.float32)


def silence(seconds: float, level: float = 0.0) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(round(seconds * RATE))
    return (level * noise).astype(np.float32)


def frames_of(*parts: np.ndarray, below_db: float = 40.0) -> np.ndarray:
    samples = np.concatenate(parts)
    return silent_frames(samples, RATE, below_db, hop=HOP, field=FIELD)


def test_silence_is_what_lies_far_below_the_loudest():
    frames = frames_of(silence(0.5, 1e-4), sound(0.5), silence(0.5))
    assert len(frames) == (round(1.5 * RATE) - FIELD) // HOP + 1
    times = np.arange(len(frames)) * HOP / RATE
    silent = (times + FIELD / RATE <= 0.47) | (times >= 1.03)  # 30 ms beside the sound don't count
    np.testing.assert_array_equal(frames, silent)


def test_a_level_says_how_far():
    parts = silence(0.5, 0.02), sound(0.5)  # 31 dB below
    assert not frames_of(*parts, below_db=40.0).any()
    assert frames_of(*parts, below_db=25.0).any()


def test_a_short_silence_belongs_to_a_word():
    assert not frames_of(sound(0.5), silence(0.19), sound(0.5)).any()
    assert frames_of(sound(0.5), silence(0.25), sound(0.5)).any()


@pytest.mark.parametrize("seconds", [0.025, 0.0307, 1.0])
def test_all_silent_and_of_any_length(seconds):
    assert frames_of(silence(seconds, 0.0)).all() == (seconds >= 0.2)
    assert len(frames_of(silence(seconds))) == (round(seconds * RATE) - FIELD) // HOP + 1


def test_only_alignments_with_blanks_in_silence_count():
    """Against -log of the sum over all alignments, one by one."""
    torch.manual_seed(0)
    model = Wav2Vec2ConformerForCTC(Wav2Vec2ConformerConfig(**SHAPE)).eval()
    samples = FIELD + 4 * HOP
    inputs = {
        "input_values": torch.randn(1, samples),
        "attention_mask": torch.ones(1, samples, dtype=torch.long),
        "labels": torch.tensor([[3, 4]]),
        "silent": torch.tensor([[True, False, False, False, True]]),
    }
    logits = model(inputs["input_values"]).logits
    assert logits.shape[1] == 5
    blank, labels = model.blank, [3, 4]
    sums, _ = objective_of("ctc", model, Pretraining())(inputs)
    log_probs = logits[0].log_softmax(-1)
    paths = [
        path
        for path in itertools.product((blank, *labels), repeat=5)
        if [token for token, _ in itertools.groupby(path) if token != blank] == labels and path[0] == blank == path[4]
    ]
    expected = -torch.stack([log_probs[torch.arange(5), list(path)].sum() for path in paths]).logsumexp(0)
    torch.testing.assert_close(sums["ctc"], expected)
    gradients = torch.autograd.grad(sums["ctc"], list(model.lm_head.parameters()))
    wanted = torch.autograd.grad(expected, list(model.lm_head.parameters()))
    torch.testing.assert_close(gradients, wanted, atol=1e-6, rtol=1e-5)
