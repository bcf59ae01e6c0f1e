from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from wavconformer import DataError
from wavconformer.data.rttm import Turn
from wavconformer.scoring.diarization import score_diarization


def turns(recording, *given):
    return [Turn(recording, start, end, speaker) for start, end, speaker in given]


def test_parts_by_hand():
    reference = turns("r", (0, 10, "anna"), (10, 20, "ben"))
    hypothesis = turns("r", (1, 12, "x"), (12, 20, "y"), (22, 23, "y"))
    scores = score_diarization(reference, hypothesis)
    total = scores.total
    assert (total.speech, total.missed, total.false_alarm, total.confusion) == pytest.approx((20, 1, 1, 2))
    assert scores.rate == pytest.approx(0.2)
    assert scores.as_dict()["der"] == pytest.approx(0.2)


def test_against_a_count_of_frames(random):
    """Turns on a grid of 0.1 s, counted frame by frame with every way to match the speakers."""
    for _ in range(15):
        true, heard = (random.random((3, 60)) < 0.35 for _ in range(2))
        true[0, :2] = True

        def as_turns(active):
            return [
                Turn("r", frame / 10, (frame + 1) / 10, f"s{speaker}")
                for speaker, frame in np.argwhere(active).tolist()
            ]

        speech = true.sum()
        missed = np.maximum(true.sum(0) - heard.sum(0), 0).sum()
        false_alarm = np.maximum(heard.sum(0) - true.sum(0), 0).sum()
        right = max((true & heard[list(order)]).sum() for order in permutations(range(3)))
        confusion = np.minimum(true.sum(0), heard.sum(0)).sum() - right
        total = score_diarization(as_turns(true), as_turns(heard), extents={"r": (0, 6)}).total
        found = (total.speech, total.missed, total.false_alarm, total.confusion)
        assert found == pytest.approx((speech / 10, missed / 10, false_alarm / 10, confusion / 10), abs=1e-6)


def test_the_collar_is_on_either_side():
    reference, late = turns("r", (1, 3, "a")), turns("r", (1.2, 3.2, "a"))
    assert score_diarization(reference, late).rate == pytest.approx(0.2)
    assert score_diarization(reference, late, collar=0.25).rate == 0
    half = score_diarization(reference, late, collar=0.1)
    assert half.total.speech == pytest.approx(1.8)  # 1.1 to 2.9
    assert (half.total.missed, half.total.false_alarm) == pytest.approx((0.1, 0.1))
    with pytest.raises(ValueError, match="collar"):
        score_diarization(reference, late, collar=-1)


def test_overlap_may_be_left_out():
    reference = turns("r", (0, 4, "a"), (3, 8, "b"))
    hypothesis = turns("r", (0, 3.5, "x"), (3.5, 8, "y"))
    assert score_diarization(reference, hypothesis).total.missed == pytest.approx(1)
    without = score_diarization(reference, hypothesis, skip_overlap=True)
    assert (without.rate, without.total.speech) == (0, pytest.approx(7))


def test_recordings_add_up_by_their_speech():
    reference = turns("long", (0, 90, "a")) + turns("short", (0, 10, "a"))
    hypothesis = turns("long", (0, 90, "z"))
    scores = score_diarization(reference, hypothesis)
    assert scores.rate == pytest.approx(0.1)
    assert [(one.name, one.rate) for one in scores.recordings] == [("short", 1.0), ("long", 0.0)]


def test_what_is_refused():
    with pytest.raises(DataError, match="no turns"):
        score_diarization([], [])
    with pytest.raises(DataError, match="turns of 'other', which the reference doesn't know"):
        score_diarization(turns("r", (0, 1, "a")), turns("other", (0, 1, "a")))
