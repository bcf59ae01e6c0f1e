"""verify, calibrate, enroll, identify and speakers, as they are typed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from wavconformer.files import samples
from wavconformer.scoring.calibration import Calibration
from wavconformer.tasks.embedding import Embedder

RATE = 16_000


@pytest.fixture
def model(speaker_model, tmp_path):
    """The arguments that name a model and its calibration."""
    calibration = tmp_path / "known.json"
    Calibration(Embedder.load(speaker_model, device="cpu").name, 20.0, -10.0).save(calibration)
    return "--model", speaker_model, "--calibration", calibration, "--device", "cpu"


@pytest.fixture
def voices(speaker_model, tmp_path):
    """The arguments that name a store and its model."""
    return "--store", tmp_path / "voices.db", "--model", speaker_model, "--device", "cpu"


def test_verify_tells_and_its_exit_code_too(run, model):
    a, b = samples()[:2]
    code, out, _ = run("verify", a, a, *model)
    assert code == 0
    assert out == "the same speaker (score 1.000, threshold 0.500, probability 1.00)\n"
    code, out, _ = run("verify", a, b, *model, "--threshold", 1.5)
    assert code == 3 and out.startswith("different speakers (score 0.") and "threshold 1.500" in out
    code, out, _ = run("verify", a, b, *model[:2], "--threshold", -1, "--json")
    assert code == 0
    assert json.loads(out).keys() == {"score", "threshold", "is_same", "probability"}
    assert json.loads(out)["probability"] is None


def test_verify_refuses_what_it_cannot_judge(run, model, tmp_path, sample):
    short, silent = tmp_path / "short.wav", tmp_path / "silent.wav"
    soundfile.write(short, np.ones(3200) * 0.1, RATE)
    soundfile.write(silent, np.zeros(2 * RATE), RATE)
    for file, reason in ((short, "0.20 s long, but the speaker model needs at least"), (silent, "is silent")):
        code, out, said = run("verify", sample, file, *model)
        assert (code, out) == (1, "") and reason in said and file.name in said
    code, _, said = run("verify", sample, sample, *model[:2])
    assert code == 1 and "no calibration.json" in said


def test_calibrate_writes_what_verify_takes(run, speaker_model, tmp_path):
    names = [path.name for path in samples()]
    trials = tmp_path / "trials.txt"
    trials.write_text(
        "".join(f"1 {name} {name}\n" for name in names) + "".join(f"0 {names[0]} {name}\n" for name in names[1:])
    )
    arguments = ("--model", speaker_model, "--audio", samples()[0].parent, "--device", "cpu")
    file = tmp_path / "made.json"
    code, out, _ = run("calibrate", trials, *arguments, "--output", file, "--p-target", 0.1)
    assert code == 0
    assert out.startswith(f"{file}: threshold 0.") and "on 6 target and 5 nontarget trials EER 0.00 %" in out
    assert Calibration.read(file).p_target == 0.1
    code, _, said = run("calibrate", trials, *arguments[2:])
    assert code == 2 and "--output" in said
    code, _, said = run("calibrate", trials, *arguments, "-o", file, "--cohort", tmp_path / "none")
    assert code == 1 and "no folder with recordings" in said
    cohort = tmp_path / "cohort"
    cohort.mkdir()
    for path in samples():
        (cohort / path.name).write_bytes(path.read_bytes())
    code, out, _ = run("calibrate", trials, *arguments, "-o", file, "--cohort", cohort, "--top", 3)
    assert code == 0 and len(Calibration.read(file).cohort.vectors) == 6
    code, _, said = run("calibrate", trials, *arguments, "-o", cohort)
    assert code == 2 and "is a folder" in " ".join(said.replace("│", " ").split())
    code, _, said = run("calibrate", cohort, *arguments, "-o", file)
    assert code == 2 and "is a directory" in " ".join(said.replace("│", " ").split())
    trials.write_text("1 a b c\n")
    code, _, said = run("calibrate", trials, *arguments, "-o", file)
    assert code == 1 and "line 1" in said


def test_calibrate_writes_into_the_models_folder(run, make_speaker_model, tmp_path):
    folder = make_speaker_model()
    names = [str(path) for path in samples()]
    trials = tmp_path / "trials.txt"
    trials.write_text(f"{names[0]} {names[0]} target\n{names[0]} {names[1]} nontarget\n")
    code, _, said = run("calibrate", trials, "--model", folder, "--device", "cpu")
    assert code == 0, said
    assert Embedder.load(folder, device="cpu").calibration is not None


def test_voices_are_kept_and_told(run, voices, model):
    a, b, c, *_ = samples()
    code, out, _ = run("enroll", "Ann", a, *voices)
    assert code == 0 and out.startswith("Ann: 1 recording enrolled (")
    code, out, _ = run("enroll", "Ann", b, *voices)
    assert code == 0 and out.startswith("Ann: 1 recording enrolled, 2 with those before (")
    assert run("enroll", "Bob", c, *voices)[0] == 0
    code, out, _ = run("identify", c, *voices, *model[2:4])
    assert code == 0 and out.startswith(("Bob (score ", "Ann (score "))
    code, out, _ = run("identify", a, c, *voices, "--threshold", 1.5)
    assert code == 3
    assert [line.split("\t")[1].startswith("unknown (nearest ") for line in out.splitlines()] == [True, True]
    code, out, _ = run("identify", a, *voices, "--threshold", 0.1, "--json", "--top", 1)
    found = json.loads(out)
    assert code == 0 and found["name"] in ("Ann", "Bob") and len(found["candidates"]) == 1
    code, out, _ = run("speakers", *voices[:2])
    assert code == 0
    assert [line.split("\t")[:2] for line in out.splitlines()] == [["Ann", "2 recordings"], ["Bob", "1 recording"]]
    assert run("speakers", *voices[:2], "rename", "Bob", "Rob")[0] == 0
    assert run("speakers", "remove", "Ann", *voices[:2])[0] == 0
    code, out, _ = run("speakers", *voices[:2], "--json")
    assert code == 0 and json.loads(out)["name"] == "Rob"
    assert run("speakers", *voices[:2], "remove", "Rob")[0] == 0
    code, out, said = run("speakers", *voices[:2])
    assert (code, out) == (0, "") and "holds nobody" in said


def test_what_cannot_be_identified_is_told_by_name(run, voices, sample, tmp_path):
    code, _, said = run("identify", sample, *voices, "--threshold", 0.5)
    assert code == 1 and "no store of voices" in said
    run("enroll", "Ann", sample, *voices)
    missing = tmp_path / "missing.wav"
    code, out, said = run("identify", missing, sample, *voices, "--threshold", 0.5)
    assert code == 1 and "missing.wav" in said and out.count("Ann") == 1
    code, out, said = run("identify", missing, *voices, "--threshold", 0.5)
    assert (code, out) == (1, "")
    code, _, said = run("speakers", "remove", "An", *voices[:2])
    assert code == 1 and "Did you mean 'Ann'" in said
    code, _, said = run("enroll", " ", sample, *voices)
    assert code == 1 and "no name of a speaker" in said
    voices[1].write_bytes(b"not a database, but long enough to be looked at" * 100)
    code, _, said = run("speakers", *voices[:2])
    assert code == 1 and "damaged" in said


def test_a_folder_is_no_store(run, voices, sample, tmp_path):
    code, _, said = run("enroll", "Ann", sample, "--store", tmp_path, *voices[2:])
    assert code == 1 and "is a folder and no store of voices: name a file" in " ".join(said.split())


def test_a_store_that_cannot_be_made_is_told_of(run, voices, sample):
    code, _, said = run("enroll", "Ann", sample, "--store", sample / "voices.db", *voices[2:])
    assert code == 1 and "can't be made" in said and "name a file in a folder of yours" in " ".join(said.split())


def test_a_store_of_another_model_is_refused(run, voices, sample, make_speaker_model):
    run("enroll", "Ann", sample, *voices)
    code, _, said = run("enroll", "Bob", sample, *voices[:2], "--model", make_speaker_model(seed=1))
    assert code == 1 and "another speaker model" in said and "--model" in said


def test_the_store_has_a_usual_place(run, speaker_model, sample, tmp_path, monkeypatch):
    monkeypatch.setenv("WAVCONFORMER_SPEAKERS", str(tmp_path / "usual.db"))
    code, out, _ = run("enroll", "Ann", sample, "--model", speaker_model)
    assert code == 0 and str(tmp_path / "usual.db") in out
    assert run("speakers")[1].startswith("Ann\t")
