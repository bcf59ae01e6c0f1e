"""`wavconformer diarize` and `transcribe --diarize`: what they print and write, and their exit codes."""

from __future__ import annotations

import json

import pytest
import soundfile
from tests.tasks.tones import RATE, diarizer, talk

from wavconformer.data.rttm import read_rttm
from wavconformer.tasks.diarize import Diarizer

TURNS = (0, 0.5, 3.0), (1, 2.5, 6.0), (0, 7.0, 9.5), (1, 10.0, 14.0)


@pytest.fixture
def heard(monkeypatch):
    """Lets the command hear people who are tones, and notes what it was asked to load."""
    asked = {}

    def load(model, **named):
        asked.update(named, model=model)
        return diarizer()

    monkeypatch.setattr(Diarizer, "load", load)
    return asked


@pytest.fixture
def talks(tmp_path):
    paths = [tmp_path / "one talk.wav", tmp_path / "other.wav"]
    soundfile.write(paths[0], talk(15.0, *TURNS), RATE)
    soundfile.write(paths[1], talk(5.0, (2, 1.0, 4.0)), RATE)
    return paths


def test_lines_by_default(run, heard, talks):
    code, out, err = run("diarize", talks[0], "--speaker-model", "voices", "--threads", 1, "--device", "cpu")
    assert (code, err) == (0, "")
    rows = [line.split("\t") for line in out.splitlines()]
    assert [row[2] for row in rows] == ["speaker1", "speaker2", "speaker1", "speaker2"]
    assert float(rows[1][0]) == pytest.approx(2.5, abs=0.05) and float(rows[1][1]) == pytest.approx(6.0, abs=0.05)
    assert heard == {"model": None, "speaker_model": "voices", "device": "cpu", "threads": 1}


def test_other_formats(run, heard, talks, tmp_path):
    code, out, _ = run("diarize", *talks, "--format", "rttm")
    assert code == 0
    (tmp_path / "all.rttm").write_text(out)
    turns = read_rttm(tmp_path / "all.rttm")
    assert [turn.recording for turn in turns] == ["one_talk"] * 4 + ["other"]
    assert turns[1].end == pytest.approx(6.0, abs=0.05)
    code, out, _ = run("diarize", *talks, "--format", "json", "--max", 1)
    first, second = map(json.loads, out.splitlines())
    assert first["file"] == str(talks[0]) and [one["name"] for one in first["speakers"]] == ["speaker1"]
    assert second["turns"][0]["speaker"] == "speaker1"


def test_that_nobody_speaks_is_told(run, heard, tmp_path):
    soundfile.write(tmp_path / "silence.wav", talk(5.0), RATE)
    code, out, err = run("diarize", tmp_path / "silence.wav")
    assert (code, out) == (0, "") and "silence.wav': nobody speaks in 5.0 s of audio." in err


@pytest.mark.parametrize("option", ["--speakers", "--min"])
def test_that_fewer_are_found_than_asked_for_is_told(run, heard, talks, option):
    code, out, err = run("diarize", talks[1], option, 4)
    assert code == 0 and len(out.splitlines()) == 1
    assert "1 found who speak, where 4 were asked for" in " ".join(err.split())
    assert "asked for" not in run("diarize", talks[0], option, 2)[2]


def test_pages(run, heard, talks, tmp_path):
    page = tmp_path / "pages" / "talk.html"
    code, out, _ = run("diarize", talks[0], "--html", page, "--speakers", 2)
    assert code == 0 and out.count("\n") == 4
    text = page.read_text()
    assert '"turns":[[0.' in text and "speaker2" in text and "data:audio/wav;base64" in text
    assert run("diarize", *talks, "--format", "html", "--output", tmp_path / "out")[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one talk.html", "other.html"]


def test_a_store_gives_names(run, heard, talks, tmp_path, monkeypatch):
    from wavconformer.tasks.speakers import SpeakerStore

    monkeypatch.setattr(SpeakerStore, "embedder", property(lambda self: self._model))
    monkeypatch.setattr(SpeakerStore, "calibration", property(lambda self: None))
    known = ("--store", tmp_path / "voices.db", "--store-threshold", 0.9)
    names = [{line.split("\t")[2] for line in run("diarize", talks[0], *known)[1].splitlines()} for _ in range(2)]
    assert names[0] == names[1] and len(names[0]) == 2 and all(name.startswith("speaker-") for name in names[0])
    unknown = run("diarize", talks[1], *known, "--no-enroll")[1]
    assert unknown.split()[-1] == "speaker1"


def test_a_recording_that_can_not_be_read(run, heard, talks, tmp_path):
    code, out, err = run("diarize", talks[0], tmp_path / "none.wav", "--format", "rttm")
    assert code == 1 and out.count("one_talk") == 4
    assert "no such file" in err and "1 of 2 recordings could not be diarized" in " ".join(err.split())
    assert "no such file" in run("diarize", tmp_path / "none.wav")[2]
    soundfile.write(tmp_path / "short.wav", talk(0.05, (0, 0.0, 0.05)), RATE)
    code, _, err = run("diarize", tmp_path / "short.wav")
    assert code == 1 and "needs at least 85 ms" in " ".join(err.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--speakers", 2, "--min", 1), "leave --min and --max out"),
        (("--min", 3, "--max", 2), "--min 3 is more than --max 2"),
        (("other.wav",), "don't make one txt"),
        (("other.wav", "--html", "x.html", "--format", "json"), "--html is of one recording"),
        (("--html", "."), "--html '.' is a folder"),
        (("--store-threshold", 0.5), "--store-threshold goes with --store"),
    ],
)
def test_wrong_usage(run, arguments, message):
    code, _, err = run("diarize", "a.wav", *arguments)
    assert code == 2 and message in " ".join(err.replace("│", " ").split())


def test_another_head_is_refused_in_a_line(run, talks):
    code, _, err = run("diarize", talks[0], "--model", "tiny-en")
    assert code == 1 and "`wavconformer transcribe`" in " ".join(err.split()) and "Traceback" not in err


# --- transcribe


def test_words_by_speaker(run, heard, sample, tmp_path):
    arguments = ("--diarize", "--diarization-model", "ears", "--speaker-model", "voices", "--speakers", 1)
    code, out, _ = run("transcribe", sample, *arguments, "--format", "json")
    content = json.loads(out)
    assert code == 0 and heard["model"] == "ears" and heard["speaker_model"] == "voices"
    speakers = {turn["speaker"] for turn in content.get("turns", [])}
    assert all(word.get("speaker") in {*speakers, None} for word in content["words"])
    code, out, _ = run("transcribe", sample, "--diarize")
    assert code == 0 and out.strip()


def test_words_by_speaker_want_speakers(run, sample, tmp_path, heard, monkeypatch):
    for arguments, message in (
        (("--speakers", 2), "go with --diarize"),
        ((sample, "--diarize"), "don't make one txt"),
    ):
        code, _, err = run("transcribe", sample, *arguments)
        assert code == 2 and message in " ".join(err.replace("│", " ").split())

    def fail(self, *_, **__):
        raise ValueError("nobody listens")

    monkeypatch.setattr(Diarizer, "__call__", fail)
    code, _, err = run("transcribe", sample, sample.parent / "alarm.flac", "--diarize", "--output", tmp_path / "out")
    assert code == 1 and "nobody listens" in err and not list((tmp_path / "out").iterdir())
    with pytest.raises(ValueError, match="nobody listens"):
        run("--debug", "transcribe", sample, "--diarize")
