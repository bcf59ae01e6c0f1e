"""Decoding stretch after stretch of an utterance."""

from __future__ import annotations

import numpy as np
import pytest

from wavconformer.decoding.beam import BeamDecoder, BeamSettings
from wavconformer.decoding.decoder import PartDecoder
from wavconformer.decoding.greedy import GreedyDecoder
from wavconformer.decoding.joining import Frames, Joiner
from wavconformer.decoding.utterances import UtteranceDecoder
from wavconformer.decoding.words import Word
from wavconformer.lm.kneser_ney import estimate

SYMBOLS = [None, " ", "A", "B"]
TEXT = ["AB A", "AB BA", "A BA BB", "BA AB A", "B"]


class Remembering:
    """A part decoder that tells what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, list[str], bool]] = []

    def __call__(self, log_probs, first_frame=0):
        raise AssertionError("part is there")

    def part(self, log_probs, first_frame=0, *, before=(), is_last=True):
        self.calls.append((first_frame, len(log_probs), list(before), is_last))
        return (Word(f"W{first_frame}", first_frame / 50, (first_frame + 1) / 50),)


def frames(labels: list[int], first: int) -> Frames:
    return Frames(np.log(np.eye(4, dtype=np.float32)[labels] * 0.9 + 0.025), first)


def test_words_before_are_told_until_a_pause():
    decoder = Remembering()
    assert isinstance(decoder, PartDecoder)
    utterances = UtteranceDecoder(decoder, Joiner([1], 0))
    assert [one.text for one in utterances.feed(frames([2, 1, 3], 0), closed=False)] == ["W0"]
    assert utterances.feed(frames([3], 3), closed=False) == []
    assert [word.text for word in utterances.guess(frames([2, 2], 4))] == ["W2"]
    assert [one.text for one in utterances.feed(frames([1, 2], 4), closed=True)] == ["W2"]
    assert [one.text for one in utterances.feed(frames([2, 1], 6), closed=False)] == ["W6"]
    # A gap is a pause too, with something waiting before it and without.
    assert [one.text for one in utterances.feed(frames([2, 1, 2], 20), closed=False)] == ["W20"]
    assert [one.text for one in utterances.feed(frames([2], 40), closed=False)] == ["W22"]
    assert [one.text for one in utterances.finish()] == ["W40"]
    assert utterances.finish() == []
    assert decoder.calls == [
        (0, 2, [], False),
        (2, 4, ["W0"], False),
        (2, 4, ["W0"], True),
        (6, 2, [], False),
        (20, 2, [], False),
        (22, 1, ["W20"], True),
        (40, 1, [], True),
    ]


def test_a_guess_after_a_gap_is_of_what_follows_it():
    utterances = UtteranceDecoder(GreedyDecoder(SYMBOLS, 0, 0.02), Joiner([1], 0))
    assert utterances.feed(frames([2], 0), closed=False) == []
    assert [word.text for word in utterances.guess(frames([3], 1))] == ["AB"]
    assert [word.text for word in utterances.guess(frames([3], 5))] == ["B"]
    assert [one.text for one in utterances.finish()] == ["A"]


def test_without_delimiters_a_boundary_is_certain_only_after_long():
    joiner = Joiner([], 0, least=20)
    assert joiner.feed(frames([2, 0, 0, 3], 0), closed=False) == []
    (stretch,) = joiner.feed(frames([2, 2, 3, 3] * 3 + [0] * 3 + [2], 4), closed=False)
    assert stretch.end == 18
    assert not stretch.is_last
    assert joiner.finish()[0].is_last
    long = Joiner([], 0, most=30, least=20)
    assert long.feed(frames([2, 3] * 12, 0), closed=False) == []
    assert len(long.feed(frames([2, 3] * 12, 24), closed=False)) == 1


@pytest.mark.parametrize("unit", ["word", "letter"])
def test_a_language_model_goes_on_where_it_was(unit):
    """What follows depends on the words before, and the end of a sentence is scored at its end alone."""
    if unit == "word":
        lm = estimate((line.split() for line in TEXT), 3).model
    else:
        lm = estimate((list(line.replace(" ", "|")) for line in TEXT), 4).model
    settings = BeamSettings(beam_width=1_000, alpha=1.0, beta=0.0, beam_prune_logp=-50, token_min_logp=-50)
    decoder = BeamDecoder(SYMBOLS, 0, lm, settings=settings)
    doubtful = np.log(np.full((1, 4), 0.01, np.float32))
    doubtful[0, 2:] = np.log([0.485, 0.485])  # A or B, the language model is to say
    after = {before: decoder.part(doubtful, before=before)[0].text for before in ((), ("AB",), ("BA", "AB"), ("A",))}
    scorer = lm.scorer()

    def score(units: list[str]) -> float:
        state, total = scorer.start(), 0.0
        for one in units:
            logp, states = scorer.score(np.array([state]), np.array([lm.index(one)]))
            state, total = int(states[0]), total + float(logp[0])
        return total

    for before, found in after.items():
        if unit == "word":
            scores = {letter: score([*before, letter, "</s>"]) for letter in "AB"}
        else:
            written = [letter for word in before for letter in (*word, "|")]
            scores = {letter: score([*written, letter, "</s>"]) for letter in "AB"}
        assert found == max(scores, key=lambda letter: scores[letter])
    first, last = (decoder._search([doubtful], 1, is_last=is_last)[0][0] for is_last in (False, True))
    assert first.lm != last.lm
