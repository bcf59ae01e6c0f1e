"""The product quantizer: its choice, its gradients and its perplexity."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch.nn import functional as F

from wavconformer.model.quantizer import GumbelVectorQuantizer, perplexity

from .builders import build, build_pair, noise
from .processes import usage

FEATURES = 14  # of the small models' feature encoder


def build_quantizer(**settings: int) -> GumbelVectorQuantizer:
    quantizer = build("ForPreTraining", **settings).quantizer
    assert isinstance(quantizer, GumbelVectorQuantizer)
    return quantizer


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_the_choice_and_its_gradients_agree_with_the_oracle(training: bool, groups: int) -> None:
    """In training both draw the same Gumbel noise of the same seed."""
    ours, oracle = build_pair("ForPreTraining", num_codevector_groups=groups)
    mask = torch.rand(2, 20, generator=torch.Generator().manual_seed(1)) < 0.5
    for counted in (None, mask):
        results = []
        for model in (ours, oracle):
            model.zero_grad()
            model.train(training).set_gumbel_temperature(0.7)
            features = noise(2, 20, FEATURES).requires_grad_()
            torch.manual_seed(3)
            codevectors, found_perplexity = model.quantizer(features, counted)[:2]
            (codevectors * noise(2, 20, 12, seed=2)).sum().backward()
            gradients = [parameter.grad for parameter in model.quantizer.parameters() if parameter.grad is not None]
            results.append([codevectors, found_perplexity, *([features.grad] if training else []), *gradients])
        for found, expected in zip(*results, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_eval_takes_the_likeliest_entry_of_each_codebook() -> None:
    quantizer = build_quantizer()
    codevectors, _, codes = quantizer(noise(2, 9, FEATURES), None)
    logits = quantizer.weight_proj(noise(2, 9, FEATURES)).view(2, 9, 2, 40)
    assert torch.equal(codes, logits.argmax(-1))
    codebooks = quantizer.codevectors.view(2, 40, 6)
    for group in range(2):
        assert torch.equal(codevectors[..., 6 * group : 6 * group + 6], codebooks[group][codes[..., group]])


def test_training_takes_whole_entries_too() -> None:
    quantizer = build_quantizer().train()
    codevectors, _, codes = quantizer(noise(2, 9, FEATURES), None)
    codebooks = quantizer.codevectors.view(2, 40, 6)
    expected = torch.cat([codebooks[group][codes[..., group]] for group in range(2)], -1)
    torch.testing.assert_close(codevectors, expected, rtol=0, atol=1e-6)


def test_gradients_go_straight_through_the_choice() -> None:
    """Forward the entry itself, backward the softmax of logits and noise, over the temperature."""
    quantizer = build_quantizer(num_codevector_groups=1).train()
    quantizer.temperature = 0.5
    features = noise(1, 4, FEATURES).requires_grad_()
    torch.manual_seed(0)
    codevectors, _, _ = quantizer(features, None)
    weights = noise(1, 4, 12, seed=1)
    (codevectors * weights).sum().backward()

    torch.manual_seed(0)
    gumbel = -torch.empty(1, 4, 40).exponential_().log()
    again = features.detach().clone().requires_grad_()
    soft = ((quantizer.weight_proj(again) + gumbel) / 0.5).softmax(-1)
    ((soft @ quantizer.codevectors[0]) * weights).sum().backward()
    torch.testing.assert_close(features.grad, again.grad)
    assert features.grad is not None
    assert features.grad.abs().max() > 0


def test_a_generator_repeats_the_noise() -> None:
    quantizer = build_quantizer().train()
    features = noise(2, 9, FEATURES)

    def codes(seed: int) -> torch.Tensor:
        found: torch.Tensor = quantizer(features, None, torch.Generator().manual_seed(seed))[2]
        return found

    state = torch.get_rng_state()
    assert torch.equal(codes(1), codes(1))
    assert not torch.equal(codes(1), codes(2))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_forward_hands_the_generator_on() -> None:
    model = build("ForPreTraining", mask_time_prob=0.01, mask_time_length=50).train()
    states = [
        model(noise(1, 6000), generator=torch.Generator().manual_seed(seed)).projected_quantized_states
        for seed in (1, 1, 2)
    ]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_heat_spreads_the_choice() -> None:
    """At a low temperature the gradient of the logits all but vanishes, as the softmax is nearly a choice."""
    steepness = []
    for temperature in (0.01, 2.0):
        quantizer = build_quantizer().train()
        quantizer.temperature = temperature
        features = noise(4, 9, FEATURES).requires_grad_()
        torch.manual_seed(0)
        soft_share = quantizer(features, None)[0].square().sum()
        soft_share.backward()
        assert features.grad is not None
        steepness.append((features.grad.abs() > 1e-6).float().mean())
    assert steepness[0] < steepness[1]


def test_the_temperature_is_set_and_checked() -> None:
    model = build("ForPreTraining")
    assert model.quantizer.temperature == 2.0
    model.set_gumbel_temperature(0.5)
    assert model.quantizer.temperature == 0.5
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="temperature"):
            model.set_gumbel_temperature(wrong)
    assert model.quantizer.temperature == 0.5


# --- perplexity


@hypothesis_settings(max_examples=50, deadline=None)
@given(
    batch=st.integers(1, 3),
    frames=st.integers(1, 12),
    groups=st.integers(1, 3),
    entries=st.integers(1, 8),
    sharpness=st.floats(0, 50),
    seed=st.integers(0, 999),
)
def test_perplexity_lies_between_groups_and_codes(
    batch: int, frames: int, groups: int, entries: int, sharpness: float, seed: int
) -> None:
    usage = (sharpness * noise(batch, frames, groups, entries, seed=seed)).softmax(-1)
    mask = noise(batch, frames, seed=seed + 1) > 0
    for counted in (None, mask if mask.any() else None):
        assert groups - 1e-3 <= perplexity(usage, counted).item() <= groups * entries + 1e-3
    if mask.any():
        torch.testing.assert_close(perplexity(usage, mask), perplexity(usage[mask][None], None))


def test_perplexity_of_collapse_and_of_equal_use() -> None:
    collapsed = F.one_hot(torch.zeros(1, 8, 2, dtype=torch.long), 4).float()
    assert perplexity(collapsed, None) == 2
    equal = F.one_hot(torch.arange(8).remainder(4)[None, :, None].expand(1, 8, 2), 4).float()
    torch.testing.assert_close(perplexity(equal, None), torch.tensor(8.0))
    torch.testing.assert_close(perplexity(equal, (torch.arange(8) < 2)[None]), torch.tensor(4.0))


@torch.no_grad()
def test_the_models_perplexity_counts_masked_real_frames() -> None:
    model = build("ForPreTraining")
    values = noise(2, 8000)
    attention_mask = (torch.arange(8000) < torch.tensor([[8000], [4000]])).long()
    chosen = torch.rand(2, 24, generator=torch.Generator().manual_seed(0)) < 0.5
    features = model.wav2vec2_conformer(values, attention_mask=attention_mask).extract_features
    real = torch.arange(24) < model.feature_lengths(attention_mask.sum(-1))[:, None]
    for arguments, counted in (({}, real), ({"mask_time_indices": chosen}, chosen & real)):
        found = model(values, attention_mask=attention_mask, **arguments).codevector_perplexity
        torch.testing.assert_close(found, model.quantizer(features[counted][None], None)[1])


def test_a_codebook_that_has_collapsed_has_gradients_still() -> None:
    """Entries whose probability is 0 in float32: x log x has an infinite slope there."""
    scores = torch.zeros(1, 3, 1, 4)
    scores[..., 0] = 200.0
    scores.requires_grad_()
    found = perplexity(scores.softmax(-1), None)
    found.backward()
    assert found.item() == 1.0
    assert scores.grad is not None and scores.grad.isfinite().all()


def test_two_processes_have_one_perplexity(tmp_path) -> None:
    """That of all frames, and its gradient, though each has another number of masked frames."""
    scores = 3 * torch.randn(2, 1, 6, 2, 5, generator=torch.Generator().manual_seed(0))
    mask = torch.rand(2, 1, 6, generator=torch.Generator().manual_seed(1)) < 0.6
    torch.save((scores, mask), tmp_path / "usage.pt")
    processes = torch.multiprocessing.spawn(usage, (tmp_path,), nprocs=2, join=False)
    try:
        assert processes.join(timeout=60) or processes.join(timeout=60), "the two processes wait for each other"
    finally:
        for process in processes.processes:
            process.kill()
    whole = scores.flatten(0, 1).requires_grad_()
    wanted = perplexity(whole.softmax(-1), mask.flatten(0, 1))
    wanted.backward()
    assert whole.grad is not None
    for rank in range(2):
        found, gradient = torch.load(tmp_path / f"usage.{rank}.pt")
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(gradient, whole.grad[rank : rank + 1])
