"""What a checkpoint is, told without loading its weights."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

from wavconformer.checkpoint.weights import find_weight_files, open_weights
from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.files import Source


@dataclass(frozen=True)
class ModelInfo:
    """The figures of a checkpoint.

    tensors: their number. parameters: numbers in them, running statistics and counters aside. bytes: size of the weight
    files. dtypes: of the weights, as safetensors names them.
    """

    config: Wav2Vec2ConformerConfig
    architecture: str
    files: tuple[str, ...]
    bytes: int
    tensors: int
    parameters: int
    dtypes: tuple[str, ...]

    def rows(self) -> list[tuple[str, str]]:
        """Names and values to print."""
        config = self.config
        positions = config.position_embeddings_type or "none"
        shape = (
            f"{config.num_hidden_layers} blocks × {config.hidden_size}, {config.num_attention_heads} heads, "
            f"feed-forward {config.intermediate_size}, positions: {positions}"
        )
        encoder = f"{len(config.conv_dim)} convolutions, {config.feat_extract_norm} norm"
        rate = f"{config.frame_rate():.4g} a second, each sees {config.receptive_field / 16:g} ms"
        labels = ", ".join(str(label) for label in list((config.id2label or {}).values())[:10])
        rows = [
            ("class", self.architecture),
            ("shape", shape),
            ("feature encoder", encoder),
            ("frames", rate),
            ("parameters", f"{self.parameters:,}"),
            ("weights", f"{self.bytes / 1e6:,.1f} MB in {', '.join(self.files)} ({', '.join(self.dtypes)})"),
        ]
        if config.vocab_size is not None:
            rows.append(("vocabulary", f"{config.vocab_size} tokens, blank {config.pad_token_id}"))
        if "Classification" in self.architecture or "XVector" in self.architecture:
            rows.append(("labels", f"{config.num_labels}: {labels}{', …' if config.num_labels > 10 else ''}"))
        if config.add_adapter:
            rows.append(("adapter", f"{config.num_adapter_layers} layers, stride {config.adapter_stride}"))
        if config.adapter_attn_dim is not None:
            rows.append(("language adapters", f"of size {config.adapter_attn_dim}"))
        return rows


# What isn't learned: statistics, counters, frequencies, and the scales that int8 weights are to be multiplied by.
_STATISTICS = (".running_mean", ".running_var", ".num_batches_tracked", ".inv_freq", ".weight_scale")
_TYPES = ("F", "BF", "I8")  # a safetensors type of weights begins so


def model_info(name: str | os.PathLike[str], **source: Any) -> ModelInfo:
    """The figures of a folder's or Hub repository's checkpoint; CheckpointError where it is none."""
    where = Source.take(name, source)
    config = Wav2Vec2ConformerConfig.from_source(where)
    paths = find_weight_files(where)
    with open_weights(where) as tensors:
        parameters = sum(math.prod(tensor.shape) for key, tensor in tensors.items() if not key.endswith(_STATISTICS))
        count = len(tensors)
        dtypes = {tensor.dtype for tensor in tensors.values() if tensor.dtype.startswith(_TYPES)}
    return ModelInfo(
        config=config,
        architecture=next(iter(config.architectures or ()), "unknown class"),
        files=tuple(path.name for path in paths),
        bytes=sum(path.stat().st_size for path in paths),
        tensors=count,
        parameters=parameters,
        dtypes=tuple(sorted(dtypes)),
    )
