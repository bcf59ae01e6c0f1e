"""Transcribing with a beam search in place of the greedy decoder."""

from __future__ import annotations

import pytest

import wavconformer
from wavconformer import BeamSettings
from wavconformer.lm.arpa import write_arpa
from wavconformer.lm.kneser_ney import estimate

SAID = "SET A TIMER FOR TWENTY THREE SECONDS"


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    path = tmp_path_factory.mktemp("lm") / "lm.arpa"
    lines = [SAID, "SET AN ALARM FOR SEVEN", "WAIT TEN SECONDS"]
    write_arpa(estimate((line.split() for line in lines), 3).model, path)
    return path


def test_a_transcriber_takes_a_decoder(lm, hesitant, sample):
    transcriber = wavconformer.load_model(hesitant, device="cpu")
    greedy = transcriber(sample)
    transcriber.decoder = transcriber.beam_decoder(lm, settings=BeamSettings(50))
    found = transcriber(sample)
    assert greedy.text != SAID
    assert found.text == SAID
    assert [(word.start, word.end) for word in found.words[:-1]] == [
        (word.start, word.end) for word in greedy.words[:-1]
    ]
    assert all(0 < word.probability <= 1 for word in found.words)


def test_the_command_takes_a_language_model_and_hot_words(run, lm, hesitant, sample):
    command = ("transcribe", sample, "--model", hesitant)
    assert run(*command, "--lm", lm) == (0, f"{SAID}\n", "")
    assert run(*command, "--lm", lm, "--alpha", 1, "--beta", 0.5, "--beam", 20) == (0, f"{SAID}\n", "")
    code, out, _ = run(*command, "--hotword", "SECONDS=30", "--hotword", "TIMER", "--format", "json")
    assert code == 0
    assert SAID in out
    code, out, _ = run(*command, "--beam", 5)
    assert code == 0
    assert out.split()[:-1] == SAID.split()[:-1]
    assert "C" not in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--lm", "missing.arpa"], 1, "no language model 'missing.arpa'"),
        (["--lm", "tiny"], 1, "or a checkpoint that has one, as tiny-en"),
        (["--alpha", "1"], 2, "give one with --lm"),
        (["--hotword", "NAME=much"], 2, "is not TEXT or TEXT=WEIGHT"),
        (["--hotword", "name"], 1, "Write 'NAME'"),
        (["--lm", "{lower}"], 1, "lm build --case upper"),
    ],
)
def test_bad_options_are_said_in_a_line(run, tmp_path, sample, arguments, code, message):
    write_arpa(estimate([["lower", "case"]], 2).model, tmp_path / "lower")
    found, out, err = run("transcribe", sample, *(argument.format(lower=tmp_path / "lower") for argument in arguments))
    assert (found, out) == (code, "")
    assert message in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err
