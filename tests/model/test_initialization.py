"""Fresh weights have the distributions of the published scheme, as the oracle's have."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import wavconformer
from wavconformer import Wav2Vec2ConformerConfig, Wav2Vec2ConformerForCTC
from wavconformer.model.initialization import initialize_module

from .builders import CLASSES, POSITIONS, SHAPE, build, settings

# Large enough that a standard deviation over a tensor is within a few per cent of the true one.
WIDE: dict[str, Any] = {
    **SHAPE,
    "hidden_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "conv_dim": (64, 64, 64),
    "conv_kernel": (10, 8, 4),
    "conv_stride": (5, 4, 2),
    "conv_bias": True,
    "vocab_size": 300,
    "num_labels": 200,
    "classifier_proj_size": 96,
    "tdnn_dim": (96, 96, 96),
    "xvector_output_dim": 64,
    "num_codevectors_per_group": 80,
    "codevector_dim": 96,
    "proj_codevector_dim": 96,
    "output_hidden_size": 80,
    "num_conv_pos_embeddings": 32,
    "initializer_range": 0.02,
    "use_weighted_layer_sum": True,
}


def build_fresh(name: str, **overrides: Any) -> tuple[Any, Any]:
    config = {**WIDE, **overrides}
    torch.manual_seed(1)
    ours = getattr(wavconformer, f"Wav2Vec2Conformer{name}")(Wav2Vec2ConformerConfig(**config))
    oracle_config = transformers.Wav2Vec2ConformerConfig(**config)
    return ours, getattr(transformers, f"Wav2Vec2Conformer{name}")(oracle_config)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("name", CLASSES)
def test_every_weight_is_distributed_as_the_oracles(name: str, position: str | None) -> None:
    adapter = name in ("Model", "ForCTC")
    ours, oracle = build_fresh(name, position_embeddings_type=position, add_adapter=adapter)
    expected = oracle.state_dict()
    for key, value in ours.state_dict().items():
        other = expected.pop(key)
        assert value.shape == other.shape, key
        if "pos_conv_embed.conv.param" in key:
            continue  # unused: the oracle's own scheme for it doesn't reach the normed weight
        if (other == other.flatten()[0]).all():
            assert torch.equal(value, other), key
            continue
        if key.endswith("inv_freq"):
            torch.testing.assert_close(value, other)
            continue
        if value.numel() < 200:
            continue  # too few to tell; test_the_scheme has their bounds
        spread = 0.2 if value.numel() < 2000 else 0.06
        assert value.std().item() == pytest.approx(other.std().item(), rel=spread), key
        assert value.mean().item() == pytest.approx(other.mean().item(), abs=0.2 * other.std().item()), key
        assert kurtosis(value) == pytest.approx(kurtosis(other), abs=0.9), key  # 3 if normal, 1.8 if uniform
    assert not expected


def kurtosis(x: Tensor) -> float:
    centred = x - x.mean()
    return ((centred**4).mean() / centred.square().mean() ** 2).item()


def assert_uniform(x: Tensor, low: float, high: float) -> None:
    margin = 20 * (high - low) / x.numel()
    assert low <= x.min() <= low + margin
    assert high - margin <= x.max() <= high


def test_the_scheme() -> None:
    model, _ = build_fresh("ForPreTraining")
    backbone = model.wav2vec2_conformer
    layer = backbone.encoder.layers[0]
    for linear in (layer.ffn1.intermediate_dense, layer.ffn2.output_dense, layer.self_attn.linear_q):
        assert linear.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert (linear.bias == 0).all()
    projection = backbone.feature_projection.projection
    assert_uniform(projection.weight, -(64**-0.5), 64**-0.5)
    assert_uniform(projection.bias, -(64**-0.5), 64**-0.5)
    for convolution in (backbone.feature_extractor.conv_layers[1].conv, layer.conv_module.pointwise_conv1):
        inputs = convolution.in_channels * convolution.kernel_size[0]
        assert convolution.weight.std().item() == pytest.approx(math.sqrt(2 / inputs), rel=0.05)
    assert_uniform(backbone.feature_extractor.conv_layers[1].conv.bias, -(512**-0.5), 512**-0.5)
    assert_uniform(model.quantizer.codevectors, 0, 1)
    assert model.quantizer.weight_proj.weight.std().item() == pytest.approx(1, rel=0.05)
    assert (model.quantizer.weight_proj.bias == 0).all()
    for projector in (model.project_hid, model.project_q):
        assert_uniform(projector.weight, -(96**-0.5), 96**-0.5)
        assert_uniform(projector.bias, -(96**-0.5), 96**-0.5)
    assert_uniform(backbone.masked_spec_embed, 0, 1)
    for norm in model.modules():
        if isinstance(norm, nn.LayerNorm):
            assert (norm.weight == 1).all()
            assert (norm.bias == 0).all()
    batch_norm = layer.conv_module.batch_norm
    assert (batch_norm.weight == 1).all()
    assert (batch_norm.running_var == 1).all()
    assert (batch_norm.running_mean == 0).all()
    assert batch_norm.num_batches_tracked == 0
    bound = math.sqrt(6 / (2 + 48))  # Xavier, of a (heads, head size) matrix
    assert_uniform(layer.self_attn.pos_bias_u, -bound, bound)
    assert not torch.equal(layer.self_attn.pos_bias_u, layer.self_attn.pos_bias_v)


def test_the_scheme_of_the_heads() -> None:
    speaker, _ = build_fresh("ForXVector", num_hidden_layers=3)
    torch.testing.assert_close(speaker.layer_weights, torch.full((4,), 0.25))
    assert speaker.objective.weight.std().item() == pytest.approx(1, rel=0.05)
    assert speaker.tdnn[0].kernel.weight.std().item() == pytest.approx(0.02, rel=0.05)
    letters, _ = build_fresh("ForCTC", initializer_range=0.5)
    assert letters.lm_head.weight.std().item() == pytest.approx(0.5, rel=0.05)
    assert (letters.lm_head.bias == 0).all()


def test_a_seed_repeats_the_weights() -> None:
    first, again, other = (build("ForPreTraining", seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["project_hid.weight"], other["project_hid.weight"])


def test_nothing_is_left_as_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    """With memory that holds NaN wherever nobody writes, a forgotten parameter would show."""
    empty = torch.empty

    def poisoned(*arguments: Any, **keywords: Any) -> Tensor:
        tensor = empty(*arguments, **keywords)
        return tensor.fill_(math.nan) if tensor.is_floating_point() else tensor.fill_(-7)

    monkeypatch.setattr(torch, "empty", poisoned)
    for name in CLASSES:
        for position in POSITIONS:
            adapter = {"add_adapter": True, "output_hidden_size": 18} if name in ("Model", "ForCTC") else {}
            languages = {"adapter_attn_dim": 4}
            config = settings(name, position_embeddings_type=position, **adapter, **languages)
            model = getattr(wavconformer, f"Wav2Vec2Conformer{name}")(Wav2Vec2ConformerConfig(**config))
            for key, value in model.state_dict().items():
                assert value.isfinite().all(), key
                assert "num_batches" not in key or value == 0


def test_a_parameter_without_a_rule_is_refused() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.strange = nn.Parameter(torch.zeros(1))

    with pytest.raises(TypeError, match=r"strange of Odd"):
        initialize_module(Odd(), None, "", 0.02)


@pytest.mark.parametrize(("preset", "parameters"), [("rel-pos-large", 618_591_904), ("rope-large", 593_376_928)])
def test_the_large_shapes_have_their_published_size(preset: str, parameters: int) -> None:
    with torch.device("meta"):
        model = Wav2Vec2ConformerForCTC(Wav2Vec2ConformerConfig.preset(preset, vocab_size=32))
        oracle = transformers.Wav2Vec2ConformerForCTC(transformers.Wav2Vec2ConformerConfig(**model.config.to_dict()))
    assert model.num_parameters() == oracle.num_parameters() == parameters
    shapes = {key: value.shape for key, value in oracle.state_dict().items()}
    assert {key: value.shape for key, value in model.state_dict().items()} == shapes
