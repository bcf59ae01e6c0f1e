from __future__ import annotations

import math
import random
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavconformer.errors import DataError
from wavconformer.lm.kneser_ney import FALLBACK, Corpus, estimate

VOCABULARY = list("abcde")


def probability(model, history: list[str], word: str) -> float:
    """p(word | history) of a model, the plain way."""
    state = np.array([model.start(boundary=False)])
    for one in history:
        _, state = model.score(state, np.array([model.index(one)]))
    return 10 ** float(model.score(state, np.array([model.index(word)]))[0][0])


class Plain:
    """Chen & Goodman 1998 in dictionaries, with the fixed discounts of small texts; an n-gram is a tuple of words."""

    def __init__(self, text: list[list[str]], order: int, prune: list[int]) -> None:
        self.order = order
        padded = [["<s>", *line, "</s>"] for line in text if line]
        self.counts = [
            Counter(tuple(line[at : at + n]) for line in padded for at in range(len(line) - n + 1))
            for n in range(1, order + 1)
        ]
        before: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for counts in self.counts[1:]:
            for gram in counts:
                before[gram[1:]].add(gram[0])
        self.adjusted = [
            {gram: count if n == order or gram[0] == "<s>" else len(before[gram]) for gram, count in counts.items()}
            for n, counts in enumerate(self.counts, 1)
        ]
        del self.adjusted[0]["<s>",]
        self.kept = [{gram for gram in self.adjusted[n] if self.counts[n][gram] > prune[n]} for n in range(order)]
        self.words = [gram[0] for gram in self.adjusted[0]] + ["<unk>"]

    def __call__(self, history: tuple[str, ...], word: str) -> float:
        history = history[-(self.order - 1) :] if self.order > 1 else ()
        lower = self(history[1:], word) if history else 1 / len(self.words)
        level = self.adjusted[len(history)]
        following = {gram: count for gram, count in level.items() if gram[:-1] == history}
        total = sum(following.values())
        if not total:
            return lower
        kept = self.kept[len(history)]
        free = sum(min(self.discount(count), count) if gram in kept else count for gram, count in following.items())
        own = following.get((*history, word), 0)
        own = own - self.discount(own) if own and (*history, word) in kept else 0
        return max(own, 0) / total + free / total * lower

    @staticmethod
    def discount(count: int) -> float:
        return FALLBACK[min(count, 3) - 1]


def test_a_case_done_by_hand():
    # a: before it <s>; b, c: a; </s>: b and c. Uniform: 1/5, of <unk>, </s>, a, b, c. All histories free one half.
    model = estimate([["a", "b"], ["a", "c"]], 2).model
    for word, expected in {"a": 0.2, "b": 0.2, "c": 0.2, "</s>": 0.3, "<unk>": 0.1}.items():
        assert probability(model, [], word) == pytest.approx(expected, rel=1e-6)
    assert probability(model, ["<s>"], "a") == pytest.approx((2 - 1) / 2 + 0.5 * 0.2, rel=1e-6)
    assert probability(model, ["a"], "b") == pytest.approx((1 - 0.5) / 2 + 0.5 * 0.2, rel=1e-6)
    assert probability(model, ["b"], "</s>") == pytest.approx((1 - 0.5) / 1 + 0.5 * 0.3, rel=1e-6)
    assert probability(model, ["b"], "a") == pytest.approx(0.5 * 0.2, rel=1e-6)
    assert model.counts == [6, 5]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(VOCABULARY), max_size=6), min_size=1, max_size=6).filter(any),
    st.integers(1, 4),
    st.sampled_from([[0], [0, 1], [0, 0, 1], [0, 0, 1, 2]]),
)
def test_probabilities_are_those_of_the_formulas_and_sum_to_one(text, order, prune):
    made = estimate(text, order, prune)
    if len(made.fallbacks) < order:
        return  # the discounts are those of another test
    plain = Plain(text, order, [*prune, *[prune[-1]] * 4][:order])
    histories = [[], ["<s>"], *([*line[:n]] for line in text for n in range(1, len(line) + 1))]
    histories += [["<s>", *history] for history in histories[2:]] + [["a", "zzz"], ["e", "e", "e"]]
    for history in histories:
        found = [probability(made.model, history, word) for word in plain.words]
        # What isn't in the text is <unk>, which nothing follows.
        known = tuple(word if word in (*plain.words, "<s>") else "<unk>" for word in history)
        assert found == pytest.approx([plain(known, word) for word in plain.words], rel=1e-5)
        assert sum(found) == pytest.approx(1, abs=1e-5)


def zipf(sentences: int) -> list[list[str]]:
    draw = random.Random(0)
    words = [f"w{number}" for number in range(5000)]
    weights = [1 / (number + 1) for number in range(5000)]
    return [draw.choices(words, weights, k=draw.randint(1, 12)) for _ in range(sentences)]


@pytest.mark.parametrize("prune", [[0], [0, 0, 1]])
def test_discounts_come_from_the_counts_of_counts(prune):
    text = zipf(2000)
    made = estimate(text, 3, prune)
    assert made.fallbacks == ()
    assert (made.sentences, made.tokens) == (2000, sum(map(len, text)))
    model = made.model
    draw = random.Random(1)
    for _ in range(10):
        history = draw.choice(text)[:2]
        words = [word for word in model.words if word != "<s>"]
        assert sum(probability(model, history, word) for word in words) == pytest.approx(1, abs=1e-4)


def test_the_discounts_of_a_level():
    # Of the letters four are seen after one word, two after two, one after three, one after four.
    pairs = {"a": 1, "b": 1, "c": 1, "d": 1, "e": 2, "f": 2, "g": 3, "h": 4}
    text = [[f"x{number}", word] for word, count in pairs.items() for number in range(count)]
    model = estimate(text, 2).model
    n1, n2, n3, n4 = 4 + 4, 2, 1, 1  # before x0 … x3 stands <s> alone, before </s> all eight words
    y = n1 / (n1 + 2 * n2)
    discounts = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
    total = sum(pairs.values()) + 4 + 8
    free = n1 * discounts[0] + n2 * discounts[1] + 3 * discounts[2]
    uniform = 1 / 14
    assert probability(model, [], "a") == pytest.approx((1 - discounts[0]) / total + free / total * uniform, rel=1e-5)
    assert probability(model, [], "h") == pytest.approx((4 - discounts[2]) / total + free / total * uniform, rel=1e-5)


def test_pruning_leaves_rare_ngrams_out_and_unigrams_in():
    text = [["a", "b", "c"], ["a", "b", "d"], ["e"]]
    model = estimate(text, 3, [0, 1]).model
    assert model.counts == [8, 2, 1]  # of pairs <s> a and a b, of triples <s> a b
    assert probability(model, ["a"], "b") > probability(model, ["a"], "c") > 0


def test_a_corpus_can_be_given():
    corpus = Corpus()
    for line in (["a", "b"], [], ["a"]):
        corpus.add(line)
    assert corpus.words == ["<unk>", "<s>", "</s>", "a", "b"]
    assert corpus.ids.tolist() == [1, 3, 4, 2, 1, 3, 2]
    assert estimate(corpus, 2).sentences == 2


def test_progress_is_told():
    said: list[str] = []
    estimate([["a"]], 3, progress=said.append)
    assert said == ["counting 1-grams", "counting 2-grams", "counting 3-grams", "estimating"]


@pytest.mark.parametrize("text", [[], [[]]])
def test_no_text_is_refused(text):
    with pytest.raises(DataError, match="no word"):
        estimate(text)


@pytest.mark.parametrize("mark", ["<s>", "</s>", "<unk>"])
def test_marks_in_the_text_are_refused(mark):
    with pytest.raises(DataError, match=mark):
        estimate([["a", mark]])


@pytest.mark.parametrize(("order", "prune"), [(0, []), (3, [1]), (3, [0, 2, 1])])
def test_settings_that_cannot_be_are_refused(order, prune):
    with pytest.raises(ValueError, match=r"order|prune"):
        estimate([["a"]], order, prune)


def test_a_sentence_longer_than_any_ngram_and_one_shorter():
    model = estimate([["a"], ["b", "c", "d", "e", "f"]], 6).model
    assert model.order == 6
    assert model.counts[-1] == 2  # <s> b c d e f, b c d e f </s>
    assert math.isclose(
        sum(probability(model, ["b", "c"], word) for word in model.words if word != "<s>"), 1, abs_tol=1e-5
    )
