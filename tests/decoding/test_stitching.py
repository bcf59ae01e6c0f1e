from __future__ import annotations

import numpy as np

from wavconformer.decoding.stitching import NOBODY, Heard, smoothed, stitch


def heard(first: int, *columns: str) -> Heard:
    """A window of columns drawn as text: # somebody speaks."""
    active = np.array([[mark == "#" for mark in column] for column in columns]).T
    return Heard(first, active, np.where(active, 230, 20).astype(np.uint8))


def owners(window: Heard, *speakers: int) -> np.ndarray:
    """One speaker for each column."""
    return np.tile(np.array(speakers), (len(window.active), 1))


def drawn(active: np.ndarray) -> list[str]:
    return ["".join("#" if one else "." for one in column) for column in active.T]


def test_overlapping_windows_with_their_columns_in_any_order():
    windows = [heard(0, "###...", "...###"), heard(3, "###...", "....##"), heard(6, "......", "##..##")]
    speakers = [owners(windows[0], 0, 1), owners(windows[1], 1, 0), owners(windows[2], NOBODY, 0)]
    #              0123456789AB
    assert drawn(stitch(windows, speakers, 2, 12)) == [
        "###....#..##",  # in frame 6 one window hears nobody, one window nobody of theirs; in 7 both
        "...###......",
    ]


def test_where_windows_are_of_two_minds_chances_decide():
    windows = [heard(0, "##"), heard(0, "..")]
    speakers = [owners(window, 0) for window in windows]
    assert drawn(stitch(windows, speakers, 1, 2)) == [".."]
    windows[1].chances[1] = 120
    assert drawn(stitch(windows, speakers, 1, 2)) == [".#"]


def test_both_are_heard_where_they_overlap():
    windows = [heard(0, "####..", "..####"), heard(2, "####", "##..")]
    speakers = [owners(windows[0], 0, 1), owners(windows[1], 1, 0)]
    assert drawn(stitch(windows, speakers, 2, 6)) == ["####..", "..####"]


def test_a_column_may_stand_for_several_one_after_the_other():
    window = heard(0, "####..", "...###")
    speakers = np.array([[0, 0, 1, 1, 1, 1], [2, 2, 2, 2, 0, 0]]).T
    assert drawn(stitch([window], [speakers], 3, 6)) == ["##..##", "..##..", "...#.."]


def test_a_person_that_clustering_parted_is_not_lost():
    # Each window gives the one who speaks to another speaker: there is one all the same, and not two or none.
    windows = [heard(0, "####"), heard(0, "####")]
    active = stitch(windows, [owners(windows[0], 0), owners(windows[1], 1)], 2, 4)
    assert active.sum(1).tolist() == [1, 1, 1, 1]


def test_two_columns_of_one_speaker_are_one():
    window = heard(0, "##..", ".##.")
    assert drawn(stitch([window], [owners(window, 0, 0)], 1, 5)) == ["###.."]


def test_no_windows_and_no_speakers():
    assert stitch([], [], 2, 4).tolist() == [[False, False]] * 4
    assert stitch([], [], 0, 3).shape == (3, 0)


def test_short_rests_are_filled_and_short_turns_taken_away():
    active = np.array([[mark == "#" for mark in "..##.##...#..###"]]).T
    assert drawn(smoothed(active, 0, 0)) == ["..##.##...#..###"]
    assert drawn(smoothed(active, 1, 2)) == ["..#####......###"]
    assert drawn(smoothed(active, 3, 1)) == ["..##############"]
    assert drawn(smoothed(active, 0, 9)) == ["................"]
    assert smoothed(np.zeros((0, 2), bool), 2, 2).shape == (0, 2)
