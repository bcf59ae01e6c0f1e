"""Transcribing with a beam search in place of the greedy decoder."""

from __future__ import annotations

import shutil
import sys

import pytest

import wavconformer
from wavconformer import BeamDecoder, BeamSettings, CheckpointError
from wavconformer.decoding.greedy import GreedyDecoder
from wavconformer.files import ASSETS, Source
from wavconformer.lm.arpa import write_arpa
from wavconformer.lm.kenlm import MAGIC
from wavconformer.lm.kneser_ney import estimate
from wavconformer.tasks.search import Search, described

SAID = "SET A TIMER FOR TWENTY THREE SECONDS"


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    path = tmp_path_factory.mktemp("lm") / "lm.arpa"
    lines = [SAID, "SET AN ALARM FOR SEVEN", "WAIT TEN SECONDS"]
    write_arpa(estimate((line.split() for line in lines), 3).model, path)
    return path


@pytest.fixture
def carrying(hesitant, lm, tmp_path):
    """A checkpoint that carries a language model with settings of its own."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(hesitant, folder)
    (folder / "language_model").mkdir()
    shutil.copy(lm, folder / "language_model")
    (folder / "language_model" / "attrs.json").write_text('{"alpha": 0.6, "beta": 0.3}')
    return folder


def test_the_language_model_of_a_checkpoint_decodes_unless_told_otherwise(carrying, lm, hesitant, sample):
    transcriber = wavconformer.load_model(carrying, device="cpu")
    assert transcriber(sample).text == SAID
    assert isinstance(transcriber.decoder, BeamDecoder)
    assert transcriber.decoder.settings == BeamSettings(alpha=0.6, beta=0.3)
    greedy = wavconformer.load_model(carrying, device="cpu", lm=False)
    assert isinstance(greedy.decoder, GreedyDecoder)
    assert greedy(sample).text != SAID
    assert isinstance(wavconformer.load_model(carrying, device="cpu", lm=None).decoder, GreedyDecoder)
    assert isinstance(wavconformer.load_model(hesitant, device="cpu").decoder, GreedyDecoder)
    named = wavconformer.load_model(hesitant, device="cpu", lm=lm)
    assert named(sample).text == SAID
    assert named.decoder.settings == BeamSettings()
    assert wavconformer.load_model(hesitant, device="cpu", lm=carrying).decoder.settings.alpha == 0.6


def test_the_shipped_checkpoint_has_its_weights(transcriber):
    assert transcriber.decoder.lm.path == ASSETS / "tiny-en" / "language_model" / "lm.arpa.gz"
    assert transcriber.decoder.settings == BeamSettings(alpha=0.7, beta=1.5)


def test_another_decoder_keeps_the_language_model(carrying, lm):
    transcriber = wavconformer.load_model(carrying, device="cpu")
    own = transcriber.decoder
    transcriber.decoder = hot = transcriber.beam_decoder(hotwords={"TIMER": 2.0})
    assert (hot.lm, hot.settings, hot.hotwords.weights) == (own.lm, own.settings, {"TIMER": 2.0})
    plain = transcriber.beam_decoder(settings=BeamSettings(20))
    assert (plain.lm, plain.settings, plain.hotwords.weights) == (own.lm, BeamSettings(20), {})
    assert transcriber.beam_decoder(None).lm is None
    assert transcriber.beam_decoder(False).lm is None
    assert transcriber.beam_decoder(lm).lm.path == lm


def test_transcribe_takes_a_language_model(carrying, sample):
    assert wavconformer.transcribe(sample, model=carrying, device="cpu").text == SAID
    assert wavconformer.transcribe(sample, model=carrying, device="cpu", lm=False).text != SAID
    assert wavconformer.transcribe(sample, model=carrying, device="cpu", lm=None).text != SAID
    assert wavconformer.transcribe(sample, model=carrying, device="cpu", lm=carrying).text == SAID
    with pytest.raises(ValueError, match="lm go with a model's name"):
        wavconformer.transcribe(sample, model=wavconformer.load_model(carrying, device="cpu"), lm=False)


def test_what_cannot_be_read_for_want_of_a_package_is_told(carrying, sample, monkeypatch):
    monkeypatch.setitem(sys.modules, "kenlm", None)
    (carrying / "language_model" / "lm.arpa").write_bytes(MAGIC + b" version 5")
    (carrying / "language_model" / "lm.arpa").rename(carrying / "language_model" / "lm.bin")
    with pytest.warns(UserWarning, match=r"decoding is greedy.*pip install 'wavconformer\[lm\]'"):
        transcriber = wavconformer.load_model(carrying, device="cpu")
    assert isinstance(transcriber.decoder, GreedyDecoder)
    with pytest.raises(wavconformer.WavConformerError, match="pip install"):  # that one was asked for
        wavconformer.load_model(carrying, device="cpu", lm=carrying)
    with (
        pytest.warns(UserWarning, match="decoding is greedy"),
        pytest.raises(CheckpointError, match="no language model that can be read here"),
    ):
        Search(beam={"alpha": 1.0}).load(carrying, device="cpu")


def test_a_broken_language_model_is_an_error(carrying):
    (carrying / "language_model" / "lm.arpa").write_text("no ARPA")
    with pytest.raises(CheckpointError, match=r"neither an ARPA file.* To decode without it: lm=False, or --lm none\."):
        wavconformer.load_model(carrying, device="cpu")
    assert wavconformer.load_model(carrying, device="cpu", lm=False)
    write_arpa(estimate([["lower", "case"]], 2).model, carrying / "language_model" / "lm.arpa")
    with pytest.raises(CheckpointError, match=r"doesn't fit.* To decode without it: lm=False, or --lm none\."):
        wavconformer.load_model(carrying, device="cpu")


def test_words_in_another_encoding_are_an_error(carrying):
    (carrying / "language_model" / "unigrams.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match=r"language_model/unigrams\.txt can't be read.* --lm none"):
        wavconformer.load_model(carrying, device="cpu")


def test_a_folder_without_a_language_model_in_it_is_an_error(carrying):
    (carrying / "language_model" / "lm.arpa").unlink()
    with pytest.raises(CheckpointError, match="must hold one language model"):
        wavconformer.load_model(carrying, device="cpu")


def test_that_of_a_repository_is_not_asked_for(transcriber, monkeypatch):
    """It may be of many gigabytes."""
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    greedy = wavconformer.Transcriber(transcriber.model, transcriber.processor)
    greedy.use_own_language_model(Source("owner/name"))
    assert isinstance(greedy.decoder, GreedyDecoder)


def test_a_decoder_is_described(transcriber, lm, carrying):
    own = transcriber.decoder
    assert described(own) == (
        "beam search of width 100, language model tiny-en/language_model/lm.arpa.gz, alpha 0.7, beta 1.5"
    )
    assert described(own.using(["TEN"], beam_width=5)).startswith("beam search of width 5, language")
    assert described(own.using(["TEN", "TWO"])).endswith(", 2 hot words")
    assert described(transcriber.beam_decoder(None, hotwords=["TEN"])) == "beam search of width 100, 1 hot word"
    assert described(transcriber.beam_decoder(lm)).split(", ")[1] == f"language model {lm}"
    assert described(Search(lm=False).load(carrying, device="cpu").decoder) == "greedy"


def test_the_command_decodes_with_it_too(run, carrying, sample):
    command = ("transcribe", sample, "--model", carrying)
    assert run(*command) == (0, f"{SAID}\n", "")
    assert run(*command, "--alpha", 1, "--beta", 0.5, "--hotword", "TIMER") == (0, f"{SAID}\n", "")
    code, out, _ = run(*command, "--lm", "none")
    assert code == 0
    assert out != f"{SAID}\n"
    code, out, _ = run(*command, "--lm", "none", "--beam", 20)
    assert code == 0
    assert out != f"{SAID}\n"


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


def test_a_file_may_be_named_as_the_word_for_none(run, lm, hesitant, sample, tmp_path, monkeypatch):
    shutil.copy(lm, tmp_path / "none")
    monkeypatch.chdir(tmp_path)
    command = ("transcribe", sample, "--model", hesitant)
    code, out, _ = run(*command, "--lm", "./none", "--alpha", "0.6")
    assert (code, out.strip()) == (0, SAID)
    code, out, _ = run(*command, "--lm", "none")
    assert code == 0
    assert out.strip() != SAID


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--lm", "missing.arpa"], 1, "no language model 'missing.arpa'"),
        (["--lm", "tiny"], 1, "or a checkpoint that has one, as tiny-en"),
        (["--lm", "none", "--alpha", "1"], 2, "--lm none is without one"),
        (["--model", "{bare}", "--beta", "1"], 1, "give one with --lm"),
        (["--hotword", "NAME=much"], 2, "is not TEXT or TEXT=WEIGHT"),
        (["--hotword", "name"], 1, "Write 'NAME'"),
        (["--lm", "{lower}"], 1, "lm build --case upper"),
    ],
)
def test_bad_options_are_said_in_a_line(run, tmp_path, sample, hesitant, arguments, code, message):
    write_arpa(estimate([["lower", "case"]], 2).model, tmp_path / "lower")
    named = {"lower": tmp_path / "lower", "bare": hesitant}
    found, out, err = run("transcribe", sample, *(argument.format(**named) for argument in arguments))
    assert (found, out) == (code, "")
    assert message in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err
