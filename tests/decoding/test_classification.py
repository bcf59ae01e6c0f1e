"""From a head's outputs to labels, and to stretches of time."""

from __future__ import annotations

import json

import numpy as np
import pytest

from wavconformer import Wav2Vec2ConformerConfig
from wavconformer.decoding.classification import MULTI, REGRESSION, SINGLE, Score, Span, Verdict, problem_of
from wavconformer.writers.classes import CLASS_FORMATS, render_classes

NAMES = ("a", "b", "c")
# Windows of 1 s, half a second apart; the last ends with the recording.
TIMES = [(0.0, 1.0), (0.5, 1.5), (1.0, 2.0), (1.2, 2.2)]


def logits(*rows):
    return [np.log(np.array(row, np.float32)) for row in rows]


def odds(*rows):
    return [np.log(np.array(row) / (1 - np.array(row))) for row in rows]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"num_labels": 3}, SINGLE),
        ({"num_labels": 1}, REGRESSION),
        ({"num_labels": 1, "problem_type": MULTI}, MULTI),
        ({"num_labels": 3, "problem_type": REGRESSION}, REGRESSION),
        ({"num_labels": 3, "problem_type": MULTI}, MULTI),
    ],
)
def test_what_a_head_answers(settings, problem):
    assert problem_of(Wav2Vec2ConformerConfig(**settings)) == problem


def test_one_of_several_labels():
    found = Verdict(SINGLE, NAMES, top=2)(logits([0.2, 0.7, 0.1]), [(0.0, 2.0)], 2.0)
    assert found.scores == (Score("b", 0.7), Score("a", 0.2))
    assert (found.label, found.labels, found.spans) == ("b", ("b",), ())
    assert str(found) == "b 0.700, a 0.200"
    assert len(Verdict(SINGLE, NAMES, top=None)(logits([0.2, 0.7, 0.1]), [(0.0, 2.0)], 2.0).scores) == 3


def test_probabilities_don_t_overflow():
    wild = np.array([-1e4, 0.0, 1e4], np.float32)
    for problem in (SINGLE, MULTI):
        found = Verdict(problem, NAMES)([wild], [(0.0, 1.0)], 1.0)
        assert found.scores[0] == Score("c", 1.0)
        assert {one.label: one.score for one in found.scores}["a"] == 0.0


def test_several_labels_at_once():
    found = Verdict(MULTI, NAMES, top=1, threshold=0.6)(odds([0.9, 0.55, 0.65]), [(0.0, 2.0)], 2.0)
    assert found.labels == ("a", "c")
    assert found.scores == (Score("a", 0.9),)
    none = Verdict(MULTI, NAMES, threshold=0.6)(odds([0.1, 0.2, 0.3]), [(0.0, 2.0)], 2.0)
    assert (none.label, none.labels) == (None, ())


def test_numbers_to_predict_come_in_their_order():
    found = Verdict(REGRESSION, NAMES, top=1)([np.array([-1.5, 7.0, 2.0], np.float32)] * 4, TIMES, 2.2)
    assert found.scores == (Score("a", -1.5), Score("b", 7.0), Score("c", 2.0))
    assert (found.label, found.labels, found.spans) == (None, (), ())
    assert [window.scores for window in found.windows] == [found.scores] * 4


def test_neighbouring_windows_of_one_label_are_one_span():
    rows = logits([0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.9, 0.0001], [0.5, 0.2, 0.3])
    found = Verdict(SINGLE, NAMES, top=1)(rows, TIMES, 2.2)
    assert found.spans == (
        Span("a", 0.0, 1.25, 0.7),
        Span("b", 1.25, 1.6, pytest.approx(0.9, abs=1e-3)),
        Span("a", 1.6, 2.2, 0.5),
    )
    assert found.label == "a"
    assert found.scores[0].score == pytest.approx(0.5, abs=1e-3)  # the mean of the windows
    assert [window.scores[0].label for window in found.windows] == ["a", "a", "b", "a"]
    assert [(window.start, window.end) for window in found.windows] == TIMES


def test_spans_of_several_labels_overlap():
    rows = odds([0.9, 0.1, 0.1], [0.9, 0.7, 0.1], [0.2, 0.9, 0.1], [0.2, 0.1, 0.1])
    assert Verdict(MULTI, NAMES)(rows, TIMES, 2.2).spans == (Span("a", 0.0, 1.25, 0.9), Span("b", 0.75, 1.6, 0.8))


@pytest.mark.parametrize("top", [0, -1])
def test_no_labels_to_tell(top):
    with pytest.raises(ValueError, match="top is"):
        Verdict(SINGLE, NAMES, top=top)


@pytest.mark.parametrize("threshold", [0.0, 1.0, float("nan")])
def test_a_threshold_that_decides_nothing(threshold):
    with pytest.raises(ValueError, match="threshold is"):
        Verdict(MULTI, NAMES, threshold=threshold)


# --- writers


@pytest.fixture
def long():
    rows = logits([0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.1, 0.6, 0.3])
    return Verdict(SINGLE, NAMES, top=2)(rows, TIMES, 2.2, ["cut off"])


def test_text_has_the_best_and_the_time_line(long):
    assert render_classes(long, "txt") == (
        "b 0.450, a 0.400\n      0.00     1.25  a 0.700\n      1.25     2.20  b 0.700\n"
    )
    assert render_classes(long, "txt", name="x.wav").startswith("x.wav\tb 0.450, a 0.400\n")


def test_json_has_all(long):
    content = json.loads(render_classes(long, "json", name="x.wav"))
    assert content["file"] == "x.wav"
    assert content["labels"] == ["b"]
    assert content["spans"][0] == {"label": "a", "start": 0.0, "end": 1.25, "score": 0.7}
    assert [window["end"] for window in content["windows"]] == [end for _, end in TIMES]
    assert content["problems"] == ["cut off"]
    short = Verdict(SINGLE, NAMES)(logits([0.2, 0.7, 0.1]), [(0.0, 2.0)], 2.0)
    assert list(json.loads(render_classes(short, "json"))) == ["labels", "scores", "duration", "problem"]


def test_a_table_has_a_row_for_each_window_and_label(long):
    lines = render_classes(long, "tsv", name="a\tb.wav").splitlines()
    assert lines[0].split("\t") == ["file", "start", "end", "label", "score"]
    assert lines[1].split("\t") == ["a b.wav", "0.000", "1.000", "a", "0.800000"]
    assert len(lines) == 1 + 4 * 2
    assert not render_classes(long, "tsv", heading=False).startswith("file")


def test_another_format_is_refused(long):
    with pytest.raises(ValueError, match="format is 'srt', but must be one of " + ", ".join(CLASS_FORMATS)):
        render_classes(long, "srt")
