"""Pretraining: it runs, its terms are what they are said to be, and it can be taken up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.training.synthetic import recipe_of

import wavconformer
from wavconformer import ConfigError
from wavconformer.training.finetune import finetune
from wavconformer.training.loop import Loop
from wavconformer.training.metrics import read_metrics
from wavconformer.training.objectives import Contrastive, _told_right, scale_gradient
from wavconformer.training.pretrain import Pretrain, pretrain
from wavconformer.training.recipe import Pretraining
from wavconformer.training.validation import code_perplexity

MASKS = {"mask_time_prob": 0.5, "mask_time_length": 4}


def recipe(tones, folder, **settings):
    given = {"max_steps": 12, "batch_seconds": 8.0, "valid": True, "lr": 1e-3} | settings
    config = given.pop("config", MASKS)
    return recipe_of(tones, folder, task="pretrain", config=config, **given)


def test_it_learns_and_can_be_fine_tuned_from(tones, tmp_path):
    outcome = pretrain(recipe(tones, tmp_path / "pre", max_steps=60, lr=3e-3, eval_every=30))
    lines = [line for line in read_metrics(tmp_path / "pre") if line["kind"] == "train"]
    assert np.mean([line["contrastive"] for line in lines[-5:]]) < 0.8 * lines[0]["contrastive"]
    assert 0.0 < lines[-1]["accuracy"] <= 1.0
    assert all(2.0 <= line["perplexity"] <= 16.0 for line in lines)
    assert {"diversity", "penalty", "temperature"} <= lines[0].keys()
    assert set(outcome.scores) >= {"loss", "contrastive", "accuracy", "perplexity", "utterances"}
    card = (outcome.model / "README.md").read_text()
    assert "to be fine-tuned" in card
    wavconformer.Wav2Vec2ConformerForPreTraining.from_pretrained(outcome.model)
    tuned = finetune(recipe_of(tones, tmp_path / "tuned", init=str(outcome.model), max_steps=2, lr=1e-9))
    before, after = (load_file(folder / "model.safetensors") for folder in (outcome.model, tuned.model))
    name = "wav2vec2_conformer.encoder.layers.0.ffn1.output_dense.weight"
    assert torch.allclose(before[name], after[name], atol=1e-6)
    assert "quantizer.codevectors" not in after and "lm_head.weight" in after


def test_taken_up_again_it_ends_as_if_unbroken(tones, tmp_path):
    pretrain(recipe(tones, tmp_path / "whole"))
    pretrain(recipe(tones, tmp_path / "broken", max_steps=12, save_every=5))
    for path in (tmp_path / "broken").glob("checkpoint-000012"):
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    pretrain(recipe(tones, tmp_path / "broken", save_every=5), resume=True)
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_temperature_falls_to_its_least(tones, tmp_path):
    settings = Pretraining(temperature=(2.0, 0.5), temperature_decay=0.5, watch_after=99)
    pretrain(recipe(tones, tmp_path, max_steps=4, pretraining=settings))
    lines = [line for line in read_metrics(tmp_path) if line["kind"] == "train"]
    assert [line["temperature"] for line in lines] == [2.0, 1.0, 0.5, 0.5]


def gradients(tones, folder, **settings) -> tuple[dict[str, torch.Tensor], Contrastive]:
    """The gradients of one batch, without dropout's or Gumbel's randomness between calls."""
    loop = Loop(recipe(tones, folder, pretraining=Pretraining(**settings)), Pretrain())
    assert isinstance(loop.objective, Contrastive)
    batch = next(iter(loop.batches))
    torch.manual_seed(0)
    sums, _ = loop.objective(batch.inputs)
    loop.objective.total(sums, loop.objective.counts(batch.inputs)).backward()
    found = {name: value.grad for name, value in loop.model.named_parameters() if value.grad is not None}
    return found, loop.objective


def test_gradients_of_the_feature_encoder_are_scaled(tones, tmp_path):
    whole, _ = gradients(tones, tmp_path / "a", feature_gradient=1.0)
    tenth, _ = gradients(tones, tmp_path / "b", feature_gradient=0.1)
    inner = "wav2vec2_conformer.feature_extractor."
    assert any(name.startswith(inner) for name in whole)
    for name, gradient in whole.items():
        factor = 0.1 if name.startswith(inner) else 1.0
        torch.testing.assert_close(tenth[name], factor * gradient, rtol=1e-4, atol=1e-7)
    x = torch.ones(3, requires_grad=True)
    scale_gradient(x, 0.25).sum().backward()
    assert x.grad.tolist() == [0.25] * 3


def test_the_penalty_is_the_mean_square_of_real_frames(tones, tmp_path):
    loop = Loop(recipe(tones, tmp_path), Pretrain())
    batch = next(iter(loop.batches))
    inputs = {key: value.clone() for key, value in batch.inputs.items()}
    features = loop.model.wav2vec2_conformer.feature_extractor(inputs["input_values"], None)
    sums, _ = loop.objective(inputs)
    counts = loop.objective.counts(inputs)
    assert counts["frames"] == features.shape[0] * features.shape[1]
    assert counts["masked"] == inputs["mask_time_indices"].sum()
    assert (sums["penalty"] / counts["frames"]).item() == pytest.approx(features.square().mean().item(), rel=1e-4)


def test_who_is_told_right():
    codes = torch.tensor([[[0, 0], [1, 0], [0, 0], [2, 2]]])  # (1, 4, 2)
    masked = torch.tensor([[True, True, True, True]])
    negatives = torch.tensor([[[1, 2], [0, 2], [0, 0], [0, 1]]])
    logits = torch.tensor([[3.0, 1.0, 9.0, 1.0], [2.0, 2.0, 9.0, 1.0], [9.0, 0.0, 9.0, 0.0]])[:, None]
    # Frame 0 beats frame 1, and frame 2 has its codes; 1 doesn't; 2 has no distractor; 3 ties.
    assert _told_right(logits, codes, masked, negatives).item() == 1


def test_perplexity_of_hard_codes():
    assert code_perplexity(np.array([[5, 0, 0, 0], [1, 1, 1, 1]])) == pytest.approx(1 + 4)


def test_masks_must_not_be_ignored(tones, tmp_path):
    with pytest.raises(ConfigError, match="apply_spec_augment must be true"):
        pretrain(recipe(tones, tmp_path, config=MASKS | {"apply_spec_augment": False}))
    with pytest.raises(ConfigError, match="wavconformer finetune"):
        pretrain(recipe_of(tones, tmp_path))
