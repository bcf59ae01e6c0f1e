"""From fairseq's names of the weights to the keys of the Hugging Face layout."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from wavconformer.checkpoint.fairseq.weights import Weights
from wavconformer.errors import CheckpointError

BACKBONE = "wav2vec2_conformer."

# The modules of a Conformer block that have a weight and a bias, by fairseq's names, and ours. The projections of
# the attention come on top.
BLOCK_MODULES = {
    "ffn1.layer_norm": "ffn1_layer_norm",
    "ffn1.w_1": "ffn1.intermediate_dense",
    "ffn1.w_2": "ffn1.output_dense",
    "self_attn_layer_norm": "self_attn_layer_norm",
    "conv_module.layer_norm": "conv_module.layer_norm",
    "conv_module.batch_norm": "conv_module.batch_norm",
    "ffn2.layer_norm": "ffn2_layer_norm",
    "ffn2.w_1": "ffn2.intermediate_dense",
    "ffn2.w_2": "ffn2.output_dense",
    "final_layer_norm": "final_layer_norm",
}

# Its single tensors, which keep their names.
BLOCK_TENSORS = (
    "conv_module.pointwise_conv1.weight",
    "conv_module.depthwise_conv.weight",
    "conv_module.pointwise_conv2.weight",
    "conv_module.batch_norm.running_mean",
    "conv_module.batch_norm.running_var",
    "conv_module.batch_norm.num_batches_tracked",
)
RELATIVE_TENSORS = ("self_attn.pos_bias_u", "self_attn.pos_bias_v", "self_attn.linear_pos.weight")

Pairs = Iterator[tuple[str, str]]


def renamed(weights: Weights, position: str | None) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The weights under Hugging Face keys, and the names of those without a place, sorted.

    position: the model's position_embeddings_type.

    Raises CheckpointError where weights that the model needs are missing; it names them.
    """
    tensors = weights.tensors
    places = {weights.prefix + theirs: BACKBONE + ours for theirs, ours in _backbone(weights, position)}
    if weights.task == "ctc":
        places |= dict(_module(weights.head, "lm_head"))
    else:
        places |= {weights.prefix + theirs: ours for theirs, ours in _pretraining_head()}
    missing = [name for name in places if name not in tensors and not _dispensable(name)]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise CheckpointError(f"{weights.path} lacks {', '.join(missing[:5])}{more}.")
    state_dict = {ours: tensors[theirs] for theirs, ours in places.items() if theirs in tensors}
    if not weights.has("post_extract_proj.weight"):
        state_dict |= _identity_projection(weights)
    known = places.keys() | _rotary_copies(weights, position)
    return state_dict, tuple(sorted(tensors.keys() - known))


def _module(theirs: str, ours: str) -> Pairs:
    yield f"{theirs}.weight", f"{ours}.weight"
    yield f"{theirs}.bias", f"{ours}.bias"


def _backbone(weights: Weights, position: str | None) -> Pairs:
    """Pairs of fairseq's and our names within the backbone."""
    yield "mask_emb", "masked_spec_embed"
    yield from _feature_encoder(weights)
    yield from _module("layer_norm", "feature_projection.layer_norm")
    if weights.has("post_extract_proj.weight"):
        yield from _module("post_extract_proj", "feature_projection.projection")
    yield "encoder.pos_conv.0.bias", "encoder.pos_conv_embed.conv.bias"
    yield "encoder.pos_conv.0.weight_g", "encoder.pos_conv_embed.conv.parametrizations.weight.original0"
    yield "encoder.pos_conv.0.weight_v", "encoder.pos_conv_embed.conv.parametrizations.weight.original1"
    yield from _module("encoder.layer_norm", "encoder.layer_norm")
    if position == "rotary":
        yield "encoder.layers.0.self_attn.rotary_emb.inv_freq", "encoder.embed_positions.inv_freq"
    for i in range(weights.blocks):
        for theirs, ours in _block(position):
            yield f"encoder.layers.{i}.{theirs}", f"encoder.layers.{i}.{ours}"


def _feature_encoder(weights: Weights) -> Pairs:
    bias = weights.has("feature_extractor.conv_layers.0.0.bias")
    for i in range(weights.convolutions):
        layer = f"feature_extractor.conv_layers.{i}"
        yield f"{layer}.0.weight", f"{layer}.conv.weight"
        if bias:
            yield f"{layer}.0.bias", f"{layer}.conv.bias"
        if weights.norm == "layer":
            yield from _module(f"{layer}.2.1", f"{layer}.layer_norm")
        elif i == 0:
            yield from _module(f"{layer}.2", f"{layer}.layer_norm")


def _block(position: str | None) -> Pairs:
    """Pairs of fairseq's and our names within a Conformer block."""
    for theirs, ours in BLOCK_MODULES.items():
        yield from _module(theirs, ours)
    for part in ("q", "k", "v", "out"):
        # Without positions fairseq takes its own attention; the others are ESPnet's.
        theirs = f"self_attn.{part}_proj" if position is None else f"self_attn.linear_{part}"
        yield from _module(theirs, f"self_attn.linear_{part}")
    for name in BLOCK_TENSORS + (RELATIVE_TENSORS if position == "relative" else ()):
        yield name, name


def _pretraining_head() -> Pairs:
    yield "quantizer.vars", "quantizer.codevectors"
    yield from _module("quantizer.weight_proj", "quantizer.weight_proj")
    yield from _module("project_q", "project_q")
    yield from _module("final_proj", "project_hid")


def _dispensable(name: str) -> bool:
    """Whether the model computes the same without it: pos_conv is never used, the frequencies can be made anew."""
    return ".pos_conv." in name or name.endswith(".inv_freq")


def _rotary_copies(weights: Weights, position: str | None) -> set[str]:
    """The names of the rotary frequencies, which fairseq keeps in every block; they must be the same in all."""
    if position != "rotary":
        return set()
    names = [f"{weights.prefix}encoder.layers.{i}.self_attn.rotary_emb.inv_freq" for i in range(weights.blocks)]
    copies = [name for name in names if name in weights.tensors]
    if any(not weights.tensors[name].equal(weights.tensors[copies[0]]) for name in copies[1:]):
        raise CheckpointError(f"{weights.path}: its blocks have different rotary frequencies (inv_freq).")
    return set(copies)


def _identity_projection(weights: Weights) -> dict[str, Tensor]:
    """Where the sizes agree fairseq has no projection; ours is then one that changes nothing."""
    channels, hidden = weights.size("layer_norm.weight", 1), weights.size("mask_emb", 1)
    if channels != hidden:
        raise CheckpointError(
            f"{weights.path} lacks {weights.prefix}post_extract_proj, which must lead from {channels} to {hidden}."
        )
    dtype = weights.tensors[weights.prefix + "layer_norm.weight"].dtype
    projection = f"{BACKBONE}feature_projection.projection"
    return {
        f"{projection}.weight": torch.eye(hidden, dtype=dtype),
        f"{projection}.bias": torch.zeros(hidden, dtype=dtype),
    }
