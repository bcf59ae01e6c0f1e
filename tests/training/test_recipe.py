from __future__ import annotations

import dataclasses
import re
from typing import get_type_hints

import pytest

from wavconformer.errors import ConfigError
from wavconformer.training import recipe as recipes
from wavconformer.training.recipe import Optim, Recipe, read_recipe, write_recipe
from wavconformer.training.sections import Section, plain, read_section


@pytest.fixture
def write(tmp_path):
    def call(text: str):
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return call


def sections(kind: type[Section] = Recipe):
    yield kind
    for inner in get_type_hints(kind).values():
        if isinstance(inner, type) and issubclass(inner, Section):
            yield from sections(inner)


# --- reading


def test_an_empty_file_is_all_defaults(write):
    assert read_recipe(write("")) == Recipe()
    assert read_recipe(write("model:\n  config:\n")) == Recipe()  # headings with nothing under them


def test_values_land_in_their_sections(write):
    recipe = read_recipe(
        write(
            """
task: sequence
data: {train: one, valid: [two, three], crop_seconds: 5}
model:
  config: {hidden_size: 64, conv_dim: [8, 8]}
  lora: {rank: 4}
augmentation: {speed: [0.9, 1, 1.1], noise_snr_db: [0, 10]}
schedule:
"""
        )
    )
    assert recipe.task == "sequence"
    assert recipe.data.train == ("one",)
    assert recipe.data.valid == ("two", "three")
    assert recipe.data.crop_seconds == 5.0
    assert recipe.model.config == {"hidden_size": 64, "conv_dim": [8, 8]}
    assert recipe.model.lora.rank == 4
    assert recipe.augmentation.speed == (0.9, 1.0, 1.1)
    assert recipe.schedule == recipes.Schedule()


@pytest.mark.parametrize("text", ["3e-4", "0.0003", "3.0e-4", "'3e-4'"])
def test_numbers_that_yaml_reads_as_text_are_numbers(write, text):
    assert read_recipe(write(f"optim: {{lr: {text}}}")).optim.lr == 3e-4
    assert read_recipe(write(""), [f"optim.lr={text}"]).optim.lr == 3e-4


def test_whole_numbers_may_have_an_exponent(write):
    recipe = read_recipe(write(""), ["trainer.max_steps=4e5"])
    assert recipe.trainer.max_steps == 400_000
    assert type(recipe.trainer.max_steps) is int


def test_overrides_stand_over_the_file_and_the_last_one_counts(write):
    path = write("trainer: {max_steps: 5, seed: 3}\nmodel: {config: {hidden_size: 8}}")
    recipe = read_recipe(
        path,
        [
            "trainer.max_steps=6",
            "trainer.max_steps=7",
            "model.config.num_hidden_layers=2",
            "data.train=[a, b]",
            "model.init=null",
            "trainer.gradient_checkpointing=true",
        ],
    )
    assert (recipe.trainer.max_steps, recipe.trainer.seed) == (7, 3)
    assert recipe.model.config == {"hidden_size": 8, "num_hidden_layers": 2}
    assert recipe.data.train == ("a", "b")
    assert recipe.trainer.gradient_checkpointing is True


# --- refusing


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim: {lrr: 1}", "optim.lrr is no setting. Did you mean optim.lr?"),
        ("optin: {lr: 1}", "optin is no setting. Did you mean optim?"),
        ("max_steps: 5", "max_steps is no setting. Did you mean trainer.max_steps?"),
        ("optim: {qqq: 1}", "optim.qqq is no setting. There are optim.name, optim.lr, "),
        ("optim: {lr: fast}", "optim.lr must be a number, not 'fast'."),
        ("optim: {lr: true}", "optim.lr must be a number, not true."),
        ("optim: {lr: }", "optim.lr must be a number, not nothing."),
        ("optim: {lr: .nan}", "optim.lr is nan: give a finite number."),
        ("optim: {lr: 0}", "optim.lr is 0.0, but must be more than 0."),
        ("optim: 5", "optim must be a section of settings, not 5."),
        ("optim: {betas: [0.9]}", "optim.betas must be a list of 2 values, not [0.9]."),
        ("optim: {betas: [0.9, x]}", "optim.betas[1] must be a number, not 'x'."),
        ("trainer: {max_steps: 1.5}", "trainer.max_steps must be a whole number, not 1.5."),
        ("trainer: {max_steps: 0}", "trainer.max_steps is 0, but must be at least 1."),
        ("trainer: {gradient_checkpointing: 1}", "trainer.gradient_checkpointing must be true or false, not 1."),
        ("trainer: {pretraining: {temprature: 1}}", "Did you mean trainer.pretraining.temperature?"),
        ("task: ctcc", "task must be one of ctc, sequence, frame, xvector, pretrain, not 'ctcc'. Did you mean ctc?"),
        ("model: {adapter: no}", "model.adapter must be text, not false: put it in quotes."),
        ("data: {train: [2024_01]}", "data.train[0] must be text, not 202401: put it in quotes."),
        ("logging: {folder: }", "logging.folder must be text, not nothing."),
        ("model: {config: 3}", "model.config must be a section of settings, not 3."),
        ("augmentation: {speed: [0.9, 3]}", "augmentation.speed is 3.0, but must be at most 2."),
        ("augmentation: {noise_snr_db: [9, 1]}", "augmentation.noise_snr_db is [9.0, 1.0]: the lower end comes first."),
        ("{task: frame, augmentation: {silence_seconds: [0, 1]}}", "moves speech away from its turns"),
        (
            "{task: sequence, data: {silence_db: 40}}",
            "data.silence_db says where text isn't: not for",
        ),
        ("{task: xvector, augmentation: {join_probability: 0.1}}", "joins texts: not for the task xvector."),
        ("schedule: {warmup: 0.7, hold: 0.5}", "together more than the run"),
        ("schedule: {kind: tri_stage, final: 0}", "schedule.final is 0, but tri_stage falls by a factor"),
        ("data: {labels: [a, b, a]}", "data.labels has a more than once"),
        (f"trainer: {{seed: {10**30}}}", "trainer.seed is 1000000000000000000000000000000, but must be at most 1e+15."),
        (f"model: {'[' * 5000}", "is nested too deeply to be read."),
        ("data: {crop_seconds: 3}", "data.crop_seconds cuts audio without its text"),
        ("data: {max_seconds: 99}", "data.max_seconds is 99, but a batch holds trainer.batch_seconds=60"),
        ("data: {min_seconds: 40}", "data.min_seconds is 40, more than the longest, 30."),
        ("model: {adapter: fra, lora: {rank: 2}}", "choose one"),
        ("optim: {lr: 1, lr: 2}", "line 1: 'lr' is given twice."),
        ("optim: {lr: 1", "is no valid YAML"),
        ("- a", "must hold settings by name, not list."),
    ],
)
def test_what_is_wrong_is_told_by_its_dotted_name(write, text, message):
    path = write(text)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        read_recipe(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lr", "'optim.lr' is no override"),
        ("=3", "'=3' is no override"),
        ("optim..lr=3", "is no override"),
        ("optim.lr.x=3", "optim.lr.x can't be set: optim.lr is no section, but 1."),
        ("optim.lr=[1", "The override 'optim.lr=[1' is no valid YAML"),
        ("optm.lr=3", "optm is no setting. Did you mean optim?"),
    ],
)
def test_bad_overrides_are_refused(write, override, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_recipe(write("optim: {lr: 1}"), [override])


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml' can't be read"):
        read_recipe(tmp_path / "none.yaml")


def test_a_section_made_by_hand_has_the_same_limits():
    with pytest.raises(ConfigError, match=r"lr is -1, but must be more than 0"):
        Optim(lr=-1)


# --- writing


def test_what_is_written_reads_back_the_same(write, tmp_path):
    recipe = read_recipe(
        write("data: {train: [a]}\nmodel: {config: {conv_dim: [8, 9], feat_extract_norm: layer}}"),
        ["optim.eps=1e-6", "augmentation.volume_db=[-3, 3]", "trainer.ema=0.999"],
    )
    path = write_recipe(recipe, tmp_path / "run")
    assert path == tmp_path / "run" / "recipe.yaml"
    assert read_recipe(path) == recipe
    assert "eps: 1.0e-06" in path.read_text(encoding="utf-8")


def test_defaults_read_back_as_plain_values():
    assert read_section(Recipe, plain(Recipe())) == Recipe()


# --- the tree itself


@pytest.mark.parametrize("kind", list(sections()), ids=lambda kind: kind.__name__)
def test_every_field_has_a_default_and_a_docstring(kind):
    import inspect

    kind()
    source = inspect.getsource(kind)
    for one in dataclasses.fields(kind):
        after = re.search(rf"^    {one.name}: .*?\n    \"\"\"", source, re.MULTILINE | re.DOTALL)
        assert after is not None and "\n\n" not in after.group(), one.name
