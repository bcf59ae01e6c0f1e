"""The loss of frames, against all orders of speakers tried by hand (arXiv 1909.05952)."""

from __future__ import annotations

import sys
from itertools import permutations

import pytest
import torch
from torch.nn import functional as F

from wavconformer import Wav2Vec2ConformerConfig, Wav2Vec2ConformerForAudioFrameClassification
from wavconformer.decoding.activity import SpeakerLabels
from wavconformer.errors import ConfigError
from wavconformer.training.objectives import Frames, matched_sets_loss, matched_speakers_loss

from .synthetic import SHAPE

SETS = ["nobody", "A", "B", "C", "A+B", "A+C", "B+C"]


def drawn(speakers: int, labels: int):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4, 11, labels, generator=generator)
    active = (torch.rand(4, 11, speakers, generator=generator) > 0.6).float()
    real = torch.arange(11) < torch.tensor([11, 7, 1, 9])[:, None]
    return logits, active * real[..., None], real


def test_without_scipy_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ConfigError, match=r"wavconformer\[train\]"):
        matched_speakers_loss(*drawn(2, 2))


@pytest.mark.parametrize("speakers", [1, 2, 4])
def test_outputs_are_matched_to_speakers_best(speakers):
    logits, active, real = drawn(speakers, speakers)
    expected = [
        min(
            F.binary_cross_entropy_with_logits(
                logits[row][real[row]], active[row][real[row]][:, list(order)], reduction="sum"
            ).item()
            / speakers
            for order in permutations(range(speakers))
        )
        for row in range(4)
    ]
    assert matched_speakers_loss(logits, active, real).tolist() == pytest.approx(expected, rel=1e-4)


def test_labels_of_sets_are_matched_best():
    sets = SpeakerLabels.of(
        Wav2Vec2ConformerConfig(id2label=dict(enumerate(SETS)), problem_type="single_label_classification")
    ).sets.tolist()
    logits, active, real = drawn(3, len(SETS))
    expected = []
    for row in range(4):
        losses = []
        for order in permutations(range(3)):
            total = 0.0
            for frame in range(11):
                who = [bool(active[row, frame, one]) for one in order]
                if real[row, frame] and who in sets:  # all three at once is no label: such frames don't count
                    total += F.cross_entropy(logits[row, frame], torch.tensor(sets.index(who))).item()
            losses.append(total)
        expected.append(min(losses))
    assert active.sum(-1).max() == 3
    found = matched_sets_loss(logits, active, real, torch.tensor(sets))
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "labels",
    [
        {"num_labels": 3},
        {"id2label": dict(enumerate(SETS)), "problem_type": "single_label_classification"},
    ],
)
def test_the_objective_does_not_mind_who_is_who(labels):
    torch.manual_seed(0)
    model = Wav2Vec2ConformerForAudioFrameClassification(Wav2Vec2ConformerConfig(**SHAPE | labels)).eval()
    objective = Frames(model)
    mask = torch.ones(2, 8000, dtype=torch.long)
    mask[1, 5000:] = 0
    inputs = {"input_values": torch.randn(2, 8000) * mask, "attention_mask": mask}
    active = (torch.rand(2, 24, 3) > 0.7).float()
    whole = [objective(inputs | {"labels": active[..., list(order)]}) for order in ((0, 1, 2), (2, 0, 1))]
    sums = [terms["frames"].item() for terms, _ in whole]
    assert sums[0] == pytest.approx(sums[1], rel=1e-5)
    assert objective.counts(inputs)["frames"] == 24 + 15
    # What stands behind an utterance's end doesn't count.
    changed = active.clone()
    changed[1, 15:] = 1 - changed[1, 15:]
    assert objective(inputs | {"labels": changed})[0]["frames"].item() == pytest.approx(sums[0], rel=1e-6)
    whole[0][0]["frames"].backward()
    assert model.classifier.weight.grad.abs().sum() > 0
