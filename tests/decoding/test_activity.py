from __future__ import annotations

import numpy as np
import pytest

from wavconformer import ConfigError, Wav2Vec2ConformerConfig
from wavconformer.decoding.activity import SpeakerLabels

SETS = ["nobody", "A", "B", "C", "A+B", "A+C", "B+C"]


def labels_of(names, problem="single_label_classification"):
    return SpeakerLabels.of(Wav2Vec2ConformerConfig(id2label=dict(enumerate(names)), problem_type=problem))


def test_names_of_sets_say_who_speaks():
    labels = labels_of(SETS)
    assert labels.names == ("A", "B", "C")
    assert labels.sets.astype(int).tolist() == [
        [0, 0, 0],
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
        [1, 1, 0],
        [1, 0, 1],
        [0, 1, 1],
    ]
    logits = np.full((3, 7), -5.0, np.float32)
    logits[0, 0] = logits[1, 2] = logits[2, 5] = 5.0
    assert labels.active(logits).astype(int).tolist() == [[0, 0, 0], [0, 1, 0], [1, 0, 1]]


def test_a_speaker_is_as_likely_as_all_sets_with_them(random):
    labels = labels_of(SETS)
    logits = random.standard_normal((5, 7)).astype(np.float32)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = [sum(shares[:, number] for number, name in enumerate(SETS) if who in name) for who in "ABC"]
    np.testing.assert_allclose(labels.probabilities(logits), np.stack(expected, 1), atol=1e-6)


@pytest.mark.parametrize("problem", [None, "multi_label_classification"])
def test_several_labels_at_once_are_a_speaker_each(problem):
    labels = labels_of(["one", "two"], problem)
    assert labels.sets is None and labels.names == ("one", "two")
    logits = np.array([[-1.0, 2.0], [0.5, 0.0], [-100.0, 100.0]], np.float32)
    assert labels.active(logits).tolist() == [[False, True], [True, False], [False, True]]
    np.testing.assert_allclose(labels.probabilities(logits), 1 / (1 + np.exp(-logits.astype(np.float64))), atol=1e-6)


@pytest.mark.parametrize(
    ("names", "problem", "message"),
    [
        (["music", "speech"], "single_label_classification", "must name sets of speakers"),
        (["nobody", "A", "A+A"], "single_label_classification", "must name sets of speakers"),
        (["nobody"] * 1 + ["A", "B", "C", "A+B"], "single_label_classification", "treat the speakers unequally"),
        (["nobody", "A", "A+B"], "single_label_classification", "treat the speakers unequally"),
        (["A"], "regression", "A head for regression"),
    ],
)
def test_labels_that_do_not_say_who_speaks(names, problem, message):
    with pytest.raises(ConfigError, match=message):
        labels_of(names, problem)
