"""What can be switched on a model: parts that learn, layers that drop out, languages, types and devices."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wavconformer.config import ACTIVATIONS
from wavconformer.model.activations import FUNCTIONS

from .builders import CLASSES, HEADS, POSITIONS, build, noise, objective, pad, task_arguments


def trainable(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("name", CLASSES)
def test_freezing_the_feature_encoder(name: str) -> None:
    model = build(name).train()
    encoder = {name for name in trainable(model) if "feature_extractor.conv_layers." in name}
    assert len(encoder) > 7
    expected = trainable(model) - encoder
    model.freeze_feature_encoder()
    assert trainable(model) == expected
    objective(model(noise(2, 8000), **task_arguments(name, model, 2, 8000))).backward()
    assert all(parameter.grad is None for parameter in model.base_model.feature_extractor.parameters())
    assert model.base_model.feature_projection.projection.weight.grad is not None


def test_the_older_name_warns() -> None:
    model = build("ForCTC")
    with pytest.warns(FutureWarning, match="freeze_feature_encoder"):
        model.freeze_feature_extractor()
    assert not any("feature_extractor" in name for name in trainable(model))


@pytest.mark.parametrize("name", HEADS)
def test_freezing_all_but_the_head(name: str) -> None:
    model = build(name)
    head = {name for name in trainable(model) if not name.startswith("wav2vec2_conformer.")}
    assert head
    model.freeze_base_model()
    assert trainable(model) == head
    assert model.num_parameters(only_trainable=True) == sum(dict(model.named_parameters())[n].numel() for n in head)
    assert model.num_parameters() == sum(parameter.numel() for parameter in model.parameters())
    assert model.base_model is model.wav2vec2_conformer


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_layers_drop_out_in_training(probability: float) -> None:
    model = build("ForSequenceClassification", num_hidden_layers=6, layerdrop=probability, use_weighted_layer_sum=True)
    x = noise(1, 6000)
    torch.manual_seed(0)
    dropped = 0
    for _ in range(20):
        states = model.train()(x, output_hidden_states=True).hidden_states
        assert len(states) == 7  # the layers' weights stay with their layers
        dropped += sum(torch.equal(before, after) for before, after in itertools.pairwise(states))
    assert abs(dropped / 120 - probability) < 0.15
    states = model.eval()(x, output_hidden_states=True).hidden_states
    assert not any(torch.equal(before, after) for before, after in itertools.pairwise(states))


@pytest.mark.parametrize(
    "setting",
    [
        "hidden_dropout",
        "activation_dropout",
        "attention_dropout",
        "feat_proj_dropout",
        "conformer_conv_dropout",
        "final_dropout",
        "feat_quantizer_dropout",
    ],
)
def test_each_dropout_acts_in_training_alone(setting: str) -> None:
    name = "ForPreTraining" if setting == "feat_quantizer_dropout" else "ForCTC"
    field = "projected_quantized_states" if name == "ForPreTraining" else "logits"
    overrides: dict[str, Any] = {setting: 0.5}
    model = build(name, mask_time_prob=0.01, mask_time_length=50, **overrides)
    x = noise(1, 6000)

    def run(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        found: torch.Tensor = model(x, **extra)[field]
        return found

    # The Gumbel noise has a generator of its own, so that the dropout is all that differs.
    extra: dict[str, Any] = {"generator": torch.Generator()} if name == "ForPreTraining" else {}
    assert torch.equal(run(0), run(1))
    model.train()
    if extra:
        extra["generator"].manual_seed(0)
    first = run(0)
    if extra:
        extra["generator"].manual_seed(0)
    assert not torch.equal(first, run(1))


# --- activations


def test_every_named_activation_has_a_function() -> None:
    assert sorted(FUNCTIONS) == sorted(ACTIVATIONS)


@pytest.mark.parametrize(
    ("name", "function"),
    [("elu", F.elu), ("selu", F.selu), ("swish", nn.SiLU()), ("gelu", lambda x: F.gelu(x))],
    ids=["elu", "selu", "module", "lambda"],
)
@torch.no_grad()
def test_an_activation_may_be_a_function(name: str, function: Any) -> None:
    named = build("Model", hidden_act=name, feat_extract_activation=name)
    called = build("Model", hidden_act=function, feat_extract_activation=function)
    assert torch.equal(named(noise(1, 6000)).last_hidden_state, called(noise(1, 6000)).last_hidden_state)


# --- languages


@pytest.mark.parametrize("position", POSITIONS)
def test_language_adapters_follow_every_block(position: str | None) -> None:
    model = build("ForCTC", position_embeddings_type=position, adapter_attn_dim=6)
    assert model.target_lang == "eng"
    adapters = model.language_adapters()
    prefix = "wav2vec2_conformer.encoder.layers"
    assert list(adapters) == [f"{prefix}.0.adapter_layer", f"{prefix}.1.adapter_layer"]
    x = noise(1, 6000)
    with torch.no_grad():
        seen: list[torch.Tensor] = []
        layer = adapters[f"{prefix}.1.adapter_layer"]
        layer.register_forward_hook(lambda module, inputs, output: seen.extend((inputs[0], output)))
        before = model(x).logits
        expected = seen[0] + layer.linear_2(layer.linear_1(layer.norm(seen[0])).relu())
        torch.testing.assert_close(seen[1], expected)
        for adapter in adapters.values():
            adapter.linear_2.weight.zero_()
            adapter.linear_2.bias.zero_()
        assert not torch.allclose(before, model(x).logits, atol=1e-3)
        plain = build("ForCTC", position_embeddings_type=position)
        plain.load_state_dict({k: v for k, v in model.state_dict().items() if "adapter_layer" not in k})
        torch.testing.assert_close(model(x).logits, plain(x).logits)  # an adapter that adds nothing changes nothing


def test_only_the_adapters_and_the_head_learn_a_language() -> None:
    model = build("ForCTC", adapter_attn_dim=6)
    with torch.no_grad():
        for adapter in model.language_adapters().values():
            adapter.norm.weight.fill_(9)
    model.init_adapter_layers()
    assert all((adapter.norm.weight == 1).all() for adapter in model.language_adapters().values())
    model.freeze_all_but_adapters()
    assert all("adapter_layer" in name or name.startswith("lm_head") for name in trainable(model))
    assert len(trainable(model)) == 2 * 6 + 2


@torch.no_grad()
def test_language_adapters_are_exact_under_padding() -> None:
    model = build("ForCTC", adapter_attn_dim=6)
    values, mask = pad([noise(4000), noise(8000)])
    logits = model(values, attention_mask=mask).logits
    alone = model(noise(1, 4000)[:1]).logits
    torch.testing.assert_close(logits[:1, : alone.shape[1]], alone, rtol=0, atol=1e-4)


# --- types, copies


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", CLASSES)
@torch.no_grad()
def test_half_precision_runs(name: str, dtype: torch.dtype) -> None:
    model = build(name)
    values, mask = pad([noise(6000), noise(8000)])
    arguments = {**task_arguments(name, model, 2, 8000), "attention_mask": mask}
    expected = model(values, **arguments)
    half = model.to(dtype)
    assert half.dtype == dtype
    assert half.device == torch.device("cpu")
    found = half(values, **arguments)
    field = "projected_states" if name == "ForPreTraining" else list(found)[-1]
    assert found[field].dtype == dtype
    assert (found[field].float() - expected[field])[0, :9].abs().max() < 0.3
    if "loss" in found:
        assert found.loss.isfinite()


@pytest.mark.parametrize("name", CLASSES)
def test_mixed_precision_trains(name: str) -> None:
    model = build(name).train()
    values, mask = pad([noise(6000), noise(8000)])
    with torch.autocast("cpu", torch.bfloat16):
        output = model(values, attention_mask=mask, **task_arguments(name, model, 2, 8000))
        objective(output).backward()
    for parameter_name, parameter in model.named_parameters():
        if "pos_conv_embed" not in parameter_name and parameter_name != "masked_spec_embed":
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize(
    "travel",
    [lambda model: pickle.loads(pickle.dumps(model)), copy.deepcopy],  # noqa: S301
    ids=["pickle", "deepcopy"],
)
@pytest.mark.parametrize("name", CLASSES)
@torch.no_grad()
def test_a_model_travels_whole(name: str, travel: Any) -> None:
    model = build(name)
    again = travel(model)
    assert torch.equal(again(noise(1, 6000))[0], model(noise(1, 6000))[0])
    next(again.parameters()).add_(1)
    assert not torch.equal(next(again.parameters()), next(model.parameters()))
