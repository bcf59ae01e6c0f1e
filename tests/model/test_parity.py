"""Ours and `transformers` 5.23 give the same numbers, wherever the latter follows its own documentation.

Inputs here are unpadded: padding changes what the oracle gives. test_padding.py compares our padded batches with the
oracle's single utterances.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import transformers
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from transformers.activations import ACT2FN

from wavconformer.config import ACTIVATIONS
from wavconformer.model.attention import QUERY_BLOCK

from .builders import (
    CLASSES,
    NORMS,
    POSITIONS,
    WITH_ADAPTER,
    WITH_LAYER_SUM,
    assert_same_gradients,
    assert_same_outputs,
    build_pair,
    largest_difference,
    noise,
    objective,
    task_arguments,
)

pytestmark = pytest.mark.usefixtures("paths")

VARIANTS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "plain": (CLASSES, {}),
    "adapter": (WITH_ADAPTER, {"add_adapter": True}),
    "narrower": (("Model", "ForCTC"), {"add_adapter": True, "output_hidden_size": 18}),
    "unused-size": (("ForCTC",), {"output_hidden_size": 18}),
    "layer-sum": (WITH_LAYER_SUM, {"use_weighted_layer_sum": True}),
    "layer-sum-adapter": (("ForXVector",), {"use_weighted_layer_sum": True, "add_adapter": True}),
}
CONFIGURATIONS = [
    pytest.param(
        name,
        # The published models have a bias in the convolutions with layer norm, and none with group norm.
        {**overrides, "position_embeddings_type": position, "feat_extract_norm": norm, "conv_bias": norm == "layer"},
        id=f"{name}-{variant}-{position}-{norm}",
    )
    for variant, (names, overrides) in VARIANTS.items()
    for name, position, norm in itertools.product(names, POSITIONS, NORMS)
]
# The oracle's documentation names selu, but it has neither that nor elu.
SHARED_ACTIVATIONS = [name for name in ACTIVATIONS if name in ACT2FN]
# Random shapes have these: kinks and saturation leave gradients that rounding decides, in either implementation.
SMOOTH_ACTIVATIONS = ["gelu", "gelu_new", "quick_gelu", "swish", "mish", "tanh"]
ONE_OF_EACH = list(zip(CLASSES, POSITIONS + POSITIONS, strict=True))


def test_there_are_enough_configurations() -> None:
    assert transformers.__version__.startswith("5.23")
    assert len({configuration.id for configuration in CONFIGURATIONS}) >= 60


@pytest.mark.parametrize(("name", "overrides"), CONFIGURATIONS)
def test_results_agree(name: str, overrides: dict[str, Any]) -> None:
    ours, oracle = build_pair(name, **overrides)
    arguments = task_arguments(name, ours, batch=2, samples=8000)
    wanted = {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        theirs = oracle(noise(2, 8000), **arguments, **wanted)
        output = ours(noise(2, 8000), **arguments, **wanted)
    assert len(output.hidden_states) == 3
    assert len(output.attentions) == 2
    assert_same_outputs(output, theirs)
    with torch.no_grad():
        fused = ours(noise(2, 8000), **arguments)
    for field in fused:
        assert largest_difference(fused[field], output[field]) <= 1e-4 * max(1, output[field].abs().max()), field


@pytest.mark.parametrize(("name", "overrides"), CONFIGURATIONS)
def test_a_training_step_agrees(name: str, overrides: dict[str, Any]) -> None:
    """Loss, gradients and running statistics, with the Gumbel noise that one seed draws in both."""
    ours, oracle = build_pair(name, **overrides)
    arguments = task_arguments(name, ours, batch=3, samples=9001)
    outputs = {}
    for model in (oracle, ours):
        model.train()
        torch.manual_seed(7)
        outputs[model] = model(noise(3, 9001), **arguments)
        objective(outputs[model]).backward()
    assert_same_outputs(outputs[ours], outputs[oracle])
    assert_same_gradients(ours, oracle)
    statistics = {key: value for key, value in oracle.named_buffers() if "batch_norm" in key}
    assert len(statistics) == 6
    for key, buffer in ours.named_buffers():
        if "batch_norm" in key:
            assert largest_difference(buffer, statistics[key]) <= 1e-5, key
            assert "num_batches_tracked" not in key or buffer == 1


@pytest.mark.parametrize(("name", "position"), ONE_OF_EACH)
def test_dropouts_agree(name: str, position: str | None) -> None:
    """The same places, probabilities and order: one seed drops the same values in both, where attention is visible.

    The convolution module's own is left out: there the oracle's tensors have another layout.
    """
    dropouts = dict.fromkeys(("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout"), 0.2)
    dropouts |= {"final_dropout": 0.4, "mask_time_prob": 0.0}
    ours, oracle = build_pair(name, position_embeddings_type=position, **dropouts)
    outputs = []
    for model in (ours, oracle):
        model.train()
        torch.manual_seed(11)
        outputs.append(model(noise(2, 8000), output_hidden_states=True, output_attentions=True))
    assert_same_outputs(*outputs)
    assert (outputs[0].attentions[0] == 0).float().mean() > 0.1


@pytest.mark.parametrize(("name", "position"), ONE_OF_EACH)
def test_gradients_agree_in_eval_mode(name: str, position: str | None) -> None:
    ours, oracle = build_pair(name, position_embeddings_type=position)
    arguments = task_arguments(name, ours, batch=2, samples=7000)
    for model in (oracle, ours):
        objective(model(noise(2, 7000), **arguments)).backward()
    assert_same_gradients(ours, oracle)


@pytest.mark.parametrize("position", POSITIONS)
def test_the_gradient_of_the_waveform_agrees(position: str | None) -> None:
    gradients = []
    for model in build_pair("ForCTC", position_embeddings_type=position):
        waveform = noise(2, 5000).requires_grad_()
        gradients += torch.autograd.grad(model(waveform).logits.square().sum(), waveform)
    assert largest_difference(*gradients) <= 1e-3 * gradients[1].abs().max()


@pytest.mark.parametrize("field", ["hidden_act", "feat_extract_activation"])
@pytest.mark.parametrize("activation", SHARED_ACTIVATIONS)
def test_every_activation_agrees(activation: str, field: str) -> None:
    overrides: dict[str, Any] = {field: activation}
    ours, oracle = build_pair("Model", **overrides)
    with torch.no_grad():
        assert_same_outputs(ours(noise(2, 4000)), oracle(noise(2, 4000)))


def test_group_norm_with_biased_convolutions_agrees() -> None:
    ours, oracle = build_pair("Model", feat_extract_norm="group", conv_bias=True)
    with torch.no_grad():
        assert_same_outputs(ours(noise(2, 4000)), oracle(noise(2, 4000)))


@pytest.mark.parametrize("samples", [400, 719, 720, 1040])
@pytest.mark.parametrize("position", POSITIONS)
def test_the_fewest_frames_agree(position: str | None, samples: int) -> None:
    ours, oracle = build_pair("Model", position_embeddings_type=position)
    wanted = {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        theirs = oracle(noise(2, samples), **wanted)
        assert_same_outputs(ours(noise(2, samples), **wanted), theirs)
        assert largest_difference(ours(noise(2, samples)).last_hidden_state, theirs.last_hidden_state) <= 1e-4


@pytest.mark.parametrize("position", POSITIONS)
@torch.no_grad()
def test_long_audio_agrees(position: str | None) -> None:
    """More frames than relative attention takes in one block of queries."""
    ours, oracle = build_pair("Model", position_embeddings_type=position, attention="sdpa")
    samples = 320 * (2 * QUERY_BLOCK + 100)
    assert_same_outputs(ours(noise(1, samples)), oracle(noise(1, samples)))


def test_a_full_mask_changes_nothing() -> None:
    ours, oracle = build_pair("ForXVector")
    with torch.no_grad():
        output = ours(noise(2, 8000), attention_mask=torch.ones(2, 8000, dtype=torch.long))
        assert_same_outputs(output, oracle(noise(2, 8000)))


# --- shapes drawn at random


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, Any]:
    """A configuration whose every size is its own."""
    heads = draw(st.integers(1, 4))
    hidden = heads * draw(st.sampled_from([4, 6, 8, 10]))
    norm = draw(st.sampled_from(NORMS))
    layers = draw(st.integers(1, 4))

    def entries(least: int, most: int, count: int) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.integers(least, most), min_size=count, max_size=count)))

    # Codevectors in fours: of others the oracle's projection may round equal ones apart, and it compares them then.
    groups = draw(st.integers(1, 3))
    tdnn_layers = draw(st.integers(1, 3))
    return {
        "num_attention_heads": heads,
        "hidden_size": hidden,
        "num_hidden_layers": draw(st.integers(1, 3)),
        "intermediate_size": draw(st.integers(4, 48)),
        "hidden_act": draw(st.sampled_from(SMOOTH_ACTIVATIONS)),
        "feat_extract_activation": draw(st.sampled_from(SMOOTH_ACTIVATIONS)),
        "layer_norm_eps": draw(st.sampled_from([1e-5, 1e-3])),
        "feat_extract_norm": norm,
        "conv_dim": entries(4, 16, layers),
        "conv_kernel": entries(2, 10, layers),
        "conv_stride": entries(1, 5, layers),
        # A bias before the norm over time is taken off again: its gradient is nothing but rounding.
        "conv_bias": norm == "layer" and draw(st.booleans()),
        "num_conv_pos_embeddings": draw(st.integers(1, 6)),
        "num_conv_pos_embedding_groups": 1,
        "position_embeddings_type": draw(st.sampled_from(POSITIONS)),
        "rotary_embedding_base": draw(st.sampled_from([100, 10_000])),
        "conv_depthwise_kernel_size": draw(st.sampled_from([1, 3, 7, 15])),
        "num_adapter_layers": draw(st.integers(0, 3)),
        "adapter_kernel_size": draw(st.integers(2, 5)),
        "adapter_stride": draw(st.integers(1, 3)),
        "vocab_size": draw(st.integers(4, 40)),
        "num_codevector_groups": groups,
        "codevector_dim": groups * draw(st.sampled_from([4, 8])),
        "num_codevectors_per_group": draw(st.integers(16, 40)),
        "proj_codevector_dim": draw(st.integers(4, 12)),
        "contrastive_logits_temperature": draw(st.sampled_from([0.1, 1.0])),
        "diversity_loss_weight": draw(st.sampled_from([0.1, 2.0])),
        "classifier_proj_size": draw(st.integers(4, 12)),
        "tdnn_dim": entries(4, 12, tdnn_layers),
        "tdnn_kernel": entries(1, 4, tdnn_layers),
        "tdnn_dilation": entries(1, 3, tdnn_layers),
        "xvector_output_dim": draw(st.integers(4, 12)),
    }


@hypothesis_settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    data=st.data(),
    name=st.sampled_from(CLASSES),
    shape=shapes(),
    batch=st.integers(1, 3),
    frames=st.integers(20, 60),
    seed=st.integers(0, 2**16),
)
def test_random_shapes_agree(
    data: st.DataObject, name: str, shape: dict[str, Any], batch: int, frames: int, seed: int
) -> None:
    if name in WITH_ADAPTER:
        shape["add_adapter"] = data.draw(st.booleans(), label="add_adapter")
    if name in ("Model", "ForCTC") and shape.get("add_adapter"):
        shape["output_hidden_size"] = data.draw(st.integers(4, 24), label="output_hidden_size")
    if name in WITH_LAYER_SUM:
        shape["use_weighted_layer_sum"] = data.draw(st.booleans(), label="use_weighted_layer_sum")
    if name == "ForXVector" and shape["add_adapter"]:
        frames *= 2 * shape["adapter_stride"] ** shape["num_adapter_layers"]
    samples = frames
    for kernel, stride in zip(reversed(shape["conv_kernel"]), reversed(shape["conv_stride"]), strict=True):
        samples = (samples - 1) * stride + kernel
    samples += data.draw(st.integers(0, 20), label="more samples")
    assume(batch * samples * max(shape["conv_dim"]) < 10_000_000)

    ours, oracle = build_pair(name, seed=seed, **shape)
    arguments = task_arguments(name, ours, batch, samples, seed)
    if name == "ForCTC" and shape["add_adapter"]:
        arguments = {}  # the oracle has other frame lengths for its loss where the adapter's kernel isn't 3
    waveform = noise(batch, samples, seed=seed)
    wanted = {"output_hidden_states": True, "output_attentions": True}
    outputs = [model(waveform, **arguments, **wanted) for model in (ours, oracle)]
    assert_same_outputs(*outputs)
    for output in outputs:
        objective(output).backward()
    assert_same_gradients(ours, oracle)
