from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from tests.training.synthetic import SHAPE
from torch import nn

from wavconformer import Wav2Vec2ConformerConfig, Wav2Vec2ConformerForCTC
from wavconformer.training.optimization import MovingAverage, parameter_groups, rate
from wavconformer.training.recipe import Schedule, read_recipe
from wavconformer.training.starting import CLASSES

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


def rates(kind: str, steps: int = 101, **settings: float) -> list[float]:
    schedule = Schedule(kind=kind, **{"warmup": 0.1, "hold": 0.4} | settings)  # type: ignore[arg-type]
    return [rate(schedule, step, steps) for step in range(steps)]


@pytest.mark.parametrize("kind", ["tri_stage", "polynomial", "cosine"])
def test_up_hold_down(kind):
    found = rates(kind, initial=0.01, final=0.05)
    assert found[0] == pytest.approx(0.01)
    assert found[-1] == pytest.approx(0.05)
    assert all(a < b for a, b in itertools.pairwise(found[:11]))
    assert found[11:51] == [1.0] * 40
    assert all(a > b for a, b in itertools.pairwise(found[51:]))


def test_the_ways_down():
    middle = 75  # about half of the way from 50.5 to 100
    progress = (middle - 50.5) / 49.5
    assert rates("tri_stage", final=0.05)[middle] == pytest.approx(0.05**progress)
    assert rates("polynomial", final=0.0, power=2.0)[middle] == pytest.approx((1 - progress) ** 2)
    assert rates("cosine", final=0.0)[middle] == pytest.approx((1 + math.cos(math.pi * progress)) / 2)
    assert rates("constant")[12:] == [1.0] * 89
    assert rates("polynomial", warmup=0.0, hold=0.0, final=0.0)[0] == 1.0
    assert all(0 < value <= 1 for value in rates("tri_stage", steps=1, warmup=0.5, hold=0.5))


def test_norms_and_biases_never_decay():
    model = Wav2Vec2ConformerForCTC(Wav2Vec2ConformerConfig(**SHAPE, vocab_size=8))
    model.freeze_feature_encoder()
    decaying, others = parameter_groups(model, 0.1)
    names = {value: name for name, value in model.named_parameters()}
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    told = {names[value] for value in others["params"]}
    assert {"wav2vec2_conformer.encoder.layers.0.self_attn.pos_bias_u", "lm_head.bias"} <= told
    assert "wav2vec2_conformer.encoder.layers.1.conv_module.batch_norm.weight" in told
    assert "lm_head.weight" in {names[value] for value in decaying["params"]}
    given = {names[value] for group in (decaying, others) for value in group["params"]}
    assert given == {name for name, value in model.named_parameters() if value.requires_grad}


def test_a_moving_average_follows():
    model = nn.BatchNorm1d(2)
    average = MovingAverage(model, 0.5)
    for _ in range(200):
        model.weight.data.fill_(3.0)
        average.update(model)
    with average.in_place_of(model):
        torch.testing.assert_close(model.weight.data, torch.full((2,), 3.0))
        model.weight.data.fill_(9.0)
    assert model.weight.data.tolist() == [3.0, 3.0]
    first = MovingAverage(model, 0.999)
    model.weight.data.fill_(4.0)
    first.update(model)  # at first it follows quickly: decay 2 / 11
    torch.testing.assert_close(first.tensors["weight"], torch.full((2,), 3.0 + 9 / 11))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_that_ship_can_be_read(path):
    recipe = read_recipe(path)
    config = Wav2Vec2ConformerConfig.preset(recipe.model.preset, **recipe.model.config, vocab_size=32)
    with torch.device("meta"):
        if recipe.model.init is None:
            CLASSES[recipe.task](config)
    assert "not run here" in path.read_text()


def test_there_are_recipes():
    assert {"pretrain-base", "pretrain-large", "finetune-100h", "finetune-960h"} <= {path.stem for path in RECIPES}
