from __future__ import annotations

import copy
import itertools
import math
from pathlib import Path

import pytest
import torch
from tests.training.synthetic import SHAPE
from torch import nn

from wavconformer import Wav2Vec2ConformerConfig, Wav2Vec2ConformerForCTC
from wavconformer.training.optimization import (
    MovingAverage,
    Muon,
    make_optimizer,
    orthogonalised,
    parameter_groups,
    rate,
)
from wavconformer.training.recipe import Optim, Schedule, read_recipe
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


@pytest.mark.parametrize("shape", [(3, 24, 64), (2, 64, 24), (1, 32, 32)])
def test_orthogonalised_matrices_keep_their_directions(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1e-4
    u, values, v = torch.linalg.svd(x, full_matrices=False)
    made = u.mT @ orthogonalised(x) @ v.mT  # in the directions of x
    seen = made.diagonal(dim1=1, dim2=2)[values / values.amax(1, keepdim=True) > 0.1]
    assert 0.6 < seen.min() <= seen.max() < 1.3
    assert (made - torch.diag_embed(made.diagonal(dim1=1, dim2=2))).abs().max() < 0.05  # bfloat16
    assert orthogonalised(torch.zeros(1, 4, 8)).abs().max() == 0


def test_a_step_of_muon_is_as_its_formula():
    start, gradient = torch.randn(2, 16, 48, generator=torch.Generator().manual_seed(0))
    matrix, still = nn.Parameter(start[..., None].clone()), nn.Parameter(torch.ones(4, 4))
    optimizer = Muon([matrix, still], lr=0.1, weight_decay=0.5)
    mean = torch.zeros_like(gradient)
    expected = start
    for factor in (1.0, -3.0):
        matrix.grad = factor * gradient[..., None]
        optimizer.step()
        mean = 0.95 * mean + 0.05 * factor * gradient
        ahead = 0.05 * factor * gradient + 0.95 * mean
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * 0.2 * 48**0.5 * orthogonalised(ahead[None])[0]
        torch.testing.assert_close(matrix[..., 0].detach(), expected)
    assert torch.equal(still, torch.ones(4, 4))


def test_muon_takes_the_encoders_matrices_and_adamw_the_rest():
    model = Wav2Vec2ConformerForCTC(Wav2Vec2ConformerConfig(**SHAPE, vocab_size=8))
    optimizer = make_optimizer(model, Optim(name="muon"))
    names = {value: name for name, value in model.named_parameters()}
    groups = [[names[value] for value in group["params"]] for group in optimizer.param_groups]
    assert sorted(itertools.chain(*groups)) == sorted(names.values())
    matrices = {name.removeprefix("wav2vec2_conformer.encoder.layers.0.") for name in groups[0] if ".layers.0." in name}
    assert matrices == {
        *(f"ffn{number}.{part}_dense.weight" for number in (1, 2) for part in ("intermediate", "output")),
        *(f"self_attn.linear_{part}.weight" for part in ("q", "k", "v", "out", "pos")),
        *(f"conv_module.pointwise_conv{number}.weight" for number in (1, 2)),
    }


def test_muon_goes_on_from_a_saved_state():
    def learn(optimizer: torch.optim.Optimizer, model: nn.Module, steps: int) -> None:
        for step in range(steps):
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * (step + 1)
            sum(((value - 1) ** 2).sum() for value in model.parameters()).backward()
            optimizer.step()

    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(Wav2Vec2ConformerForCTC(Wav2Vec2ConformerConfig(**SHAPE, vocab_size=8)))
    unbroken = make_optimizer(models[0], Optim(name="muon"))
    learn(unbroken, models[0], 2)
    models[1].load_state_dict(models[0].state_dict())
    resumed = make_optimizer(models[1], Optim(name="muon"))
    resumed.load_state_dict(copy.deepcopy(unbroken.state_dict()))
    learn(unbroken, models[0], 2)
    learn(resumed, models[1], 2)
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(models[0].lm_head.bias, torch.zeros(8))


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
