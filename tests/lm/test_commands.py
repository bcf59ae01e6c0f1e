from __future__ import annotations

import gzip
import io
import sys

import pytest

from wavconformer.errors import DataError
from wavconformer.lm import read_lm
from wavconformer.lm.kneser_ney import estimate
from wavconformer.lm.perplexity import perplexity
from wavconformer.lm.text import read_sentences


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("set an alarm\nset a timer\n\nturn the alarm off\n", encoding="utf-8")
    return path


def test_build_and_perplexity(run, text, tmp_path):
    more = tmp_path / "more.gz"
    more.write_bytes(gzip.compress(b"set the timer\n"))
    code, out, err = run("lm", "build", text, more, "-o", tmp_path / "lm.arpa", "--order", 3, "--case", "upper")
    assert code == 0
    assert "4 sentences, 13 tokens; 11 1-grams" in out
    assert "too small to tell the discounts" in err
    lm = read_lm(tmp_path / "lm.arpa")
    assert (lm.order, lm.index("ALARM") > 0, lm.index("alarm")) == (3, True, 0)
    code, out, _ = run("lm", "perplexity", tmp_path / "lm.arpa", text, "--case", "upper")
    assert code == 0
    assert str(perplexity(lm, [line.upper().split() for line in text.read_text().splitlines()])) == out.strip()
    code, out, _ = run("lm", "perplexity", tmp_path / "lm.arpa", text)
    assert "10 unknown" in out


def test_pruned_and_of_letters(run, text, tmp_path):
    code, _, _ = run("lm", "build", text, "-o", tmp_path / "lm.arpa.gz", "--prune", "0 0 1", "--unit", "letter")
    assert code == 0
    lm = read_lm(tmp_path / "lm.arpa.gz")
    assert set(lm.words) == {"<unk>", "<s>", "</s>", "|", *"setanlrmiuhof"}
    assert lm.counts[3] < lm.counts[1]


def test_standard_input(run, tmp_path, monkeypatch):
    class Input(io.TextIOWrapper):
        def fileno(self) -> int:
            return read

    import os

    read, write = os.pipe()
    os.write(write, b"eins zwei drei\n")
    os.close(write)
    monkeypatch.setattr(sys, "stdin", Input(io.BytesIO()))
    code, out, _ = run("lm", "build", "-", "-o", tmp_path / "lm.arpa", "--order", 1)
    os.close(read)
    assert code == 0
    assert "1 sentences, 3 tokens" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["build", "{missing}", "-o", "{out}"], 1, "can't be read"),
        (["build", "{empty}", "-o", "{out}"], 1, "no word in the text"),
        (["build", "{binary}", "-o", "{out}"], 1, "can't be read"),
        (["build", "{text}", "-o", "{out}", "--prune", "one"], 2, "no list of counts"),
        (["build", "{text}", "-o", "{out}", "--prune", "2 1"], 1, "must begin with 0"),
        (["build", "{text}", "-o", "{folder}"], 2, "is a folder"),
        (["build", "{text}", "-o", "{out}", "--order", "0"], 2, "order"),
        (["build", "{text}"], 2, "output"),
        (["perplexity", "{text}", "{text}"], 1, "neither an ARPA file"),
        (["perplexity", "{missing}", "{text}"], 1, "no language model"),
    ],
)
def test_bad_input_is_said_in_a_line_and_leaves_nothing(run, text, tmp_path, arguments, code, message):
    places = {name: tmp_path / name for name in ("missing", "empty", "binary", "out", "folder")} | {"text": text}
    places["empty"].write_text("\n\n")
    places["binary"].write_bytes(b"\xff\xfe\x00\xd8")
    places["folder"].mkdir()
    before = set(tmp_path.rglob("*"))
    found, out, err = run("lm", *(argument.format(**places) for argument in arguments))
    assert (found, out) == (code, "")
    assert message in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err
    assert set(tmp_path.rglob("*")) == before


def test_perplexity_of_nothing_is_refused():
    model = estimate([["a"]], 1).model
    with pytest.raises(DataError, match="no word"):
        perplexity(model, [[]])


def test_sentences_of_several_files_and_cases(text, tmp_path):
    assert next(read_sentences([text], "upper")) == ["SET", "AN", "ALARM"]
    (tmp_path / "shout").write_text("AB CD")
    assert list(read_sentences([tmp_path / "shout"], "lower", "letter")) == [["a", "b", "|", "c", "d"]]
