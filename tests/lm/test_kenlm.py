from __future__ import annotations

import sys

import numpy as np
import pytest

from wavconformer.errors import DataError, WavConformerError
from wavconformer.lm import read_lm
from wavconformer.lm.arpa import write_arpa
from wavconformer.lm.kenlm import MAGIC, KenlmModel, _vocabulary, is_kenlm
from wavconformer.lm.kneser_ney import estimate
from wavconformer.lm.perplexity import perplexity


@pytest.fixture(scope="module")
def text():
    draw = np.random.default_rng(0)
    return [[f"w{number}" for number in draw.geometric(0.08, draw.integers(1, 9))] for _ in range(400)]


@pytest.mark.parametrize("prune", [[0], [0, 0, 1]])
def test_kenlm_says_the_same(tmp_path, text, prune):
    pytest.importorskip("kenlm")
    path = tmp_path / "lm.arpa"
    ours = estimate(text[:300], 4, prune).model
    write_arpa(ours, path)
    theirs = KenlmModel(path, ours.words)  # KenLM reads ARPA too
    assert theirs.order == 4
    assert set(theirs.words) == set(ours.words)
    one, other = perplexity(ours, text), perplexity(theirs, text)
    assert one.unknown > 0
    assert (one.tokens, one.unknown) == (other.tokens, other.unknown)
    assert one.value == pytest.approx(other.value, rel=1e-6)
    assert one.known == pytest.approx(other.known, rel=1e-6)


def test_states_have_numbers_that_stay(tmp_path, text):
    pytest.importorskip("kenlm")
    write_arpa(estimate(text, 3).model, tmp_path / "lm.arpa")
    scorer = KenlmModel(tmp_path / "lm.arpa", ["w1", "w2"]).scorer()
    start, nowhere = scorer.start(), scorer.start(boundary=False)
    assert start != nowhere
    assert scorer.start() == start
    first = scorer.score(np.array([start, start, nowhere]), np.array([1, 1, 2]))
    again = scorer.score(np.array([start, start, nowhere]), np.array([1, 1, 2]))
    assert [part.tolist() for part in first] == [part.tolist() for part in again]
    assert first[1][0] == first[1][1]


def test_the_vocabulary_is_at_a_binarys_end(tmp_path):
    path = tmp_path / "lm.bin"
    path.write_bytes(MAGIC + b" version 5\n\0<unk>\0\0\x80\x81" + "<unk>\0<s>\0</s>\0Äpfel\0b\0".encode())
    assert is_kenlm(path)
    assert [word for word in _vocabulary(path) if word] == ["<unk>", "<s>", "</s>", "Äpfel", "b"]
    path.write_bytes(MAGIC + b" version 5\n\0")
    assert [word for word in _vocabulary(path) if word] == []


def test_a_broken_binary_is_refused(tmp_path):
    pytest.importorskip("kenlm")
    path = tmp_path / "lm.bin"
    path.write_bytes(MAGIC + b" version 5\n\0" + bytes(200))
    with pytest.raises(DataError, match=r"lm\.bin' can't be read"):
        read_lm(path)


def test_a_model_whose_words_are_not_known_is_refused(tmp_path, text):
    pytest.importorskip("kenlm")
    write_arpa(estimate(text, 2).model, tmp_path / "lm.arpa")
    with pytest.raises(DataError, match=r"unigrams\.txt"):
        KenlmModel(tmp_path / "lm.arpa", ["other", "words"])


def test_without_kenlm_a_binary_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "lm.bin"
    path.write_bytes(MAGIC)
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(WavConformerError, match=r"pip install 'wavconformer\[lm\]'"):
        read_lm(path)
