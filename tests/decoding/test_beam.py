from __future__ import annotations

import itertools
import math
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavconformer.decoding.beam import BeamDecoder, BeamSettings, is_of_letters
from wavconformer.decoding.decoder import ManyDecoder, decode_all
from wavconformer.decoding.greedy import greedy
from wavconformer.decoding.words import words
from wavconformer.errors import DataError
from wavconformer.lm.arpa import write_arpa
from wavconformer.lm.kenlm import KenlmModel
from wavconformer.lm.kneser_ney import estimate

SYMBOLS = [None, " ", "A", "B"]
LN10 = math.log(10)
ALL = BeamSettings(beam_width=10_000, beam_prune_logp=-math.inf, token_min_logp=-math.inf)
TEXT = ["AB A", "AB BA", "A BA BB", "BA AB A", "B"]


@pytest.fixture(scope="module")
def lm():
    return estimate((line.split() for line in TEXT), 3).model


@pytest.fixture(scope="module")
def letters():
    return estimate((list(line.replace(" ", "|")) for line in TEXT), 3).model


def lattices(tokens: int, longest: int):
    cell = st.floats(-8, 0).map(lambda value: round(value, 3))
    return st.integers(1, longest).flatmap(
        lambda frames: st.lists(st.lists(cell, min_size=tokens, max_size=tokens), min_size=frames, max_size=frames)
    )


def normal(rows) -> np.ndarray:
    rows = np.array(rows, np.float64)
    return rows - np.logaddexp.reduce(rows, axis=1, keepdims=True)


def read(path, symbols) -> str:
    return " ".join("".join(symbols[token] or "" for token, _ in groupby(path)).split())


def every_text(log_probs, symbols=SYMBOLS) -> dict[str, float]:
    """ln P of each text, by going through all paths."""
    texts: dict[str, float] = {}
    for path in itertools.product(range(len(symbols)), repeat=len(log_probs)):
        text = read(path, symbols)
        score = float(log_probs[np.arange(len(path)), path].sum())
        texts[text] = float(np.logaddexp(texts.get(text, -math.inf), score))
    return texts


def lm_score(lm, units, setting, known=None) -> float:
    scorer, score = lm.scorer(), 0.0
    state = np.array([scorer.start(setting.score_boundary)])
    for unit in units:
        logp, state = scorer.score(state, np.array([lm.index(unit)]))
        score += setting.alpha * LN10 * float(logp[0]) + setting.beta
        if unit not in (lm.words if known is None else known):
            score += setting.alpha * LN10 * setting.unk_score_offset
    if setting.score_boundary:
        score += setting.alpha * LN10 * float(scorer.score(state, np.array([lm.index("</s>")]))[0][0])
    return score


def times(found) -> list[tuple[str, float, float]]:
    return [(word.text, word.start, word.end) for word in found]


def assert_same(found, expected: dict[str, tuple[float, float]]) -> None:
    assert {one.text for one in found} == set(expected)
    for one in found:
        acoustic, rest = expected[one.text]
        assert one.acoustic == pytest.approx(acoustic, abs=1e-8)
        assert one.lm + one.hotwords == pytest.approx(rest, abs=1e-6)
        assert one.score == pytest.approx(acoustic + rest, abs=1e-6)
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)


@settings(max_examples=30, deadline=None)
@given(lattices(4, 5))
def test_a_wide_beam_is_exhaustive_search(rows):
    log_probs = normal(rows)
    found = BeamDecoder(SYMBOLS, 0, settings=ALL).hypotheses(log_probs, 10_000)
    assert_same(found, {text: (score, 0.0) for text, score in every_text(log_probs).items()})


@settings(max_examples=30, deadline=None)
@given(lattices(4, 5), st.floats(0, 2), st.floats(-1, 3), st.floats(-4, 0), st.booleans())
def test_a_wide_beam_with_a_language_model_is_exhaustive_search(lm, rows, alpha, beta, offset, boundary):
    setting = BeamSettings(10_000, -math.inf, -math.inf, alpha, beta, offset, boundary)
    log_probs = normal(rows)
    found = BeamDecoder(SYMBOLS, 0, lm, settings=setting).hypotheses(log_probs, 10_000)
    texts = every_text(log_probs)
    assert_same(found, {text: (score, lm_score(lm, text.split(), setting)) for text, score in texts.items()})


@settings(max_examples=30, deadline=None)
@given(lattices(4, 5))
def test_the_one_text_is_among_the_best(lm, rows):
    log_probs = normal(rows)
    decoder = BeamDecoder(SYMBOLS, 0, lm, settings=ALL)
    (one,), many = decoder.hypotheses(log_probs), decoder.hypotheses(log_probs, 10_000)
    (same,) = [other for other in many if other.text == one.text]
    assert one.lm == pytest.approx(same.lm)
    assert one.acoustic <= same.acoustic + 1e-9
    assert one.score >= many[0].score - math.log(2)  # some of a text's paths may have gone with a worse one


@settings(max_examples=20, deadline=None)
@given(lattices(4, 5))
def test_a_language_model_of_letters_scores_each_letter(letters, rows):
    log_probs = normal(rows)
    found = BeamDecoder(SYMBOLS, 0, letters, settings=ALL).hypotheses(log_probs, 10_000)
    assert is_of_letters(letters)
    texts = every_text(log_probs)
    expected = {text: (score, lm_score(letters, text.replace(" ", "|"), ALL)) for text, score in texts.items()}
    assert_same(found, expected)


def test_a_language_model_of_letters_needs_no_delimiter(letters):
    symbols = [None, "A", "B"]
    log_probs = normal(np.random.default_rng(0).normal(size=(5, 3)))
    found = BeamDecoder(symbols, 0, letters, settings=ALL).hypotheses(log_probs, 1000)
    texts = every_text(log_probs, symbols)
    assert_same(found, {text: (score, lm_score(letters, list(text), ALL)) for text, score in texts.items()})


@settings(max_examples=30, deadline=None)
@given(lattices(4, 5), st.floats(-3, 6))
def test_hot_words_count_once_for_each_time_they_are_whole(rows, weight):
    log_probs = normal(rows)
    found = BeamDecoder(SYMBOLS, 0, hotwords={"AB": weight, "A B": 1.5}, settings=ALL).hypotheses(log_probs, 10_000)
    expected = {}
    for text, score in every_text(log_probs).items():
        parts = text.split()
        bonus = weight * parts.count("AB") + 1.5 * sum(pair == ("A", "B") for pair in itertools.pairwise(parts))
        expected[text] = (score, bonus)
    assert_same(found, expected)


def test_hot_words_are_no_unknown_words(lm):
    log_probs = normal(np.random.default_rng(1).normal(size=(5, 4)))
    setting = BeamSettings(10_000, -math.inf, -math.inf)
    plain = {one.text: one for one in BeamDecoder(SYMBOLS, 0, lm, settings=setting).hypotheses(log_probs, 10_000)}
    decoder = BeamDecoder(SYMBOLS, 0, lm, settings=setting, hotwords={"AAB": 2.0})
    hot = {one.text: one for one in decoder.hypotheses(log_probs, 10_000)}
    assert plain.keys() == hot.keys()
    assert hot["AAB"].hotwords == 2.0
    assert hot["AAB"].lm > plain["AAB"].lm + 10
    assert hot["BAAB"].lm == pytest.approx(plain["BAAB"].lm)


def test_a_lexicon_alone_can_rule_other_words_out():
    log_probs = normal(np.random.default_rng(2).normal(size=(6, 4)))
    closed = BeamSettings(10_000, -math.inf, -math.inf, unk_score_offset=-math.inf)
    decoder = BeamDecoder(SYMBOLS, 0, lexicon=["AB", "BA"], settings=closed)
    expected = {
        text: (score, 0.0) for text, score in every_text(log_probs).items() if set(text.split()) <= {"AB", "BA"}
    }
    assert_same(decoder.hypotheses(log_probs, 10_000), expected)
    with_hot = decoder.using(hotwords={"B": 0.5}).hypotheses(log_probs, 10_000)
    assert {word for one in with_hot for word in one.text.split()} == {"AB", "BA", "B"}


def test_where_no_word_of_the_lexicon_is_complete_half_a_word_is_given():
    log_probs = normal([[-20, -20, 0, -20]])
    closed = BeamSettings(unk_score_offset=-math.inf)
    decoder = BeamDecoder(SYMBOLS, 0, lexicon=["AB"], settings=closed)
    assert decoder.hypotheses(log_probs)[0].text == "A"


def test_open_vocabulary_spells_what_the_model_has_not(lm):
    sure = normal(np.where(np.eye(4)[[2, 0, 2, 0, 2]] > 0, 0.0, -30.0))
    assert BeamDecoder(SYMBOLS, 0, lm).hypotheses(sure)[0].text == "AAA"
    closed = BeamSettings(unk_score_offset=-math.inf, beam_prune_logp=-math.inf, token_min_logp=-math.inf)
    assert set(BeamDecoder(SYMBOLS, 0, lm, settings=closed).hypotheses(sure)[0].text.split()) <= set(lm.words)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.sampled_from([1, 2, 50]))
def test_where_every_frame_is_sure_the_beam_is_greedy_with_its_times(path, width):
    log_probs = normal(np.where(np.eye(4)[path] > 0, 0.0, -20.0))
    decoder = BeamDecoder(SYMBOLS, 0, settings=BeamSettings(width), seconds_per_frame=0.02)
    (best,) = decoder.hypotheses(log_probs)
    expected = words(greedy(np.array(path), 0), SYMBOLS, 0.02)
    assert times(best.words) == times(expected)
    assert best.text == " ".join(word.text for word in expected)


@settings(max_examples=50, deadline=None)
@given(lattices(4, 12))
def test_words_have_the_times_of_greedy_decoding_where_the_text_is_that(rows):
    log_probs = normal(rows)
    if (np.sort(log_probs, axis=1)[:, -1] - np.sort(log_probs, axis=1)[:, -2]).min() < 1e-6:
        return  # two paths are equally likely
    expected = words(greedy(log_probs.argmax(-1), 0), SYMBOLS, 1)
    found = BeamDecoder(SYMBOLS, 0, settings=BeamSettings(500, -math.inf, -math.inf), seconds_per_frame=1)
    same = [one for one in found.hypotheses(log_probs, 500) if one.text == " ".join(word.text for word in expected)]
    assert [times(one.words) for one in same] == [times(expected)]


@settings(max_examples=30, deadline=None)
@given(lattices(4, 8), st.integers(1, 6))
def test_a_narrow_beam_gives_no_more_than_there_is(rows, width):
    log_probs = normal(rows)
    exact = every_text(log_probs) if len(rows) <= 6 else None
    found = BeamDecoder(SYMBOLS, 0, settings=BeamSettings(width)).hypotheses(log_probs, 10)
    assert 1 <= len(found) <= width
    assert len({one.text for one in found}) == len(found)
    for one in found if exact else ():
        assert one.acoustic <= exact[one.text] + 1e-9


def test_marks_part_letters_as_the_blank_does():
    symbols = [None, " ", "A", "B", None]
    log_probs = normal(np.where(np.eye(5)[[2, 4, 2, 0, 4]] > 0, 0.0, -20.0))
    (best,) = BeamDecoder(symbols, 0).hypotheses(log_probs)
    assert best.text == "AA"


def test_tokens_of_several_letters(lm):
    symbols = [None, " ", "A", "B", "AB"]
    log_probs = normal(np.random.default_rng(3).normal(size=(4, 5)))
    found = BeamDecoder(symbols, 0, lm, hotwords={"BAB": 2.0}, settings=ALL).hypotheses(log_probs, 10_000)
    texts = {one.text for one in found}
    assert texts == set(every_text(log_probs, symbols))
    for one in found:
        if "BAB" not in one.text.split():
            assert one.lm == pytest.approx(lm_score(lm, one.text.split(), ALL), abs=1e-6)
        assert one.hotwords == pytest.approx(2.0 * one.text.split().count("BAB"))


def test_a_call_gives_the_words_of_the_best_text_at_their_place():
    log_probs = normal(np.random.default_rng(4).normal(size=(6, 4)))
    decoder = BeamDecoder(SYMBOLS, 0, seconds_per_frame=0.5)
    (best,) = decoder.hypotheses(log_probs)
    assert decoder(log_probs) == best.words
    later = decoder(log_probs, first_frame=100)
    assert [(word.text, word.start - 50, word.end - 50) for word in later] == [
        (word.text, word.start, word.end) for word in best.words
    ]
    assert all(0 < word.probability <= 1 for word in later)


def test_no_frames_are_no_words():
    (best,) = BeamDecoder(SYMBOLS, 0).hypotheses(np.zeros((0, 4)))
    assert (best.text, best.words, best.acoustic) == ("", (), 0.0)


def test_many_frames_outgrow_the_first_table(lm):
    log_probs = normal(np.random.default_rng(5).normal(size=(300, 4)))
    (best,) = BeamDecoder(SYMBOLS, 0, lm).hypotheses(log_probs)
    assert len(best.words) > 20
    assert best.words[-1].end <= 300 * 0.02 + 1e-9


def test_settings_can_be_changed_and_leave_the_first_decoder_alone(lm):
    first = BeamDecoder(SYMBOLS, 0, lm)
    other = first.using(hotwords=["AB"], alpha=0.0, beam_width=7)
    assert (first.settings.alpha, first.settings.beam_width) == (0.5, 100)
    assert (other.settings.alpha, other.settings.beam_width) == (0.0, 7)
    assert other.hotwords.weights == {"AB": 10.0}
    assert first.hotwords.weights == {}
    assert other.using().hotwords is other.hotwords


@pytest.mark.parametrize(
    ("case", "vocabulary", "message"),
    [
        ("upper", [None, " ", "a", "b"], "lower case.*--case lower"),
        ("lower", [None, " ", "A", "B"], "upper case.*--case upper"),
        ("upper", [None, " ", "Ж", "Ш"], "can write 0"),
    ],
)
def test_a_language_model_of_other_letters_is_refused(case, vocabulary, message):
    lines = [getattr(line, case)().split() for line in TEXT]
    with pytest.raises(DataError, match=message):
        BeamDecoder(vocabulary, 0, estimate(lines, 2).model)
    letters = estimate((list("|".join(line)) for line in lines), 2).model
    with pytest.raises(DataError, match=message):
        BeamDecoder(vocabulary, 0, letters)


def test_a_language_model_with_words_that_can_never_be_found_is_told_of(lm, recwarn):
    BeamDecoder(SYMBOLS, 0, lm)
    assert not recwarn.list
    marked = estimate([["AB", "A", "B", "BA"], ["AB,", "B."]], 2).model
    with pytest.warns(UserWarning, match=r"33% can't be written .* as 'AB,', 'B\.', and are never found"):
        BeamDecoder(SYMBOLS, 0, marked)


def test_without_a_delimiter_a_model_of_words_is_refused(lm):
    with pytest.raises(DataError, match="--unit letter"):
        BeamDecoder([None, "A", "B"], 0, lm)


@pytest.mark.parametrize(
    ("log_probs", "n_best", "message"),
    [
        (np.zeros((3, 5)), 1, "must be \\(frames, 4\\)"),
        (np.zeros(4), 1, "must be \\(frames, 4\\)"),
        (np.full((2, 4), np.nan), 1, "NaN"),
        (np.zeros((2, 4)), 0, "at least 1"),
    ],
)
def test_what_is_no_lattice_is_refused(log_probs, n_best, message):
    with pytest.raises(ValueError, match=message):
        BeamDecoder(SYMBOLS, 0).hypotheses(log_probs, n_best)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("beam_width", 0),
        ("beam_prune_logp", 1.0),
        ("token_min_logp", math.nan),
        ("unk_score_offset", 0.5),
        ("alpha", math.inf),
        ("beta", math.nan),
    ],
)
def test_settings_that_cannot_be_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        BeamSettings(**{name: value})


@pytest.mark.parametrize(
    ("hotwords", "message"),
    [
        (["AB", "aé"], "no token for 'a', 'é'"),
        (["ab"], "Write 'AB'"),
        ([" "], "empty"),
        ("AB", "list of words"),
        ({"AB": math.nan}, "'AB' has the weight nan"),
        ({"AB": math.inf}, "finite"),
    ],
)
def test_hot_words_that_cannot_be_written_are_refused(hotwords, message):
    with pytest.raises(ValueError, match=message):
        BeamDecoder(SYMBOLS, 0, hotwords=hotwords)


def test_the_likeliest_token_is_tried_however_unlikely():
    symbols = [None, " ", *(chr(ord("A") + number) for number in range(26))]
    log_probs = np.full((1, 28), -9.0)
    log_probs[0, 5] = -8.0
    (best,) = BeamDecoder(symbols, 0).hypotheses(log_probs)
    assert best.text == "D"


def kinds(lm, letters) -> dict[str, BeamDecoder]:
    narrow = BeamSettings(4, beam_prune_logp=-6, token_min_logp=-3)
    pieces = [None, " ", "A", "AB"]
    return {
        "words": BeamDecoder(SYMBOLS, 0, lm, seconds_per_frame=0.02),
        "words, narrow": BeamDecoder(SYMBOLS, 0, lm, settings=narrow),
        "words, alone": BeamDecoder(SYMBOLS, 0, lm, settings=BeamSettings(1)),
        "words, closed": BeamDecoder(SYMBOLS, 0, lm, settings=BeamSettings(20, unk_score_offset=-math.inf)),
        "words, hot": BeamDecoder(SYMBOLS, 0, lm, hotwords={"AB": 3.0, "BA A": 2.0, "AAA": -1.0}, settings=narrow),
        "pieces": BeamDecoder(pieces, 0, lm, settings=narrow),
        "letters": BeamDecoder(SYMBOLS, 0, letters, settings=narrow),
        "letters, no space": BeamDecoder([None, "A", "B", None], 0, letters, settings=narrow),
        "lexicon": BeamDecoder(SYMBOLS, 0, lexicon=["AB", "BA"], hotwords=["B"], settings=narrow),
        "nothing": BeamDecoder(SYMBOLS, 0, settings=narrow),
        "hot": BeamDecoder([None, "A", "B", "C"], 0, hotwords={"AB": 3.0}, settings=narrow),
    }


def some(rng: np.random.Generator, count: int, *, rounded: bool) -> list[np.ndarray]:
    """Recordings of any lengths, some of their frames sure of the blank; `rounded` ones have many ties."""
    found = []
    for _ in range(count):
        frames = int(rng.choice([0, 1, 2, 5, 12, 30, 60]))
        rows = rng.normal(0, 2.5, (frames, 4))
        rows[rng.random(frames) < 0.4, 0] += 12
        rows = np.round(rows / 2) * 2 if rounded else rows
        found.append(normal(rows) if frames else rows)
    return found


@pytest.mark.parametrize("rounded", [False, True])
def test_in_company_each_has_what_it_has_alone(lm, letters, rounded):
    rng = np.random.default_rng(7)
    for name, decoder in kinds(lm, letters).items():
        for count in (1, 2, 3, 5, 8):
            recordings = some(rng, count, rounded=rounded)
            alone = [decoder.hypotheses(rows) for rows in recordings]
            assert decoder.hypotheses_of(recordings) == alone, name
            assert decoder.many(recordings) == [found[0].words for found in alone], name
            assert decoder.hypotheses_of(recordings, 4) == [decoder.hypotheses(rows, 4) for rows in recordings], name


def test_in_company_with_a_binary_language_model(tmp_path, lm):
    pytest.importorskip("kenlm")
    write_arpa(lm, tmp_path / "lm.arpa")
    decoder = BeamDecoder(SYMBOLS, 0, KenlmModel(tmp_path / "lm.arpa", lm.words), settings=BeamSettings(10))
    recordings = some(np.random.default_rng(1), 6, rounded=False)
    assert decoder.hypotheses_of(recordings) == [decoder.hypotheses(rows) for rows in recordings]


def test_in_company_a_quiet_recording_is_pruned_as_alone():
    """Nothing is dropped in a frame in which no token is tried, whatever others try."""
    rng = np.random.default_rng(3)
    decoder = BeamDecoder(SYMBOLS, 0, settings=BeamSettings(50, beam_prune_logp=-1.5, token_min_logp=-0.9))
    recordings = [normal(rng.normal([0.5, 0, 0, 0], 0.5, (20, 4))) for _ in range(20)]
    assert decoder.hypotheses_of(recordings, 50) == [decoder.hypotheses(rows, 50) for rows in recordings]


def test_in_company_with_none():
    assert BeamDecoder(SYMBOLS, 0).many([]) == []


def test_a_decoder_of_ones_own_is_called_for_each():
    decoder = BeamDecoder(SYMBOLS, 0)
    recordings = some(np.random.default_rng(0), 4, rounded=False)
    assert isinstance(decoder, ManyDecoder)
    assert decode_all(lambda rows, first_frame=0: decoder(rows, first_frame), recordings) == decoder.many(recordings)
    assert decode_all(decoder, recordings) == decoder.many(recordings)
