"""The simulated conversations of the recipe diarize; no synthesiser is needed."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest

from wavconformer import Wav2Vec2ConformerConfig, load_audio
from wavconformer.data.rttm import read_rttm
from wavconformer.decoding.activity import SpeakerLabels
from wavconformer.training.recipe import read_recipe

RECIPE = Path(__file__).parents[2] / "recipes" / "diarize"
sys.path.insert(0, str(RECIPE))  # a recipe is a folder of scripts, no package

import conversations  # noqa: E402
import people  # noqa: E402
from conversations import Saying  # noqa: E402

RATE = 16_000


@pytest.fixture
def draw():
    return Random(0)


def tone(seconds: float, pitch: float = 300.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.fixture
def everybody():
    return people.everybody(0)


@pytest.fixture
def said(everybody, draw):
    company = conversations.company_of(4, everybody["test"], draw)
    return {
        person: ([tone(draw.uniform(1, 4), 200 + 100 * number) for _ in range(5)], [tone(0.3), tone(0.5)])
        for number, person in enumerate(company)
    }


def test_no_voice_of_dev_or_test_is_trained_on(everybody):
    bases = {name: {person.base for person in some} for name, some in everybody.items()}
    assert not bases["train"] & bases["test"] and not bases["train"] & bases["dev"]
    assert not bases["dev"] & bases["test"]


def test_company_is_of_different_voices(everybody, draw):
    for _ in range(50):
        company = conversations.company_of(4, everybody["dev"], draw)
        assert len({person.base for person in company}) == len(company) == 4


def test_a_conversation_has_turns_pauses_and_overlaps(said, draw):
    company = list(said)
    sayings = conversations.script(company, said, 600.0, draw)
    assert {saying.person for saying in sayings} == set(company)
    assert 600 < max(saying.end for saying in sayings) / RATE < 640
    turns = conversations.turns_of(sayings, "x")
    end = round(turns[-1].end * 100) + 100
    active = np.zeros((end, 4), bool)
    for turn in turns:
        active[round(turn.start * 100) : round(turn.end * 100), [str(one) for one in company].index(turn.speaker)] = (
            True
        )
    several = active.sum(1)
    assert 0.02 < (several > 1).mean() < 0.25 and 0.05 < (several == 0).mean() < 0.4
    for person in company:  # nobody speaks twice at once
        own = sorted((saying.start, saying.end) for saying in sayings if saying.person is person)
        assert all(one[1] <= other[0] for one, other in pairwise(own))
    alone = conversations.script(company[:1], said, 60.0, draw)
    assert {saying.person for saying in alone} == {company[0]}


def test_turns_are_where_there_is_sound(said):
    ann, bob = list(said)[:2]
    silence = np.zeros(RATE, np.float32)
    sayings = [
        Saying(0, ann, np.concatenate([tone(1), silence, tone(1), silence[:1600], tone(1)])),
        Saying(RATE, bob, tone(2)),
    ]
    found = [
        (turn.start, turn.end, turn.speaker == str(bob).replace(" ", "_"))
        for turn in conversations.turns_of(sayings, "x")
    ]
    assert found == [(0.0, 1.0, False), (1.0, 3.0, True), (2.0, pytest.approx(4.1), False)]


def test_what_a_microphone_hears(said, random):
    ann, bob = list(said)[:2]
    sayings = [Saying(RATE, ann, tone(2, 300)), Saying(2 * RATE, bob, tone(3, 900))]
    for seed in range(6):  # with and without room and noise
        heard = conversations.mixed(sayings, random, Random(seed))
        assert heard.dtype == np.float32 and 5.2 <= len(heard) / RATE <= 6.0
        assert 0.2 < np.abs(heard).max() <= 0.9
        loud = np.square(heard[: 5 * RATE].reshape(5, RATE)).mean(1)
        assert loud[0] < 0.5 * loud[1:].min()


class Tone:
    """Says each text as a tone whose length is that of the text, with silence round it."""

    def __init__(self, seed):
        pass

    def __call__(self, voice, how, text, rate=RATE):
        silence = np.zeros(3000, np.float32)
        return np.concatenate([silence, tone(len(text) / 20), silence])


def test_a_town_is_the_same_each_time(tmp_path, everybody, monkeypatch):
    monkeypatch.setattr(conversations, "Speaker", Tone)
    monkeypatch.setattr(conversations, "CONVERSATIONS", 2)
    monkeypatch.setattr(conversations, "SECONDS", (5.0, 8.0))
    texts = ["ONE SENTENCE OR MORE", "ANOTHER ONE"]
    for name in ("a", "b"):
        conversations.town(tmp_path / name / "dev", 3, everybody["dev"], 2, texts, seed=1)
    files = [sorted((tmp_path / name).rglob("*.*")) for name in ("a", "b")]
    assert [path.name for path in files[0]] == ["dev-003-00.flac", "dev-003-01.flac", "003.rttm"]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    turns = read_rttm(files[0][2])
    assert {turn.recording for turn in turns} == {"dev-003-00", "dev-003-01"}
    for path in files[0][:2]:
        own = [turn for turn in turns if turn.recording == path.stem]
        assert max(turn.end for turn in own) <= len(load_audio(path)) / RATE
        assert 2 <= len({turn.speaker for turn in own}) <= 4


def test_a_corpus_is_completed(tmp_path, monkeypatch):
    made = []

    def town(folder, number, some, least, texts, seed):
        made.append((folder.name, number, least))
        conversations.write_flac(folder / "audio" / f"{folder.name}-{number}.flac", tone(2))
        conversations.write_rttm(folder / "towns" / f"{number:03d}.rttm", [conversations.Turn("x", 0.0, 1.0, "s")])

    class Now:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def submit(self, function, *arguments):
            town(*arguments)
            return self

        def result(self):
            pass

    monkeypatch.setattr(conversations, "ProcessPoolExecutor", Now)
    monkeypatch.setattr(conversations, "require", lambda voices: None)
    monkeypatch.setattr(conversations, "read_texts", lambda seed, exclusion: ["A TEXT"])
    conversations.make(tmp_path, 1.2, 0, 1, conversations.Exclusion([]))
    assert [one for one in made if one[0] != "train"] == [("dev", 0, 2), ("dev", 1, 2), ("test", 0, 2), ("test", 1, 2)]
    assert [one for one in made if one[0] == "train"] == [("train", 0, 1), ("train", 1, 1)]
    assert (tmp_path / "train" / "manifest.jsonl").read_text().count("\n") == 2
    assert len(read_rttm(tmp_path / "turns" / "dev.rttm")) == 2
    conversations.make(tmp_path, 1.8, 0, 1, conversations.Exclusion([]))
    assert made[6:] == [("train", 2, 1)]


def test_the_recipe_is_one_and_its_labels_say_who_speaks():
    recipe = read_recipe(RECIPE / "recipe.yaml")
    config = Wav2Vec2ConformerConfig.preset(
        recipe.model.preset, **recipe.model.config, id2label=dict(enumerate(recipe.data.labels))
    )
    assert SpeakerLabels.of(config).names == ("A", "B", "C")
    assert recipe.task == "frame" and recipe.data.crop_seconds == 10.0
