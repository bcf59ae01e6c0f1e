from __future__ import annotations

import jiwer
import numpy as np
import pytest

from wavconformer import DataError
from wavconformer.scoring.words import Normalisation, score_words

REFERENCES = ["the cat sat on the mat", "hello world", "a b c", "one two three four"]
HYPOTHESES = ["the cat sit on mat", "hello there big world", "", "one two three four"]


def test_rates_are_those_of_jiwer(random):
    vocabulary = np.array(["a", "be", "see", "day", "easy", "f"])
    references = [" ".join(random.choice(vocabulary, random.integers(1, 12))) for _ in range(80)]
    hypotheses = [" ".join(random.choice(vocabulary, random.integers(0, 12))) for _ in range(80)]
    scores = score_words(references, hypotheses, normalise="none")
    assert scores.wer.value == pytest.approx(jiwer.wer(references, hypotheses), abs=1e-15)
    assert scores.cer.value == pytest.approx(jiwer.cer(references, hypotheses), abs=1e-15)
    counted = jiwer.process_words(references, hypotheses)
    assert (scores.wer.substitutions, scores.wer.deletions, scores.wer.insertions) == (
        counted.substitutions,
        counted.deletions,
        counted.insertions,
    )
    assert scores.wer.interval.low < scores.wer.value < scores.wer.interval.high
    assert sum(pair.words.errors for pair in scores.pairs) == scores.wer.errors


def test_errors_by_hand():
    scores = score_words(REFERENCES, HYPOTHESES)
    assert (scores.wer.errors, scores.wer.length) == (2 + 2 + 3 + 0, 6 + 2 + 3 + 4)
    assert (scores.wer.substitutions, scores.wer.deletions, scores.wer.insertions) == (1, 4, 2)
    assert scores.wrong == 3
    assert [pair.id for pair in scores.worst(2)] == ["2", "1"]
    assert len(scores.worst(10)) == 3


def test_the_alignment_covers_both_texts():
    for pair in score_words(REFERENCES, HYPOTHESES).pairs:
        assert " ".join(word for chunk in pair.chunks for word in chunk.reference) == pair.reference
        assert " ".join(word for chunk in pair.chunks for word in chunk.hypothesis) == pair.hypothesis
    reference, hypothesis, signs = score_words(["the cat sat down"], ["cat sit down now"]).pairs[0].aligned()[0]
    assert reference == "the cat sat down ***"
    assert hypothesis == "*** cat sit down now"
    assert signs == "D       S        I"
    narrow = score_words(["the cat sat down"], ["cat sit down now"]).pairs[0].aligned(8)
    assert narrow == [("the cat", "*** cat", "D"), ("sat down", "sit down", "S"), ("***", "now", "I")]


def test_silence_that_is_heard_as_words_is_inserted():
    scores = score_words(["", "yes", ""], ["oh no", "yes", ""])
    assert (scores.wer.errors, scores.wer.insertions, scores.wer.length) == (2, 2, 1)
    assert (scores.cer.insertions, scores.cer.length) == (5, 3)
    assert scores.pairs[0].chunks[0].hypothesis == ("oh", "no")
    assert scores.worst(1)[0].id == "0"
    only = score_words([""], ["word"])
    assert np.isnan(only.wer.value)
    assert only.wer.as_dict()["value"] is None


def test_groups_are_scored_alone_and_the_worst_comes_first():
    scores = score_words(REFERENCES, HYPOTHESES, groups=["anna", "anna", "ben", None])
    assert [(group.name, group.utterances) for group in scores.groups] == [("ben", 1), ("anna", 2)]
    alone = score_words(REFERENCES[:2], HYPOTHESES[:2])
    assert scores.groups[1].wer == alone.wer
    assert scores.groups[0].wer.interval is None


@pytest.mark.parametrize(
    ("name", "text", "normal"),
    [
        ("none", "  Don’t,  STOP! ", "Don’t, STOP!"),
        ("case", "Don't, STOP! Ä", "don't, stop! ä"),
        ("punctuation", "Don’t, STOP! (now)", "Don't STOP now"),
        ("standard", "‘Don’t’—stop: well-known and/or U.S.A. …", "don't stop well known and or usa"),
        ("standard", "A\u0308 rock 'n' roll, 3.5 % for $5 & more", "ä rock n roll 35 for $5 more"),
        ("standard", "x² + y ≠ «z»¿", "x² + y ≠ z"),
    ],
)
def test_normalisation(name, text, normal):
    assert Normalisation(name)(text) == normal
    assert Normalisation(name)(normal) == normal


def test_normalisation_can_be_switched_off_and_is_stated():
    assert score_words(["Hello, World"], ["hello world"]).wer.errors == 0
    strict = score_words(["Hello, World"], ["hello world"], normalise="none")
    assert strict.wer.errors == 2
    assert strict.as_dict()["normalisation"] == {"name": "none", "what": "texts as they are"}
    assert score_words(["Hello, World"], ["hello world"], normalise="case").wer.errors == 1
    with pytest.raises(ValueError, match="nonsense"):
        score_words(["a"], ["a"], normalise="nonsense")


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match="2 references go with as many hypotheses"):
        score_words(["a", "b"], ["a"])
    with pytest.raises(DataError, match="no utterances to score"):
        score_words([], [])


def test_a_missing_jiwer_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(Exception, match=r"pip install 'wavconformer\[evaluate\]'"):
        score_words(["a"], ["a"])
