from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wavconformer.decoding.greedy import GreedyDecoder, greedy
from wavconformer.decoding.joining import Frames, Joiner
from wavconformer.decoding.transcript import Segment, Transcript, segments
from wavconformer.decoding.words import Word, words

BLANK, SPACE = 0, 3
SYMBOLS = [None, "A", "B", " "]
DECODER = GreedyDecoder(SYMBOLS, BLANK, 0.02)


def log_probs(labels, best=0.9) -> np.ndarray:
    """Log-probabilities (T, V) whose likeliest tokens are these, each with its own probability, or all with one."""
    chances = np.full((len(labels), len(SYMBOLS)), 0.0)
    each = np.broadcast_to(best, len(labels))
    chances[:] = ((1 - each) / (len(SYMBOLS) - 1))[:, None]
    chances[np.arange(len(labels)), labels] = each
    return np.log(chances).astype(np.float32)


def test_a_token_is_as_probable_as_in_its_best_frame():
    tokens = greedy(np.array([1, 1, 0, 1, 2]), BLANK, np.log([0.5, 0.75, 1.0, 0.25, 0.125]))
    assert tokens.probabilities == pytest.approx([0.75, 0.25, 0.125])
    assert greedy(np.array([1]), BLANK).probabilities is None
    assert len(greedy(np.zeros(3, int), BLANK, np.zeros(3)).probabilities) == 0


def test_a_word_is_as_probable_as_its_tokens_are_on_average():
    frames = log_probs([1, 2, 2, 0, 3, 1], [0.6, 0.7, 0.8, 0.99, 0.4, 0.5])
    first, second = DECODER(frames)
    assert (first.text, second.text) == ("AB", "A")
    assert first.probability == pytest.approx(0.7, abs=1e-4)
    assert second.probability == pytest.approx(0.5, abs=1e-4)


def test_times_count_from_the_recordings_start():
    (word,) = DECODER(log_probs([0, 1, 2]), first_frame=1_000)
    assert (word.start, word.end) == (20.02, 20.06)


def test_words_without_posteriors_have_no_probability():
    (word,) = words(greedy(np.array([1]), BLANK), SYMBOLS, 0.02)
    assert word.probability is None


# Joining


@st.composite
def cut_frames(draw):
    """Frames with the windows that they came in: where each ends, and whether in a pause."""
    labels = draw(st.lists(st.sampled_from([0, 0, 0, 1, 2, 3]), min_size=1, max_size=60))
    ends = draw(st.lists(st.integers(1, len(labels)), max_size=6))
    return labels, sorted({*ends, len(labels)})


@given(cut_frames(), st.sampled_from([3_000, 10]))
def test_cutting_anywhere_gives_the_words_of_the_whole(example, most):
    labels, ends = example
    if most == 10 and not _has_boundaries(labels, most):
        return
    frames, joiner, found, start = log_probs(labels), Joiner([SPACE], BLANK, most), [], 0
    for end in ends:
        for stretch in joiner.feed(Frames(frames[start:end], start), closed=False):
            found += DECODER(stretch.log_probs, stretch.first)
        start = end
    for stretch in joiner.finish():
        found += DECODER(stretch.log_probs, stretch.first)
    assert tuple(found) == DECODER(frames)
    assert joiner.finish() == []


def _has_boundaries(labels, most) -> bool:
    """Whether a delimiter stands in every stretch of so many frames, so that nothing has to be cut by force."""
    return all(SPACE in labels[start : start + most // 2] for start in range(max(1, len(labels) - most // 2)))


def test_a_word_across_a_seam_is_one_word():
    joiner = Joiner([SPACE], BLANK)
    assert joiner.feed(Frames(log_probs([1, 3, 0, 1]), 100), closed=False)[0].end == 102
    (stretch,) = joiner.feed(Frames(log_probs([1, 2, 0]), 104), closed=True)
    assert [(word.text, word.start) for word in DECODER(stretch.log_probs, stretch.first)] == [("AB", 2.06)]


def test_silence_left_out_between_windows_ends_a_stretch():
    joiner = Joiner([SPACE], BLANK)
    assert joiner.feed(Frames(log_probs([1, 2]), 0), closed=False) == []
    first, second = joiner.feed(Frames(log_probs([1]), 50), closed=True)
    assert (first.first, first.end, second.first, second.end) == (0, 2, 50, 51)
    assert joiner.feed(Frames(log_probs([]), 60), closed=False) == []


def test_frames_without_a_boundary_do_not_wait_for_ever():
    joiner = Joiner([SPACE], BLANK, most=100)
    given_out = waiting = 0
    for start in range(0, 10_000, 20):
        waiting += 20
        for stretch in joiner.feed(Frames(log_probs([1, 2] * 9 + [0, 0]), start), closed=False):
            waiting -= len(stretch.log_probs)
            given_out += 1
        assert waiting < 200
    assert given_out > 50
    joiner = Joiner([SPACE], BLANK, most=10)
    (stretch,) = joiner.feed(Frames(log_probs([1, 2] * 10), 0), closed=False)
    assert len(stretch.log_probs) == 20  # not even a blank


def test_without_a_delimiter_words_end_where_it_is_quiet():
    joiner = Joiner([], BLANK)
    (stretch,) = joiner.feed(Frames(log_probs([1, 0, 1, 2, 0, 0, 0, 0, 1]), 0), closed=False)
    assert stretch.end == 6
    assert joiner.finish()[0].first == 6


# Segments


def word(text: str, start: float, end: float) -> Word:
    return Word(text, start, end, 0.5)


def test_segments_end_where_nobody_speaks():
    spoken = [word("A", 0, 0.5), word("B", 1.2, 1.5), word("C", 2.4, 2.6)]
    parts = segments(spoken)
    assert [str(part) for part in parts] == ["A B", "C"]
    assert parts[0] == Segment("A B", 0, 1.5, (spoken[0], spoken[1]))
    assert segments([]) == ()
    transcript = Transcript.of(parts, 3.0, ["cut off"])
    assert str(transcript) == "A B C"
    assert transcript.words == tuple(spoken)
    plain = transcript.as_dict()
    assert plain["segments"][1] == {"text": "C", "start": 2.4, "end": 2.6}
    assert plain["problems"] == ["cut off"]
    assert "problems" not in Transcript.of(parts, 3.0).as_dict()


@given(hnp.arrays(np.float32, (7, 4), elements=st.floats(-5, 5, width=32)))
def test_decoding_takes_any_scores(scores):
    for found in DECODER(scores):
        assert found.text
        assert 0 <= found.start < found.end
