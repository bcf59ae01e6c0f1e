"""The people and the script of the recipe speakers; no synthesiser is needed."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest
from tests.recipes.scripts import RECIPES, load

from wavconformer.data.corpus import Corpus
from wavconformer.data.utterance import load_utterance
from wavconformer.training.recipe import read_recipe

RECIPE = RECIPES / "speakers"
sys.path.insert(0, str(RECIPE.parent / "tiny-en"))  # a recipe is a folder of scripts, no package
sys.path.insert(0, str(RECIPE))

import people  # noqa: E402
import sentences  # noqa: E402
from voices import Manner, Voice  # noqa: E402

RATE = 16_000


corpus = load("speakers", "corpus")


@pytest.fixture
def pools(monkeypatch):
    """Open sentences that need no package of Debian's."""
    words = ("ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE", "TEN")
    made = [f"THIS IS THE LONG SENTENCE {a} {b} {c} {d}" for a in words for b in words for c in words for d in words]
    monkeypatch.setattr(corpus, "open_sentences", lambda seed: (made[::2], made[1::2]))


def test_hundreds_of_people_share_no_base_voice_between_sets():
    sets = people.everybody(0)
    assert {name: len(some) for name, some in sets.items()} == {"train": 560, "dev": 72, "test": 206}
    names = [str(person) for some in sets.values() for person in some]
    assert len(set(names)) == len(names) and not any(" " in name for name in names)
    bases = {name: {person.base for person in some} for name, some in sets.items()}
    assert not bases["train"] & bases["test"] and not bases["train"] & bases["dev"] and not bases["dev"] & bases["test"]
    assert not any("klatt" in base for base in bases["train"])
    accents = {name: {person.voice.name.partition("+")[0] for person in some} for name, some in sets.items()}
    assert people.UNHEARD_ACCENT in accents["test"] and people.UNHEARD_ACCENT not in accents["train"] | accents["dev"]
    assert people.everybody(0) == sets != people.everybody(1)


def test_a_smaller_person_speaks_higher_and_not_faster():
    heard = []

    class Speaker:
        def __call__(self, voice, how, text, rate):
            heard.append((how.tempo, rate))
            return np.zeros(1, np.float32)

    draw = random.Random(0)
    for scale in (0.8, 1.25):
        person = people.Person(Voice("espeak-ng", "en-us+f1", 1), scale, 90)
        how = people.manner(person, draw)
        assert 85 <= how.pitch <= 95
        people.spoken(Speaker(), person, how, "HELLO")
    (slow, more), (fast, fewer) = heard
    # Played at 16,000 a second, samples made at 20,000 are longer and lower; the synthesiser speaks faster for it.
    assert (more, fewer) == (20_000, 12_800)
    assert 0.85 <= slow * 0.8 <= 1.15 and 0.85 <= fast * 1.25 <= 1.15
    joe = people.manner(people.Person(Voice("piper", "joe", 1), 1.0), draw)
    assert joe.noise is not None and joe.pitch is None


def test_the_script_holds_out_sentences_and_conditions(pools):
    sets = corpus.script(0, 3, sentences.Exclusion(["THIS IS THE LONG SENTENCE ONE ONE"]))
    texts = {name: {line.text for line in lines} for name, lines in sets.items()}
    assert len(sets["train"]) == 3 * 560 and len(sets["test"]) == 10 * 206
    assert not texts["train"] & (texts["test"] | texts["dev"] | texts["valid"])
    assert not any("SENTENCE ONE ONE" in text for some in texts.values() for text in some)
    assert {line.condition for line in sets["train"]} == {"clean"} == {line.condition for line in sets["valid"]}
    assert {line.condition for line in sets["test"]} == {"clean", "rain", "telephone", "hall"}
    ids = [line.id for lines in sets.values() for line in lines]
    assert len(set(ids)) == len(ids)
    more = corpus.script(0, 4, sentences.Exclusion(["THIS IS THE LONG SENTENCE ONE ONE"]))
    assert more["test"] == sets["test"] and more["train"][: len(sets["train"])] == sets["train"]


class Tone:
    """Says each text as a tone whose length is that of the text."""

    def __init__(self, seed):
        pass

    def __call__(self, voice, how: Manner, text, rate):
        return np.sin(np.arange(len(text) * 400) * 0.1).astype(np.float32)


def test_parts_become_a_corpus_of_speakers(pools, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "Speaker", Tone)
    lines = (
        corpus.script(0, 2, sentences.Exclusion([]))["test"][:12]
        + corpus.script(0, 2, sentences.Exclusion([]))["test"][206:218]
    )
    corpus.make_part(tmp_path / "set", 0, lines, seed=0)
    corpus.finish(tmp_path / "set", 1)
    opened = Corpus.open(tmp_path / "set")
    assert [one.speaker for one in opened] == [one.label for one in opened] == [str(line.person) for line in lines]
    assert corpus._report(tmp_path / "set")["speakers"] == 12
    for one, line in zip(opened, lines, strict=True):
        samples = load_utterance(one)
        assert abs(len(samples) - len(line.text) * 400) <= 2
        assert np.isfinite(samples).all() and 0.1 < np.abs(samples).max() < 0.95


def test_noises_and_rooms_are_made(pools, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "Speaker", Tone)
    monkeypatch.setattr(corpus, "NOISES", 2)
    monkeypatch.setattr(corpus, "ROOMS", 1)
    corpus._make_surroundings(tmp_path, 0, corpus.script(0, 1, sentences.Exclusion([]))["train"])
    assert sorted(path.name for path in tmp_path.rglob("*.flac")) == ["000.flac", "000.flac", "001.flac"]


def test_the_recipe_is_one():
    recipe = read_recipe(RECIPE / "recipe.yaml")
    assert recipe.task == "xvector" and recipe.model.filterbank and recipe.augmentation.noise
