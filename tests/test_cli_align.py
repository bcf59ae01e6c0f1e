"""`wavconformer align`: what it prints and writes, and its exit codes."""

from __future__ import annotations

import io
import json
import re
import sys
from urllib.parse import unquote

import pytest

from wavconformer.cli import terminal
from wavconformer.decoding.alignment import AlignedLine, Alignment, Untranscribed


@pytest.fixture
def run(run):
    """Runs the command in this process: exit code, standard output, standard error in one line."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code, out, err = run("align", *arguments)
        return code, out, " ".join(err.split())

    return call


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("Set a timer\nfor 23 seconds.\n", encoding="utf-8")
    return path


@pytest.fixture
def made(monkeypatch):
    """Lets the command find a given alignment."""

    def let(alignment: Alignment) -> None:
        monkeypatch.setattr("wavconformer.tasks.align.align", lambda *_, **__: alignment)

    return let


def test_a_row_for_each_line(run, sample, text):
    code, out, err = run(sample, text, "--language", "en")
    assert (code, err) == (0, "")
    rows = [row.split("\t") for row in out.splitlines()]
    assert rows[0] == ["line", "start", "end", "score", "text"]
    assert [(row[0], row[4]) for row in rows[1:]] == [("1", "Set a timer"), ("2", "for 23 seconds.")]
    assert float(rows[1][1]) < float(rows[1][2]) < float(rows[2][1])


def test_the_name_of_the_file_says_the_format(run, sample, text, tmp_path):
    assert run(sample, text, "-o", tmp_path / "out.JSON") == (0, "", "")
    content = json.loads((tmp_path / "out.JSON").read_text())
    assert content["file"] == str(sample)
    assert content["lines"][1]["words"][1]["is_interpolated"]
    assert run(sample, text, "-o", tmp_path / "out", "--format", "ctm")[0] == 0
    assert (tmp_path / "out").read_text().startswith("timer 1 ")
    code, _, err = run(sample, text, "-o", tmp_path / "out.pdf")
    assert code == 2
    assert ".srt, .vtt" in " ".join(err.replace("│", " ").split())


def test_text_from_standard_input(run, sample, monkeypatch):
    def give(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))

    give(b"\xef\xbb\xbfset a timer for twenty three seconds")
    code, out, _ = run(sample, "-")
    assert code == 0
    assert out.splitlines()[1].endswith("\tset a timer for twenty three seconds")
    give("für 23 Sekunden".encode("latin-1"))
    assert run(sample, "-") == (1, "", "The input isn't in UTF-8 (at byte 1): convert it.")


def test_a_page_refers_to_the_recording_from_where_it_lies(run, sample, text, tmp_path, monkeypatch):
    monkeypatch.setattr("wavconformer.writers.page.EMBEDDED_BYTES", 0)
    assert run(sample, text, "-o", tmp_path / "deep" / "page.html")[0] == 0
    source = re.search('<audio[^>]* src="([^"]*)"', (tmp_path / "deep" / "page.html").read_text())[1]
    assert (tmp_path / "deep" / unquote(source)).resolve() == sample.resolve()


def test_a_foreign_text_exits_with_3(run, sample, tmp_path):
    path = tmp_path / "foreign.txt"
    path.write_text("Play some music by Mozart\n")
    code, out, err = run(sample, path)
    assert code == 3
    assert len(out.splitlines()) == 2
    assert "Line 1 " in err
    assert "The text doesn't belong to the recording: its score is 0." in err
    assert run(sample, path, "--threshold", 0)[:2] == (0, out)


def test_faults_are_told_of_and_the_rest_is_counted(run, sample, text, made):
    lines = [AlignedLine(number, f"line {number}", 1.0, 2.0, 0.01, ()) for number in range(1, 25)]
    lines[1] = AlignedLine(2, "line 2", 2.0, 2.0, 0.0, (), is_interpolated=True)
    stretches = tuple(Untranscribed(number, number + 0.5) for number in range(22))
    made(Alignment(tuple(lines), 0.5, stretches, 30.0, True))
    code, _, err = run(sample, text)
    assert code == 0
    assert "Line 1 fits badly at 1.00–2.00 s, score 0.01: line 1" in err
    assert "Line 2 isn't heard, score 0.00: line 2" in err
    assert "line 21" not in err
    assert "… and 4 more lines." in err
    assert "No line has the speech at 19.00–19.50 s." in err
    assert "… and 2 more stretches of speech." in err


def test_bad_input_is_one_line(run, sample, text, tmp_path):
    for arguments, message in (
        ((tmp_path / "missing.wav", text), "missing.wav"),
        ((sample, tmp_path / "missing.txt"), "missing.txt' can't be read"),
        ((sample, text, "--language", "xx"), "'xx' is none that num2words reads numbers in"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (1, "")
        assert message in err
        assert "Traceback" not in err


def test_wrong_usage(run, sample, text):
    assert run(sample)[0] == 2
    assert run(sample, text, "--threshold", 2)[0] == 2
    assert run(sample, text, "--format", "pdf")[0] == 2
    code, _, err = run(sample, text, "-o", text.parent)
    assert code == 2 and "name a file" in err


def test_progress_is_shown_where_somebody_watches(run, sample, text, monkeypatch):
    from rich.console import Console

    shown = io.StringIO()
    monkeypatch.setattr(terminal, "err", Console(file=shown, force_terminal=True, width=80))
    assert run(sample, text)[0] == 0
    assert "listening" in shown.getvalue()
