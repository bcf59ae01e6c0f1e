from __future__ import annotations

import gzip

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from wavconformer.errors import DataError
from wavconformer.lm import read_lm
from wavconformer.lm.arpa import read_arpa, write_arpa
from wavconformer.lm.kneser_ney import estimate

SMALL = """A comment.

\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-99 <s> -0.25
-0.5\t</s>
-0.75\tÄpfel\t-0.125
-1\tb\t0

\\2-grams:
-0.5\t<s> Äpfel
-0.25\tÄpfel b

\\end\\
"""


@pytest.fixture
def text():
    draw = np.random.default_rng(0)
    return [[f"w{number}" for number in draw.integers(0, 30, draw.integers(1, 9))] for _ in range(300)]


def scored(model, sentence: list[str]) -> list[float]:
    state, found = np.array([model.start()]), []
    for word in [*sentence, "</s>"]:
        logp, state = model.score(state, np.array([model.index(word)]))
        found.append(float(logp[0]))
    return found


@pytest.mark.parametrize("name", ["lm.arpa", "lm.arpa.gz"])
def test_what_is_written_is_read(tmp_path, text, name):
    model = estimate(text, 3).model
    written: list[tuple[int, int]] = []
    write_arpa(model, tmp_path / name, lambda *numbers: written.append(numbers))
    again = read_lm(tmp_path / name)
    assert again.words == model.words
    assert again.counts == model.counts
    assert again.path == tmp_path / name
    assert_array_equal(again.trie.keys, model.trie.keys)
    assert_allclose(again.logp, model.logp, rtol=1e-6)
    assert_allclose(again.backoff, model.backoff, rtol=1e-6, atol=1e-7)
    assert written[-1] == (sum(model.counts), sum(model.counts))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    opened = gzip.open if name.endswith("gz") else open
    with opened(tmp_path / name, "rt") as file:
        assert file.readline() == "\\data\\\n"


def test_a_small_file(tmp_path):
    path = tmp_path / "small.arpa"
    path.write_text(SMALL, encoding="utf-8")
    model = read_arpa(path)
    assert model.words == ["<unk>", "<s>", "</s>", "Äpfel", "b"]
    assert scored(model, ["Äpfel", "b"]) == pytest.approx([-0.5, -0.25, -0.5])
    assert scored(model, ["b"]) == pytest.approx([-0.25 - 1, -0.5])
    assert scored(model, ["Äpfel"]) == pytest.approx([-0.5, -0.125 - 0.5])
    assert scored(model, ["what"])[0] == pytest.approx(-0.25 - 100)  # no <unk>: as KenLM has it


def test_an_upper_case_unk_is_the_unknown_word(tmp_path):
    path = tmp_path / "lm.arpa"
    path.write_text(SMALL.replace("b", "<UNK>").replace("\\<UNK>", "\\b"), encoding="utf-8")
    model = read_arpa(path)
    assert model.index("what") == 0
    assert scored(model, ["what"])[0] == pytest.approx(-0.25 - 1)


def test_ngrams_without_their_ends_among_the_shorter_ones(tmp_path):
    # As entropy pruning leaves them: "b c" is gone, "a b c" is there.
    path = tmp_path / "lm.arpa"
    path.write_text(
        "\\data\\\nngram 1=5\nngram 2=1\nngram 3=1\n\n\\1-grams:\n-1 <unk>\n-1 </s>\n-1 a -0.1\n-1 b -0.2\n"
        "-1 c -0.3\n\n"
        "\\2-grams:\n-0.5 a b -0.4\n\n\\3-grams:\n-0.25 a b c\n\n\\end\\\n"
    )
    model = read_arpa(path)
    assert scored(model, ["a", "b", "c", "a"]) == pytest.approx([-1, -0.5, -0.25, -1.3, -1.1])
    assert model.start() == 0  # no <s>


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\", "data", "neither an ARPA file"),
        ("ngram 1=4", "ngram 2=4", "line 4.*no count of 1-grams"),
        ("\\1-grams:", "\\one-grams:", "no count of n-grams"),
        ("ngram 1=4\nngram 2=2", "", "no count of n-grams"),
        ("-0.5\t</s>", "half\t</s>", "line 9: 'half </s>' is no 1-gram"),
        ("-0.5\t<s> Äpfel", "-0.5\t<s> Birnen", "no 2-gram of known words"),
        ("-0.5\t<s> Äpfel", "-0.5\t<s>", "no 2-gram"),
        ("-0.5\t</s>", "0.5\t</s>", "no number ≤ 0"),
        ("-0.5\t</s>", "nan\t</s>", "no number ≤ 0"),
        ("ngram 2=2", "ngram 2=1", "line 15.*no .3-grams: or"),
        ("ngram 2=2", "ngram 2=3", "no 2-gram"),
        ("ngram 1=4", f"ngram 1={10**15}", "says that it has 1,000,000,000,000,000 1-grams"),
        ("ngram 2=2", f"ngram 2={10**30}", "for which there isn't memory enough"),
        ("\n\\end\\\n", "", "breaks off behind line 15"),
        ("-0.25\tÄpfel b\n\n\\end\\\n", "", "breaks off behind line 14"),
    ],
)
def test_what_is_no_arpa_is_refused_with_its_line(tmp_path, old, new, message):
    path = tmp_path / "bad.arpa"
    path.write_text(SMALL.replace(old, new), encoding="utf-8")
    with pytest.raises(DataError, match=message) as error:
        read_lm(path)
    assert str(path) in str(error.value)


def test_an_ngram_without_its_history_is_refused(tmp_path):
    path = tmp_path / "bad.arpa"
    path.write_text(
        SMALL.replace("ngram 2=2", "ngram 2=2\nngram 3=1").replace("\\end", "\\3-grams:\n-1 b b b\n\n\\end")
    )
    with pytest.raises(DataError, match="'b b b', but not its history"):
        read_arpa(path)


def test_many_lines_without_data_are_no_arpa(tmp_path):
    path = tmp_path / "text"
    path.write_text("words\n" * 200)
    with pytest.raises(DataError, match="neither an ARPA file"):
        read_lm(path)


def test_a_broken_archive_is_refused(tmp_path):
    path = tmp_path / "bad.arpa.gz"
    path.write_bytes(gzip.compress(SMALL.encode())[:-20])
    with pytest.raises(DataError, match=r"bad\.arpa\.gz' can't be read"):
        read_lm(path)


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="no language model"):
        read_lm(tmp_path / "lm.arpa")
    with pytest.raises(DataError, match="is a folder"):
        read_lm(tmp_path)
