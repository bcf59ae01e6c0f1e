"""Transcribing with a beam search in place of the greedy decoder."""

from __future__ import annotations

import pytest

import wavconformer
from wavconformer import BeamSettings
from wavconformer.files import ASSETS
from wavconformer.lm.arpa import write_arpa
from wavconformer.lm.kneser_ney import estimate

WEATHER = ASSETS / "samples" / "weather.flac"
SAID = "WHAT IS THE WEATHER IN PARIS SATURDAY"


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    path = tmp_path_factory.mktemp("lm") / "lm.arpa"
    lines = [SAID, "HOW IS THE WEATHER IN LONDON", "CALL ANNA ON SATURDAY"]
    write_arpa(estimate((line.split() for line in lines), 3).model, path)
    return path


def test_a_transcriber_takes_a_decoder(lm):
    transcriber = wavconformer.load_model(device="cpu")
    greedy = transcriber(WEATHER)
    transcriber.decoder = transcriber.beam_decoder(lm, settings=BeamSettings(50))
    found = transcriber(WEATHER)
    assert greedy.text != SAID
    assert found.text == SAID
    assert [(word.start, word.end) for word in found.words[:-1]] == [
        (word.start, word.end) for word in greedy.words[:-1]
    ]
    assert all(0 < word.probability <= 1 for word in found.words)


def test_the_command_takes_a_language_model_and_hot_words(run, lm):
    assert run("transcribe", WEATHER, "--lm", lm) == (0, f"{SAID}\n", "")
    assert run("transcribe", WEATHER, "--lm", lm, "--alpha", 1, "--beta", 0.5, "--beam", 20) == (0, f"{SAID}\n", "")
    code, out, _ = run("transcribe", WEATHER, "--hotword", "SATURDAY=30", "--hotword", "PARIS", "--format", "json")
    assert code == 0
    assert SAID in out
    assert "SATADAY" in run("transcribe", WEATHER, "--beam", 5)[1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--lm", "missing.arpa"], 1, "no language model 'missing.arpa'"),
        (["--alpha", "1"], 2, "give one with --lm"),
        (["--hotword", "NAME=much"], 2, "is not TEXT or TEXT=WEIGHT"),
        (["--hotword", "name"], 1, "Write 'NAME'"),
        (["--lm", "{lower}"], 1, "lm build --case upper"),
    ],
)
def test_bad_options_are_said_in_a_line(run, tmp_path, arguments, code, message):
    write_arpa(estimate([["lower", "case"]], 2).model, tmp_path / "lower")
    found, out, err = run("transcribe", WEATHER, *(argument.format(lower=tmp_path / "lower") for argument in arguments))
    assert (found, out) == (code, "")
    assert message in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err
