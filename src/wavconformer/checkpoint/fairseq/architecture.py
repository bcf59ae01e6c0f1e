"""The shape of the model: sizes as the weights have them, and from the settings what shapes can't tell."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wavconformer.checkpoint.fairseq.expressions import evaluated
from wavconformer.checkpoint.fairseq.settings import Settings
from wavconformer.checkpoint.fairseq.weights import Weights
from wavconformer.errors import CheckpointError

# What the weights tell, and fairseq's settings of the same.
TOLD_BY_WEIGHTS = {
    "hidden_size": "encoder_embed_dim",
    "num_hidden_layers": "encoder_layers",
    "intermediate_size": "encoder_ffn_embed_dim",
    "num_attention_heads": "encoder_attention_heads",
    "conv_depthwise_kernel_size": "depthwise_conv_kernel_size",
    "conv_bias": "conv_bias",
    "num_conv_pos_embeddings": "conv_pos",
    "num_conv_pos_embedding_groups": "conv_pos_groups",
}
EXTRACTOR_MODES = {"default": "group", "layer_norm": "layer"}
CONV_FEATURE_LAYERS = "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]"  # fairseq's default


def architecture(weights: Weights, settings: Settings) -> dict[str, Any]:
    """The part of the configuration that shapes the backbone.

    settings: those of the backbone. Raises CheckpointError where they contradict the weights.
    """
    size = weights.size
    hidden = size("mask_emb", 1)
    convolutions = [f"feature_extractor.conv_layers.{i}.0.weight" for i in range(weights.convolutions)]
    config: dict[str, Any] = {
        "hidden_size": hidden,
        "num_hidden_layers": weights.blocks,
        "intermediate_size": size("encoder.layers.0.ffn1.w_1.weight", 2),
        "num_attention_heads": _heads(weights, settings, hidden),
        "hidden_act": "swish",
        "position_embeddings_type": _position(weights, settings),
        "conv_depthwise_kernel_size": size("encoder.layers.0.conv_module.depthwise_conv.weight", 3, 2),
        "feat_extract_norm": weights.norm,
        "feat_extract_activation": "gelu",
        "conv_dim": [size(name, 3) for name in convolutions],
        "conv_kernel": [size(name, 3, 2) for name in convolutions],
        "conv_bias": weights.has("feature_extractor.conv_layers.0.0.bias"),
        "layer_norm_eps": 1e-5,
    } | _positional_convolution(weights, settings, hidden)
    said = {ours: settings.get(theirs, config[ours]) for ours, theirs in TOLD_BY_WEIGHTS.items()}
    mode = settings.get("extractor_mode", weights.norm)
    said["feat_extract_norm"] = EXTRACTOR_MODES.get(mode, mode)
    said["conv_dim"], said["conv_kernel"], strides = map(list, zip(*_conv_layers(settings), strict=True))
    refuse_contradictions(weights.path, said, config)
    return config | {"conv_stride": strides}


def refuse_contradictions(path: Path, said: Mapping[str, object], told: Mapping[str, object]) -> None:
    """Raises CheckpointError where the settings say otherwise than the weights tell."""
    wrong = [f"{key} {said[key]} and {told[key]}" for key in said if said[key] != told[key]]
    if wrong:
        raise CheckpointError(f"{path}: its settings and its weights contradict each other: {'; '.join(wrong)}.")


def _heads(weights: Weights, settings: Settings, hidden: int) -> int:
    if weights.relative:
        return weights.size("encoder.layers.0.self_attn.pos_bias_u", 2)
    if weights.rotary:  # one frequency for two channels of a head
        return hidden // (2 * weights.size("encoder.layers.0.self_attn.rotary_emb.inv_freq", 1))
    return settings.get("encoder_attention_heads", 12)


def _position(weights: Weights, settings: Settings) -> str | None:
    """The position scheme: what the attention's weights are, checked against pos_enc_type."""
    kind = settings.get("pos_enc_type", "abs")
    if weights.relative or weights.rotary:
        found = "rel_pos" if weights.relative else "rope"
        if "pos_enc_type" in settings and kind != found:
            raise CheckpointError(f"{weights.path}: pos_enc_type is {kind}, but the weights are those of {found}.")
        return "relative" if weights.relative else "rotary"
    if kind == "rope":  # its frequencies may be missing; fairseq's own attention has no positions
        return None if weights.has("encoder.layers.0.self_attn.q_proj.weight") else "rotary"
    if kind == "abs":
        raise CheckpointError(
            f"{weights.path} was made with pos_enc_type=abs, where fairseq adds convolutional positions to the "
            "Conformer's input: this model has rel_pos and rope, and would give other results."
        )
    raise CheckpointError(f"{weights.path}: pos_enc_type is {kind}, but its attention has no weights for positions.")


def _positional_convolution(weights: Weights, settings: Settings, hidden: int) -> dict[str, int]:
    """The convolution that every checkpoint carries and no Conformer uses."""
    if weights.has("encoder.pos_conv.0.weight_v"):
        kernel = weights.size("encoder.pos_conv.0.weight_v", 3, 2)
        groups = hidden // weights.size("encoder.pos_conv.0.weight_v", 3, 1)
    else:
        kernel, groups = settings.get("conv_pos", 128), settings.get("conv_pos_groups", 16)
    return {"num_conv_pos_embeddings": kernel, "num_conv_pos_embedding_groups": groups}


def _conv_layers(settings: Settings) -> list[tuple[int, int, int]]:
    """The (channels, kernel, stride) of each convolution, which fairseq writes as a Python expression."""
    text = settings.get("conv_feature_layers", CONV_FEATURE_LAYERS)
    layers = evaluated(settings.path, "conv_feature_layers", text)
    for layer in layers:
        if not isinstance(layer, tuple) or len(layer) != 3 or any(type(size) is not int or size < 1 for size in layer):
            raise CheckpointError(
                f"{settings.path}: conv_feature_layers holds {layer}, not (channels, kernel, stride)."
            )
    return layers
