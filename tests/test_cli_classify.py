"""`wavconformer classify`: what it prints, writes, leaves out and refuses."""

from __future__ import annotations

import json
import wave

import numpy as np
import pytest
import torch

from model.builders import build
from wavconformer import Wav2Vec2FeatureExtractor

RATE = 16_000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A random classifier of two sounds that hears windows of a second."""
    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    build(
        "ForSequenceClassification",
        num_hidden_layers=1,
        conv_dim=(8, 14),
        conv_kernel=(40, 8),
        conv_stride=(40, 8),
        num_labels=2,
        id2label={0: "yes", 1: "no"},
        window_seconds=1.0,
    ).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


@pytest.fixture
def recordings(tmp_path):
    """By name: "short", "long", of 3.2 s, "empty" and "brief", of 0.2 s."""
    random = np.random.default_rng(0)
    paths = {}
    for name, seconds in (("short", 1.0), ("long", 3.2), ("empty", 0.0), ("brief", 0.2)):
        paths[name] = tmp_path / f"{name}.wav"
        with wave.open(str(paths[name]), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(random.integers(-3000, 3000, round(seconds * RATE)).astype("<i2").tobytes())
    return paths


def test_one_recording_gives_its_labels_alone(run, model, recordings):
    code, out, err = run("classify", recordings["short"], "--model", model)
    assert (code, err) == (0, "")
    scores = dict(part.split(" ") for part in out.strip().split(", "))
    assert set(scores) == {"yes", "no"}
    assert sum(map(float, scores.values())) == pytest.approx(1, abs=2e-3)
    assert run("classify", recordings["short"], "--model", model, "--top", 1)[1] == out.split(",")[0] + "\n"


def test_a_long_recording_has_a_time_line(run, model, recordings):
    _, out, _ = run("classify", recordings["long"], "--model", model)
    first, *spans = out.splitlines()
    assert ", " in first
    assert spans[0].split()[0] == "0.00"
    assert spans[-1].split()[1] == "3.20"
    _, out, _ = run("classify", recordings["long"], "--model", model, "--window-seconds", 3)
    assert len(out.splitlines()) == 1


def test_several_recordings_give_a_line_each(run, model, recordings):
    files = recordings["short"], recordings["brief"]
    code, out, _ = run("classify", *files, "--model", model)
    assert code == 0
    assert [line.split("\t")[0] for line in out.splitlines()] == [str(file) for file in files]


def test_json_is_a_line_each(run, model, recordings):
    _, out, _ = run("classify", recordings["long"], recordings["brief"], "--model", model, "--format", "json")
    long, brief = map(json.loads, out.splitlines())
    assert long["file"] == str(recordings["long"])
    assert [window["start"] for window in long["windows"]] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.2]
    assert brief["duration"] == 0.2
    assert "windows" not in brief


def test_a_table_has_one_heading(run, model, recordings):
    files = recordings["long"], recordings["short"]
    _, out, _ = run("classify", *files, "--model", model, "--format", "tsv", "--hop-seconds", 1, "--top", 1)
    lines = [line.split("\t") for line in out.splitlines()]
    assert lines[0] == ["file", "start", "end", "label", "score"]
    assert [(line[0], line[1]) for line in lines[1:]] == [
        *((str(files[0]), start) for start in ("0.000", "1.000", "2.000", "2.200")),
        (str(files[1]), "0.000"),
    ]


def test_files_are_written_and_those_that_are_there_left_out(run, model, recordings, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "short.tsv").write_text("done before\n")
    files = recordings["short"], recordings["long"]
    arguments = ("classify", *files, "--model", model, "--output", out, "--format", "tsv", "--resume")
    assert run(*arguments) == (0, "", "1 of 2 are done already.\n")
    assert (out / "short.tsv").read_text() == "done before\n"
    assert (out / "long.tsv").read_text().startswith("file\tstart")
    monkeypatch.setattr("wavconformer.tasks.classify.load_classifier", None)  # all is done: nothing is loaded
    assert run(*arguments)[0] == 0
    code, _, err = run("classify", *files, "--resume")
    assert code == 2
    assert "--resume" in err


def test_what_can_t_be_read_is_reported_and_the_others_go_on(run, model, recordings, tmp_path):
    files = (recordings["empty"], tmp_path / "missing.wav", recordings["brief"])
    code, out, err = run("classify", *files, "--model", model)
    assert code == 1
    assert out.startswith(f"{files[2]}\t")
    assert "nothing in it can be decoded" in err
    assert "missing.wav': no such file" in err
    assert "2 of 3 recordings could not be classified." in err
    code, out, err = run("classify", recordings["empty"], "--model", model)
    assert (code, out, err.count("\n")) == (1, "", 1)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--model", "tiny-en"], 1, "'tiny-en' is a Wav2Vec2ConformerForCTC: it writes what is said."),
        (["--model", "/no/where"], 1, "There is no folder '/no/where'."),
        (["--top", "0"], 2, "--top"),
        (["--threshold", "1.5"], 2, "--threshold"),
        (["--threshold", "1"], 1, "threshold is 1.0, but must lie between 0 and 1."),
        (["--hop-seconds", "9"], 1, "hop_seconds is 9.0"),
        (["--format", "srt"], 2, "--format"),
    ],
)
def test_wrong_usage_is_told_on_a_line(run, model, recordings, arguments, code, message):
    named = [] if "--model" in arguments else ["--model", model]
    found, out, err = run("classify", recordings["short"], *named, *arguments)
    assert (found, out) == (code, "")
    assert message in " ".join(err.split())
    assert "Traceback" not in err
