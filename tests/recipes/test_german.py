"""The script of the recipe german; no synthesiser is needed."""

from __future__ import annotations

import pytest
from tests.recipes.scripts import RECIPES, load

from wavconformer.errors import DataError
from wavconformer.training.recipe import read_recipe

RECIPE = RECIPES / "german"

corpus = load("german", "corpus")


@pytest.fixture
def many(monkeypatch):
    """Sentences that need no package of Debian's."""
    monkeypatch.setattr(corpus, "sentences", lambda seed: [f"das ist satz {number}" for number in range(1000)])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Die Frau ging, als der Mann kam, nach Hause.", ["die frau ging", "als der mann kam"]),
        ("Wer „übt gern Größe“, der weiß es", ["übt gern größe", "der weiß es"]),
        ("Das kostet 5 Mark im Jahr", []),
        ("Die GmbH hat kein Geld", []),
        ("zwei Wörter", []),
        ("Ein Satz, der\nüber Zeilen geht", ["der über zeilen geht"]),
    ],
)
def test_clauses_are_read_as_they_are_written(text, found):
    assert list(corpus.clauses(text)) == found


def test_sayings_are_told_apart_and_given_once(tmp_path):
    (tmp_path / "witze").write_text("Das ist ein Witz\n%\nDas ist ein Witz\n%\nEs war einmal\n")
    (tmp_path / "asciiart").write_text("das ist ein bild\n")
    (tmp_path / "witze.dat").write_text("das ist kein text\n")
    assert sorted(corpus.sentences(0, tmp_path)) == ["das ist ein witz", "es war einmal"]
    with pytest.raises(DataError, match="apt-get install fortunes-de"):
        corpus.sentences(0, tmp_path / "none")


def test_sets_share_no_sentence_and_the_unheard_no_voice(many):
    sets = corpus.script(0, 0.2)
    texts = {name: {line.text for line in lines} for name, lines in sets.items()}
    assert not texts["train"] & (texts["valid"] | texts["test-unheard"])
    assert not texts["valid"] & texts["test-unheard"]
    assert {line.voice for line in sets["test-unheard"]} == set(corpus.UNHEARD)
    assert {line.voice for line in sets["train"]} == set(corpus.VOICES)
    assert sets == corpus.script(0, 0.2) != corpus.script(1, 0.2)
    longer = corpus.script(0, 0.4)["train"]
    assert longer[: len(sets["train"])] == sets["train"] and len(longer) > 1.8 * len(sets["train"])


def test_too_few_sentences_are_told(monkeypatch):
    monkeypatch.setattr(corpus, "sentences", lambda seed: ["das ist satz"] * 300)
    with pytest.raises(DataError, match="only 300 sentences"):
        corpus.script(0, 1.0)


@pytest.mark.parametrize("name", ["lora", "adapter"])
def test_recipes_can_be_read(name):
    recipe = read_recipe(RECIPE / f"{name}.yaml")
    assert recipe.model.init == "tiny-en"
    assert bool(recipe.model.lora.rank) == (name == "lora")
