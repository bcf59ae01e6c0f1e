"""The words, clips and noises of the recipe keywords, and its packing; no synthesiser is needed."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from tests.recipes.scripts import RECIPES, load

from wavconformer.data.corpus import Corpus
from wavconformer.data.utterance import load_utterance
from wavconformer.training.recipe import read_recipe

RECIPE = RECIPES / "keywords"
RATE = 16_000


corpus = load("keywords", "corpus")

import parts  # noqa: E402
import words  # noqa: E402


class Tone:
    """Says each text as a tone, silence round it, whose length is that of the text."""

    def __init__(self, seed):
        pass

    def __call__(self, voice, how, text):
        tone = np.sin(np.arange(len(text) * 1600) * 0.1).astype(np.float32)
        return np.concatenate([np.zeros(4000, np.float32), tone, np.zeros(6000, np.float32)])


# --- words


def test_no_word_is_in_two_places():
    pools = (words.KEYWORDS, words.NEAR, words.NEAR_UNHEARD, words.FAR, words.FAR_UNHEARD)
    counted = Counter(word for pool in pools for word in pool)
    assert [word for word, count in counted.items() if count > 1] == []
    assert len(words.KEYWORDS) >= 20
    assert words.LABELS[-2:] == ("unknown", "silence")


def test_what_sounds_like_a_keyword_is_no_other_word():
    same = {"know", "write", "wright", "won", "to", "too", "for", "fore", "ate", "paws", "knight", "nein", "sicks"}
    assert not same & {*words.NEAR, *words.NEAR_UNHEARD, *words.FAR, *words.FAR_UNHEARD}


# --- the script


def test_unheard_voices_and_words_are_only_in_the_tests():
    script = corpus.Script(0)
    heard = [*script.training(30), *script.sets["valid"]]
    tests = {name: lines for name, lines in script.sets.items() if name.startswith("test-")}
    unheard = {str(line.voice) for lines in tests.values() for line in lines}
    assert unheard == {str(voice) for voice in corpus.UNHEARD}
    assert not unheard & {str(line.voice) for line in heard}
    trained = {word for line in heard if line.label == "unknown" and not line.is_cut for word in line.text.split()}
    tested = {
        word for lines in tests.values() for line in lines if line.label == "unknown" for word in line.text.split()
    }
    assert not trained & tested
    assert {name for name, lines in tests.items() if any(line.condition for line in lines)} == {"test-noise-10db"}


def test_no_voice_of_the_tests_has_a_sister_in_training():
    for voice in corpus.TRAINING:
        assert not (voice.engine == "flite" and voice.name.startswith("rms"))
        assert voice.engine != "piper"
        assert not any(part in voice.name for part in ("klatt", "Andrea", "nyc"))


def test_each_label_has_its_share_and_more_examples_begin_with_the_same():
    fewer, more = (corpus.Script(3).training(count) for count in (20, 60))
    assert more[: len(fewer)] == fewer
    assert len(fewer) % parts.PART == 0
    counted = Counter(line.label for line in fewer)
    assert set(counted) == set(words.LABELS)
    assert min(counted[word] for word in words.KEYWORDS) >= 20
    assert counted["unknown"] > 5 * counted["yes"]
    assert corpus.Script(4).training(20) != fewer


# --- clips


def test_a_word_is_put_somewhere_whole(random):
    spoken = Tone(0)(None, None, "seven")
    places = set()
    for _ in range(20):
        clip = corpus.placed(spoken, random)
        assert clip.dtype == np.float32
        assert 0.9 <= len(clip) / RATE <= 1.3
        loud = np.flatnonzero(np.abs(clip) > 0.1)
        assert loud[-1] - loud[0] == pytest.approx(8000, abs=100)
        places.add(int(loud[0]))
    assert len(places) > 10


def test_of_a_word_that_is_cut_less_than_half_is_at_an_edge(random):
    spoken = Tone(0)(None, None, "seven")
    sides = set()
    for _ in range(20):
        loud = np.flatnonzero(np.abs(clip := corpus.placed(spoken, random, is_cut=True)) > 0.1)
        assert loud[-1] - loud[0] < 5000
        sides.add("end" if loud[-1] > len(clip) - 300 else "beginning" if loud[0] < 600 else "middle")
    assert sides == {"end", "beginning"}


def test_cut_keywords_are_unknown_and_only_in_training():
    script = corpus.Script(0)
    cut = [line for line in script.training(30) if line.is_cut]
    assert {line.label for line in cut} == {"unknown"}
    assert {line.text for line in cut} <= set(words.KEYWORDS)
    assert not [line for lines in script.sets.values() for line in lines if line.is_cut]


def test_voices_are_made_higher_and_lower_in_training_alone():
    script = corpus.Script(0)
    shifts = [line.shift for line in script.training(10)]
    assert 0.8 <= min(shifts) < 0.85 and 1.2 < max(shifts) <= 1.25
    assert {line.shift for name, lines in script.sets.items() if name != "valid" for line in lines} == {1.0}


def test_a_microphone_changes_the_colour_and_no_more(random):
    noise = random.standard_normal(RATE).astype(np.float32)
    heard = [corpus.microphone(noise, random) for _ in range(10)]
    power = [[np.square(np.abs(np.fft.rfft(one)))[low : low + 500].mean() for low in (100, 6000)] for one in heard]
    assert all(one.shape == noise.shape and one.dtype == np.float32 for one in heard)
    assert np.ptp([10 * np.log10(low / high) for low, high in power]) > 3


def test_of_several_words_a_part_is_heard(random):
    clip = corpus.placed(Tone(0)(None, None, "some other words that take long"), random)
    assert 0.9 <= len(clip) / RATE <= 1.3


def test_a_long_word_makes_its_clip_longer(random):
    assert len(corpus.placed(Tone(0)(None, None, "temperatures.."), random)) >= 14 * 1600


def test_silence_is_nothing_or_noise(random):
    peaks = [np.abs(corpus.silence(random)).max() for _ in range(60)]
    assert min(peaks) == 0
    assert max(peaks) > 0.1


def test_noises_that_are_kept_for_the_tests(random):
    noises = [corpus.unheard_noise(RATE, random) for _ in range(12)]
    assert all(noise.shape == (RATE,) and np.isfinite(noise).all() and np.abs(noise).max() > 0.01 for noise in noises)


# --- packing


def test_parts_become_a_corpus_that_the_trainer_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "Speaker", Tone)
    lines = [line for line in corpus.Script(0).sets["test-noise-10db"] if line.label in ("yes", "silence")]
    folders = tmp_path / "a" / "set", tmp_path / "b" / "set"
    for folder in folders:
        corpus._make_part(folder, 0, lines, seed=0)
        parts.finish(folder, 1)
    opened = Corpus.open(folders[0])
    assert [(one.label, one.text or "") for one in opened] == [(line.label, line.text) for line in lines]
    for one in opened:
        samples = load_utterance(one)
        assert 0.9 <= len(samples) / RATE <= 1.31
        assert 0.05 < np.abs(samples).max() < 0.95
    assert (folders[0] / "audio.000000.tar").read_bytes() == (folders[1] / "audio.000000.tar").read_bytes()
    report = corpus._report(folders[0] / "manifest.jsonl")
    assert report["clips"] == len(lines)
    assert report["labels"] == {"yes": 8, "silence": 24}


def test_soft_silence_stays_soft(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "Speaker", Tone)
    monkeypatch.setattr(corpus, "silence", lambda random_: np.full(RATE, 1e-3, np.float32))
    lines = [line for line in corpus.Script(0).sets["valid"] if line.label == "silence"][:1]
    corpus._make_part(tmp_path, 0, lines, seed=0)
    parts.finish(tmp_path, 1)
    assert np.abs(load_utterance(Corpus.open(tmp_path)[0])).max() == pytest.approx(1e-3, rel=0.05)


# --- the recipe


def test_the_recipe_names_the_labels_in_their_order():
    recipe = read_recipe(RECIPE / "recipe.yaml")
    assert recipe.task == "sequence"
    assert recipe.data.labels == words.LABELS


def test_the_shipped_model_is_of_this_recipe():
    from wavconformer.files import ASSETS

    config = json.loads((ASSETS / "keywords" / "config.json").read_text())
    recipe = read_recipe(RECIPE / "recipe.yaml")
    assert [config["id2label"][str(number)] for number in range(len(words.LABELS))] == list(words.LABELS)
    assert config["conv_stride"] == recipe.model.config["conv_stride"]
    assert config["hidden_size"] == recipe.model.config["hidden_size"]
