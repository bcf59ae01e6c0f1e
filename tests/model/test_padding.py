"""What an utterance gives in a padded batch is what it gives alone, in ours and in the oracle."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wavconformer import compute_mask_indices, sample_negative_indices
from wavconformer.model.feature_encoder import NormOverTime
from wavconformer.model.lengths import least_adapter_frames, least_samples, least_tdnn_frames, masked_mean, masked_std

from .builders import CLASSES, NORMS, POSITIONS, WITH_ADAPTER, WITH_LAYER_SUM, build, build_pair, noise, pad

pytestmark = pytest.mark.usefixtures("paths")

TOLERANCE = 1e-4
VARIANTS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "plain": (CLASSES, {}),
    "adapter": (WITH_ADAPTER, {"add_adapter": True, "adapter_kernel_size": 3}),
    "wide-adapter": (WITH_ADAPTER, {"add_adapter": True, "adapter_kernel_size": 5, "output_hidden_size": 24}),
    "layer-sum": (WITH_LAYER_SUM, {"use_weighted_layer_sum": True}),
    "layer-sum-adapter": (("ForXVector",), {"use_weighted_layer_sum": True, "add_adapter": True}),
}
CONFIGURATIONS = [
    pytest.param(
        name,
        {**overrides, "position_embeddings_type": position, "feat_extract_norm": norm},
        id=f"{name}-{variant}-{position}-{norm}",
    )
    for variant, (names, overrides) in VARIANTS.items()
    for name, position, norm in itertools.product(names, POSITIONS, NORMS)
]


def utterances(model: Any, count: int = 8, seed: int = 0) -> list[Tensor]:
    """Waveforms of random lengths up to half a second and more, the shortest that the model takes among them."""
    frames = 1
    if type(model).__name__.endswith("ForXVector"):
        frames = least_tdnn_frames(model.config)
    if model.config.add_adapter:
        frames = least_adapter_frames(model.config, frames)
    least = least_samples(model.config, frames)
    longest = max(8000, 2 * least)
    random = np.random.default_rng(seed)
    lengths = random.permutation([least, longest, longest - 1, *random.integers(least, longest, count - 3)])
    return [noise(length, seed=length) for length in lengths.tolist()]


def assert_row_is(batch: Any, single: Any, row: int, what: str) -> None:
    """The part of `batch` that belongs to utterance `row` equals `single`, what that gives alone."""
    if isinstance(single, tuple):
        for index, (batch_part, single_part) in enumerate(zip(batch, single, strict=True)):
            assert_row_is(batch_part, single_part, row, f"{what}[{index}]")
        return
    part = batch[row : row + 1][tuple(slice(size) for size in single.shape)]
    assert part.shape == single.shape, what
    difference = (part - single).abs().max().item()
    assert difference <= TOLERANCE, f"{what} of utterance {row} differs by {difference:.2g}"


@pytest.mark.parametrize(("name", "overrides"), CONFIGURATIONS)
@torch.no_grad()
def test_padded_equals_alone(name: str, overrides: dict[str, Any]) -> None:
    ours, oracle = build_pair(name, **overrides)
    single = utterances(ours)
    values, mask = pad(single, filler=3.0)
    wanted = {"output_hidden_states": True, "output_attentions": True}
    batch = ours(values, attention_mask=mask, **wanted)
    assert batch.hidden_states[-1].isfinite().all()
    for row, utterance in enumerate(single):
        for model in (ours, oracle):
            alone = model(utterance[None], **wanted)
            for field, value in alone.items():
                if field != "codevector_perplexity":  # of the whole batch
                    assert_row_is(batch[field], value, row, f"{field} ({type(model).__module__})")


@pytest.mark.parametrize("name", ["ForXVector", "ForPreTraining"])
@torch.no_grad()
def test_a_narrower_adapter_under_heads_whose_oracle_can_not(name: str) -> None:
    model = build(name, add_adapter=True, output_hidden_size=18)
    single = utterances(model)
    values, mask = pad(single)
    field = "embeddings" if name == "ForXVector" else "projected_states"
    batch = model(values, attention_mask=mask)[field]
    for row, utterance in enumerate(single):
        assert_row_is(batch, model(utterance[None])[field], row, field)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("position", POSITIONS)
@torch.no_grad()
def test_the_quantizer_sees_the_same(position: str | None, norm: str) -> None:
    model = build("ForPreTraining", position_embeddings_type=position, feat_extract_norm=norm)
    logits: list[Tensor] = []
    model.quantizer.weight_proj.register_forward_hook(lambda module, inputs, output: logits.append(output))
    single = utterances(model)
    values, mask = pad(single)
    model(values, attention_mask=mask)
    for utterance in single:
        model(utterance[None])
    for row, alone in enumerate(logits[1:]):
        assert_row_is(logits[0], alone, row, "quantizer logits")


@pytest.mark.parametrize("adapter", [False, True], ids=["plain", "adapter"])
@torch.no_grad()
def test_frames_beyond_an_utterance_are_zero_and_say_blank(adapter: bool) -> None:
    model = build("ForCTC", add_adapter=adapter, pad_token_id=3)
    single = utterances(model)
    values, mask = pad(single)
    logits = model(values, attention_mask=mask).logits
    hidden = model.wav2vec2_conformer(values, attention_mask=mask).last_hidden_state
    lengths = model.feature_lengths(mask.sum(-1))
    beyond = torch.arange(logits.shape[1]) >= lengths[:, None]
    assert beyond.any()
    assert (logits.argmax(-1)[beyond] == 3).all()
    assert (logits.log_softmax(-1)[beyond][:, 3] == 0).all()
    assert (hidden[beyond] == 0).all()
    assert (hidden[~beyond] != 0).any(-1).all()


@torch.no_grad()
def test_attention_gives_padding_no_weight() -> None:
    model = build("Model")
    values, mask = pad([noise(3000), noise(6000)])
    frames = int(model.feature_lengths(3000))
    for weights in model(values, attention_mask=mask, output_attentions=True).attentions:
        assert (weights[0, :, :, frames:] == 0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:3]))


@pytest.mark.parametrize("name", CLASSES)
@torch.no_grad()
def test_what_the_padding_holds_is_nothing(name: str) -> None:
    model = build(name, feat_extract_norm="group")
    single = utterances(model, count=4)
    values, mask = pad(single)
    rubbish = torch.where(mask.bool(), values, 100 * noise(*values.shape, seed=1))
    quiet, loud = model(values, attention_mask=mask), model(rubbish, attention_mask=mask)
    lengths = model.feature_lengths(mask.sum(-1))
    for field in quiet:
        if field == "codevector_perplexity":
            assert quiet[field] == loud[field]
        elif quiet[field].ndim == 2:
            torch.testing.assert_close(loud[field], quiet[field], rtol=0, atol=1e-6)
        else:
            for row, length in enumerate(lengths):
                torch.testing.assert_close(loud[field][row, :length], quiet[field][row, :length], rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.int64, torch.float32], ids=str)
@torch.no_grad()
def test_a_mask_of_any_type_is_the_same_mask(dtype: torch.dtype) -> None:
    model = build("ForSequenceClassification")
    values, mask = pad([noise(3000), noise(6000)])
    expected = model(values, attention_mask=mask).logits
    assert torch.equal(model(values, attention_mask=mask.to(dtype)).logits, expected)


@torch.no_grad()
def test_the_mask_matters() -> None:
    """Else the tests above would prove nothing."""
    for name, field in (("ForCTC", "logits"), ("ForXVector", "embeddings"), ("ForSequenceClassification", "logits")):
        model = build(name)
        values, mask = pad([noise(3000), noise(8000)])
        difference = (model(values)[field] - model(values, attention_mask=mask)[field])[0, :9].abs().max()
        assert difference > 0.01, name


# --- losses and gradients


def gradients(model: Any) -> dict[str, Tensor]:
    """The gradients by name; forgets them in the model."""
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def assert_gradients_add_up(batch: dict[str, Tensor], singles: dict[str, Tensor]) -> None:
    assert batch.keys() == singles.keys()
    rounding = 1e-6 * max(gradient.abs().max().item() for gradient in singles.values())
    for name, gradient in singles.items():
        allowed = max(1e-3 * gradient.abs().max().item(), rounding)
        assert (batch[name] - gradient).abs().max().item() <= allowed, name


@pytest.mark.parametrize("adapter", [False, True], ids=["plain", "adapter"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("position", POSITIONS)
def test_ctc_loss_and_gradients_add_up(position: str | None, norm: str, adapter: bool) -> None:
    model = build("ForCTC", position_embeddings_type=position, feat_extract_norm=norm, add_adapter=adapter)
    single = [noise(samples, seed=samples) for samples in (4000, 8000, 5555)]
    labels = torch.tensor([[1, 2, -100], [3, 3, 4], [5, -100, -100]])
    losses = []
    for utterance, label in zip(single, labels, strict=True):
        losses.append(model(utterance[None], labels=label[None]).loss)
        losses[-1].backward()
    expected = gradients(model)
    values, mask = pad(single)
    loss = model(values, attention_mask=mask, labels=labels).loss
    loss.backward()
    torch.testing.assert_close(loss, torch.stack(losses).sum(), rtol=1e-5, atol=0)
    assert_gradients_add_up(gradients(model), expected)

    model.config.ctc_loss_reduction = "none"
    each = model(values, attention_mask=mask, labels=labels).loss
    torch.testing.assert_close(each, torch.stack(losses), rtol=1e-5, atol=0)
    model.config.ctc_loss_reduction = "mean"
    mean = model(values, attention_mask=mask, labels=labels).loss
    torch.testing.assert_close(mean, (torch.stack(losses) / torch.tensor([2, 3, 1])).mean(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("layer_sum", [False, True], ids=["plain", "layer-sum"])
def test_padded_frames_do_not_count_in_the_frame_loss(layer_sum: bool) -> None:
    model = build("ForAudioFrameClassification", use_weighted_layer_sum=layer_sum)
    single = [noise(samples, seed=samples) for samples in (3000, 8000, 5555)]
    values, mask = pad(single)
    lengths = model.feature_lengths(mask.sum(-1))
    labels = torch.randint(0, 5, (3, int(lengths.max())), generator=torch.Generator().manual_seed(0))
    total = torch.zeros(())
    for row, (utterance, length) in enumerate(zip(single, lengths, strict=True)):
        total = total + length * model(utterance[None], labels=labels[row : row + 1, :length]).loss
    (total / lengths.sum()).backward()
    expected = gradients(model)
    loss = model(values, attention_mask=mask, labels=labels).loss
    loss.backward()
    torch.testing.assert_close(loss, total / lengths.sum(), rtol=1e-5, atol=0)
    assert_gradients_add_up(gradients(model), expected)


@pytest.mark.parametrize(
    ("name", "adapter"),
    [("ForSequenceClassification", False), ("ForXVector", False), ("ForXVector", True)],
    ids=["ForSequenceClassification", "ForXVector", "ForXVector-adapter"],
)
def test_losses_of_utterances_average(name: str, adapter: bool) -> None:
    model = build(name, add_adapter=adapter)
    single = utterances(model, count=4)
    labels = torch.tensor([0, 4, 2, 2])
    losses = torch.stack(
        [model(utterance[None], labels=label[None]).loss for utterance, label in zip(single, labels, strict=True)]
    )
    losses.mean().backward()
    expected = gradients(model)
    values, mask = pad(single)
    loss = model(values, attention_mask=mask, labels=labels).loss
    loss.backward()
    torch.testing.assert_close(loss, losses.mean(), rtol=1e-5, atol=0)
    assert_gradients_add_up(gradients(model), expected)


@pytest.mark.parametrize("position", POSITIONS)
def test_contrastive_losses_add_up(position: str | None) -> None:
    model = build("ForPreTraining", position_embeddings_type=position)
    single = [noise(samples, seed=samples) for samples in (4000, 8000, 5555)]
    values, mask = pad(single)
    lengths = model.feature_lengths(mask.sum(-1)).tolist()
    longest = max(lengths)
    masked = torch.zeros(3, longest, dtype=torch.bool)
    negatives = torch.zeros(3, longest, 6, dtype=torch.long)
    random = np.random.default_rng(0)
    losses = []
    for row, (utterance, length) in enumerate(zip(single, lengths, strict=True)):
        drawn_mask = compute_mask_indices((1, length), 0.4, 3, min_masks=2, generator=random)
        drawn = sample_negative_indices((1, length), 6, drawn_mask, random)
        masked[row, :length] = torch.from_numpy(drawn_mask)[0]
        negatives[row, :length] = torch.from_numpy(drawn)[0] + row * longest
        alone = model(
            utterance[None],
            mask_time_indices=torch.from_numpy(drawn_mask),
            sampled_negative_indices=torch.from_numpy(drawn),
        )
        losses.append(alone.contrastive_loss)
    torch.stack(losses).sum().backward()
    expected = gradients(model)
    batch = model(values, attention_mask=mask, mask_time_indices=masked, sampled_negative_indices=negatives)
    batch.contrastive_loss.backward()
    torch.testing.assert_close(batch.contrastive_loss, torch.stack(losses).sum(), rtol=1e-5, atol=0)
    assert_gradients_add_up(gradients(model), expected)

    # A mask that reaches into the padding predicts nothing there.
    masked |= torch.arange(longest) >= torch.tensor(lengths)[:, None]
    beyond = model(values, attention_mask=mask, mask_time_indices=masked, sampled_negative_indices=negatives)
    torch.testing.assert_close(beyond.loss, batch.loss)


def test_padding_has_no_gradient() -> None:
    model = build("ForCTC", feat_extract_norm="group")
    values, mask = pad([noise(4000), noise(8000)])
    values.requires_grad_()
    model(values, attention_mask=mask, labels=torch.tensor([[1, 2], [3, 4]])).loss.backward()
    assert values.grad is not None
    assert (values.grad[mask == 0] == 0).all()
    assert values.grad[0, :3900].count_nonzero() > 3500


def test_a_feature_that_never_changes_leaves_gradients_finite() -> None:
    """The deviation of a dead TDNN unit is zero, where a root has no slope."""
    model = build("ForXVector")
    with torch.no_grad():
        model.tdnn[-1].kernel.bias[:3] = -100.0
    single = [noise(6000), noise(8000)]
    losses = [model(x[None], labels=torch.tensor([label])).loss for label, x in enumerate(single)]
    torch.stack(losses).mean().backward()
    expected = gradients(model)
    values, mask = pad(single)
    model(values, attention_mask=mask, labels=torch.tensor([0, 1])).loss.backward()
    found = gradients(model)
    assert all(gradient.isfinite().all() for gradient in found.values())
    assert_gradients_add_up(found, expected)


# --- half precision, where numbers beyond 2048 aren't counted exactly, nor beyond 65504 at all


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.01), (torch.bfloat16, 0.1)], ids=str)
@torch.no_grad()
def test_norm_over_time_counts_the_frames_of_half_a_minute_in_half_precision(
    dtype: torch.dtype, tolerance: float
) -> None:
    norm = NormOverTime(2)
    norm.weight.fill_(1.0)
    norm.bias.fill_(0.5)
    frames = 80_000  # 25 s after the first convolution
    x = noise(1, frames, 2) + 3
    expected = norm(x, None)
    padded = torch.cat((x, torch.full((1, 1000, 2), 9.0)), dim=1).to(dtype)
    found = norm.to(dtype)(padded, (torch.arange(frames + 1000) < frames)[None])
    assert found.dtype == dtype
    assert (found[:, :frames].float() - expected).abs().max() <= tolerance


@pytest.mark.parametrize("pool", [masked_mean, masked_std])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)], ids=str)
@torch.no_grad()
def test_pooling_counts_minutes_in_half_precision(pool: Any, dtype: torch.dtype, tolerance: float) -> None:
    x = (noise(1, 3001, 4) + 3).to(dtype)
    padded = torch.cat((x, torch.full((1, 500, 4), 9.0, dtype=dtype)), dim=1)
    found = pool(padded, (torch.arange(3501) < 3001)[None])
    assert found.dtype == dtype
    expected = pool(x.float(), None)
    assert ((found.float() - expected) / expected).abs().max() <= tolerance


@torch.no_grad()
def test_rotary_positions_stay_exact_in_half_precision() -> None:
    """In bfloat16 a whole number beyond 256 is rounded: a time in it would be wrong after five seconds."""
    model = build("Model", position_embeddings_type="rotary", num_attention_heads=2)
    cosines = model.encoder.embed_positions(torch.zeros(1, 3000, 24))[0]
    half = model.to(torch.bfloat16).encoder.embed_positions(torch.zeros(1, 3000, 24, dtype=torch.bfloat16))[0]
    assert half.dtype == torch.bfloat16
    assert (half.float() - cosines).abs().max() <= 2**-8
