from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, precision_recall_fscore_support

from wavconformer import DataError
from wavconformer.scoring.classes import score_classes


def test_figures_are_those_of_sklearn(random):
    names = np.array(["yes", "no", "stop", "go"])
    references = names[random.integers(4, size=300)]
    hypotheses = np.where(random.random(300) < 0.7, references, names[random.integers(4, size=300)])
    scores = score_classes(references.tolist(), hypotheses.tolist(), names.tolist())
    assert scores.accuracy == pytest.approx(accuracy_score(references, hypotheses))
    assert scores.balanced_accuracy == pytest.approx(balanced_accuracy_score(references, hypotheses))
    np.testing.assert_array_equal(scores.confusion, confusion_matrix(references, hypotheses, labels=names))
    expected = precision_recall_fscore_support(references, hypotheses, labels=names)
    found = [[one.precision for one in scores.classes], [one.recall for one in scores.classes]]
    found += [[one.f1 for one in scores.classes], [one.count for one in scores.classes]]
    np.testing.assert_allclose(found, expected)
    assert scores.interval.low < scores.accuracy < scores.interval.high


def test_what_cannot_be_told_is_none():
    scores = score_classes(["a", "a"], ["b", "a"], ["a", "b", "c"])
    a, b, c = scores.classes
    assert (a.precision, a.recall, a.f1) == (1, 0.5, pytest.approx(2 / 3))
    assert (b.precision, b.recall, b.f1) == (0, None, 0)
    assert (c.precision, c.recall, c.f1) == (None, None, None)
    assert scores.balanced_accuracy == 0.5
    assert score_classes(["x"], ["x"]).names == ("x",)


def test_what_is_refused():
    with pytest.raises(DataError, match="'d' is none of the classes a, b"):
        score_classes(["a"], ["d"], ["a", "b"])
    with pytest.raises(DataError, match="no utterances"):
        score_classes([], [])
    with pytest.raises(ValueError, match="2 references"):
        score_classes(["a", "b"], ["a"])
