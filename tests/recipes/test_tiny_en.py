"""The text of the recipe tiny-en, and its packing; no synthesiser is needed."""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from wavconformer.data.corpus import Corpus
from wavconformer.data.examine import read_tokenizer
from wavconformer.data.utterance import load_utterance
from wavconformer.errors import DataError
from wavconformer.training.recipe import read_recipe

RECIPE = Path(__file__).parents[2] / "recipes" / "tiny-en"
sys.path.insert(0, str(RECIPE))  # a recipe is a folder of scripts, no package

import commands  # noqa: E402
import corpus  # noqa: E402
import lm_text  # noqa: E402
import parts  # noqa: E402
import sentences  # noqa: E402
import surroundings  # noqa: E402
import voices  # noqa: E402

RATE = 16_000


class Never(random.Random):
    """Joins no clauses."""

    def random(self):
        return 1.0


class Always(random.Random):
    """Joins all clauses that may be joined."""

    def random(self):
        return 0.0


def cut(text: str, draw: random.Random | None = None) -> list[str]:
    return list(sentences.clauses(text, draw or Never()))


# --- text


def test_normalised_keeps_letters_and_inner_apostrophes():
    assert sentences.normalised("  'Twas the dogs' owner’s  well-known cat!") == "TWAS THE DOGS OWNER'S WELL KNOWN CAT"


def test_a_paragraph_is_cut_at_its_punctuation_and_over_line_ends():
    text = (
        'In the beginning God created\nthe heaven; and the earth was void: "well-known things--don\'t they say?" Yes.'
    )
    assert cut(text) == [
        "IN THE BEGINNING GOD CREATED THE HEAVEN",
        "AND THE EARTH WAS VOID",
        "WELL KNOWN THINGS",
        "DON'T THEY SAY",
    ]


def test_neighbours_are_joined_up_to_twenty_words():
    clause = "one two three four five six seven, "
    assert [len(one.split()) for one in cut(clause * 4, Always())] == [14, 14]
    assert cut("he went out, and she stayed", Always()) == ["HE WENT OUT AND SHE STAYED"]


@pytest.mark.parametrize(
    "clause",
    [
        "there are 12 of them",
        "ask Mr Miller about it",
        "the HTML pages are there",
        "my NetBSD is running fine",
        "the letter x is missing",
        "write to me@example now",
        "he said hmm and left",
        "that is sooooo very good",
        "the façade is very old",
        "too short",
        "word " * 21,
    ],
)
def test_what_is_not_read_as_it_is_written_is_left_out(clause):
    assert cut(clause) == []
    assert cut(f"this one stays here, {clause}, and so does this") == ["THIS ONE STAYS HERE", "AND SO DOES THIS"]


def test_what_is_left_out_parts_its_neighbours():
    assert cut("this one stays here, all 12 of them, and so does this", Always()) == [
        "THIS ONE STAYS HERE",
        "AND SO DOES THIS",
    ]


def test_fortunes_are_prose_without_the_names_of_who_said_it(tmp_path):
    (tmp_path / "wisdom").write_text("Be as you\nwish to seem.\n\t\t-- Socrates, the Elder\n%\nSecond one here.\n")
    (tmp_path / "wisdom.dat").write_bytes(b"\xff\x00")
    (tmp_path / "perl").write_text("this is no prose\n")
    (tmp_path / "de").mkdir()  # those of another language
    said = [one for paragraph in sentences.fortunes(tmp_path) for one in cut(paragraph)]
    assert said == ["BE AS YOU WISH TO SEEM", "SECOND ONE HERE"]


def test_missing_texts_say_what_to_install(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="apt-get install fortunes"):
        list(sentences.fortunes(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="apt-get install bible-kjv"):
        list(sentences.bible())
    with pytest.raises(DataError, match="apt-get install flite espeak-ng"):
        voices.require(voices.TRAINING)


# --- exclusion


@pytest.mark.parametrize(
    ("sentence", "is_excluded"),
    [
        ("AND HE WENT UP", True),
        ("And, he went up!", True),
        ("THEN SHE SAW AND HE WENT UP TO THE HILL", True),  # holds it
        ("ONE TWO THREE FOUR", True),
        ("TWO THREE FOUR", True),  # is within it
        ("AND HE WENT UPON", False),
        ("SAND HE WENT UP", False),
        ("TWO FOUR THREE", False),
        ("AND HE CAME", False),
    ],
)
def test_exclusion_is_of_whole_words_both_ways(sentence, is_excluded):
    exclusion = sentences.Exclusion(["and he went up", "one two three four five", ""])
    assert (sentence in exclusion) is is_excluded


def test_nothing_excludes_nothing():
    assert "ANY SENTENCE AT ALL" not in sentences.Exclusion([])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tsv", "file\ttext\nx.flac\tONE DAY SOON\ny.flac\t\n"),
        ("a.csv", 'file,text\nx.flac,"One day, soon"\n'),
        ("a.jsonl", '{"audio": "x", "text": "one day soon"}\n\n{"audio": "y"}\n'),
        ("a.txt", "One day soon.\n\n"),
    ],
)
def test_excluded_sentences_are_read_from_tables_and_lines(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert sentences.Exclusion.read([tmp_path / name]).sentences == {"ONE DAY SOON"}


@pytest.mark.parametrize(("name", "text"), [("a.tsv", "file\twords\nx\ty\n"), ("a.jsonl", "{no json"), ("a.txt", "")])
def test_a_file_without_sentences_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(name)):
        sentences.Exclusion.read([tmp_path / name, tmp_path / name])
    with pytest.raises(DataError, match="missing"):
        sentences.Exclusion.read([tmp_path / "missing.txt"])


# --- commands


def test_the_grammar_is_large_and_writes_what_the_vocabulary_has():
    draw = random.Random(1)
    said = [commands.phrase(draw) for _ in range(5000)]
    assert commands.forms() > 300_000
    assert len(set(said)) > 4000
    assert all(one == sentences.normalised(one) for one in said)
    assert max(len(one.split()) for one in said) <= 20
    letters = read_tokenizer(str(RECIPE / "vocab.json"))
    assert letters.unk_token_id not in {index for one in said for index in letters(one)["input_ids"]}


def test_every_name_of_the_grammar_is_used_and_known():
    used = {name for group in commands._SAID for form in group[1] for name in commands._NAME.findall(form)}
    used |= {name for forms in commands.GRAMMAR.values() for form in forms for name in commands._NAME.findall(form)}
    assert used == set(commands.GRAMMAR)


def test_ways_are_counted(monkeypatch):
    monkeypatch.setattr(commands, "GRAMMAR", {"x": ["A", "B", "{y}"], "y": ["C", "D", "D"]})
    monkeypatch.setattr(commands, "_SAID", [(1, ["{x} {y}", "{y}"]), (2, ["E"])])
    commands._ways_of.cache_clear()
    assert commands.forms() == 4 * 2 + 2 + 1
    commands._ways_of.cache_clear()


# --- the script


@pytest.fixture
def pools(monkeypatch):
    """Open sentences that need no package of Debian's."""
    bible = [f"VERSE {one} {two} SPEAKS" for one in commands._SMALL for two in commands._SMALL[:12]]
    said = [f"SAYING {one} {two} RINGS TRUE" for one in commands._SMALL for two in commands._SMALL[:12]]
    monkeypatch.setattr(corpus, "open_sentences", lambda seed: (bible, said))


def test_held_out_sentences_are_not_trained_on(pools):
    excluded = ["VERSE FIVE SEVEN SPEAKS", "SAYING TEN TEN RINGS TRUE", "SEVEN SEVEN EIGHT FOUR"]
    script = corpus.Script(0, sentences.Exclusion(excluded))
    held_out = [line for lines in script.sets.values() for line in lines]
    trained = script.training(2.0)
    assert len({line.text for line in held_out}) == len(held_out)
    assert not {line.text for line in held_out} & {line.text for line in trained}
    assert not [line.text for line in (*held_out, *trained) if any(one in line.text for one in excluded)]
    assert {line.kind for line in trained} == set(corpus.KINDS)
    assert len({line.id for line in (*held_out, *trained)}) == len(held_out) + len(trained)


def test_unheard_voices_are_only_in_their_tests(pools):
    script = corpus.Script(0, sentences.Exclusion([]))
    trained = {line.voice for line in (*script.training(2.0), *script.sets["valid"])}
    unheard = {line.voice for name, lines in script.sets.items() if name.startswith("test-voice") for line in lines}
    assert unheard == set(voices.UNHEARD)
    assert not {str(one) for one in unheard} & {str(one) for one in voices.TRAINING}
    assert trained <= set(voices.TRAINING)
    assert not [line for line in script.training(0.5) if line.condition]


def test_more_hours_begin_with_the_same_lines(pools):
    fewer, more = (corpus.Script(3, sentences.Exclusion([])).training(hours) for hours in (0.2, 1.0))
    assert len(fewer) % parts.PART == 0 and len(more) > len(fewer)
    assert more[: len(fewer)] == fewer
    assert corpus.Script(4, sentences.Exclusion([])).training(0.2) != fewer


def test_another_seed_or_exclusion_is_refused_in_the_same_folder(tmp_path):
    def check(seed: int, sentence: str) -> None:
        parts.check_heading(tmp_path, corpus._heading(seed, sentences.Exclusion([sentence])))

    check(0, "one day soon")
    check(0, "ONE DAY SOON")
    with pytest.raises(DataError, match="another seed"):
        check(1, "one day soon")
    with pytest.raises(DataError, match="exclusion"):
        check(0, "one day late")


# --- packing


class Tone:
    """Says each text as a tone whose length is that of the text."""

    def __init__(self, seed):
        pass

    def __call__(self, voice, how, text):
        return np.sin(np.arange(len(text) * 800) * 0.1).astype(np.float32)


def test_parts_become_a_corpus_that_the_trainer_reads(pools, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "Speaker", Tone)
    lines = corpus.Script(0, sentences.Exclusion([])).sets["test-telephone"][40:80]
    folders = tmp_path / "a" / "set", tmp_path / "b" / "set"
    for folder in folders:
        corpus._make_part(folder, 1, lines[25:], seed=0)
        corpus._make_part(folder, 0, lines[:25], seed=0)
        parts.finish(folder, 2, corpus.KINDS)
    opened = Corpus.open(folders[0])
    assert [one.text for one in opened] == [line.text for line in lines]
    assert [one.id for one in opened] == [line.id for line in lines]
    for number, one in enumerate(opened):
        samples = load_utterance(one)
        assert len(samples) == len(lines[number].text) * 800 == round(opened.seconds[number] * RATE)
        assert 0.2 < np.abs(samples).max() < 0.95
    kinds = {kind: [one.text for one in Corpus.open(folders[0] / f"{kind}.jsonl")] for kind in corpus.KINDS}
    assert kinds == {kind: [line.text for line in lines if line.kind == kind] for kind in corpus.KINDS}
    files = [sorted(folder.rglob("*.tar")) + sorted(folder.rglob("*.jsonl")) for folder in folders]
    assert len(files[0]) == 2 + 2 + 3
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


def test_the_report_tells_hours_and_letters(pools, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "Speaker", Tone)
    script = corpus.Script(0, sentences.Exclusion([]))
    lines = script.sets["valid"][190:210]
    corpus._make_part(tmp_path / "valid", 0, lines, seed=0)
    parts.finish(tmp_path / "valid", 1, corpus.KINDS)
    report = corpus._report(tmp_path, ["valid"], script)["valid"]
    letters = sum(len(line.text) for line in lines)
    assert report["utterances"] == 20
    assert report["hours"] == pytest.approx(letters * 800 / RATE / 3600, abs=1e-3)
    assert sum(report["characters"].values()) == letters
    assert json.loads((tmp_path / "valid" / "manifest.jsonl").read_text().splitlines()[0])["text"] == lines[0].text


# --- voices and surroundings


def test_manners_stay_within_what_a_voice_can_do():
    draw = random.Random(0)
    for voice in (*voices.TRAINING, *voices.UNHEARD):
        how = voices.manner(voice, draw)
        assert 0.75 < how.tempo < 1.25
        assert (how.noise is not None) == (voice.engine == "piper")
        assert how.pitch is None or voice.engine == "espeak-ng" or voice.name.startswith("kal")


def test_conditions_change_speech_but_not_its_length(random):
    speech = np.sin(np.arange(RATE) * 0.2).astype(np.float32) * 0.3
    for condition in surroundings.CONDITIONS.values():
        heard = condition(speech, random)
        assert heard.dtype == np.float32 and abs(len(heard) - len(speech)) <= 2
        assert np.isfinite(heard).all()
        assert np.abs(heard[: len(speech)] - speech[: len(heard)]).max() > 0.01


def test_noises_and_rooms(random):
    for kind in range(5):
        noise = surroundings.training_noise(kind, 0.5, random)
        assert noise.shape == (RATE // 2,) and np.isclose(np.sqrt(np.square(noise).mean()), 0.05, rtol=0.2)
    response = surroundings.room(0.4, random)
    assert np.abs(response).argmax() == 0
    energy = np.cumsum(np.square(response[::-1].astype(np.float64)))[::-1]
    late = energy[round(0.3 * RATE)] / energy[round(0.1 * RATE)]
    assert -40 < 10 * np.log10(late) < -20  # 0.2 s of a fall of 60 dB in 0.4 s


# --- the recipe


def test_the_recipe_is_one_and_its_vocabulary_has_the_letters():
    recipe = read_recipe(RECIPE / "recipe.yaml")
    letters = read_tokenizer(str(Path(__file__).parents[2] / recipe.data.vocabulary))
    assert sorted(letters.get_vocab()) == sorted([*"ABCDEFGHIJKLMNOPQRSTUVWXYZ'|", "<pad>", "<s>", "</s>", "<unk>"])
    assert recipe.task == "ctc" and recipe.data.train and recipe.augmentation.noise


# --- the language model


def test_the_text_of_the_language_model_has_each_sentence_once_and_none_that_is_excluded(monkeypatch, tmp_path):
    monkeypatch.setattr(
        lm_text, "open_sentences", lambda seed: (["AND GOD SAID LET THERE BE LIGHT"], ["NEVER SAY NEVER"])
    )
    (tmp_path / "heard.txt").write_text("let there be light\n")
    lm_text.main(tmp_path / "text", [tmp_path / "heard.txt"], commands=50)
    lines = (tmp_path / "text").read_text().splitlines()
    assert lines[0] == "NEVER SAY NEVER"
    assert 40 < len(lines) <= 51
    assert len(set(lines)) == len(lines)
