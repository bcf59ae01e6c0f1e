"""What a checkpoint is, told without loading its weights."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from wavconformer.checkpoint.weights import file_header, find_weight_files
from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.files import Source


@dataclass(frozen=True)
class ModelInfo:
    """The figures of a checkpoint.

    tensors: their number. parameters: numbers in them, running statistics and counters aside. bytes: size of the weight
    files. dtype: of the floating tensors, "?" for old pickles, whose content isn't read here.
    """

    config: Wav2Vec2ConformerConfig
    architecture: str
    files: tuple[str, ...]
    bytes: int
    tensors: int | None
    parameters: int | None
    dtype: str

    def rows(self) -> list[tuple[str, str]]:
        """Names and values to print."""
        config = self.config
        positions = config.position_embeddings_type or "none"
        shape = (
            f"{config.num_hidden_layers} blocks × {config.hidden_size}, {config.num_attention_heads} heads, "
            f"feed-forward {config.intermediate_size}, positions: {positions}"
        )
        encoder = f"{len(config.conv_dim)} convolutions, {config.feat_extract_norm} norm"
        rate = f"{config.frame_rate():g} a second, each sees {config.receptive_field / 16:g} ms"
        labels = ", ".join(str(label) for label in list((config.id2label or {}).values())[:10])
        rows = [
            ("class", self.architecture),
            ("shape", shape),
            ("feature encoder", encoder),
            ("frames", rate),
            ("parameters", f"{self.parameters:,}" if self.parameters is not None else "? (old pickle)"),
            ("weights", f"{self.bytes / 1e6:,.1f} MB in {', '.join(self.files)} ({self.dtype})"),
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


_STATISTICS = (".running_mean", ".running_var", ".num_batches_tracked", ".inv_freq")


def model_info(name: str | os.PathLike[str], **source: Any) -> ModelInfo:
    """The figures of a folder's or Hub repository's checkpoint; CheckpointError where it is none."""
    where = Source.take(name, source)
    config = Wav2Vec2ConformerConfig.from_source(where)
    paths = find_weight_files(where)
    headers = {}
    for path in paths:
        if path.suffix == ".safetensors":
            headers.update(file_header(path))
    known = all(path.suffix == ".safetensors" for path in paths)
    count = 0
    for key, (_, shape) in headers.items():
        if not key.endswith(_STATISTICS):
            size = 1
            for length in shape:
                size *= length
            count += size
    dtypes = sorted({dtype for dtype, _ in headers.values() if dtype.startswith(("F", "BF"))})
    return ModelInfo(
        config=config,
        architecture=next(iter(config.architectures or ()), "unknown class"),
        files=tuple(path.name for path in paths),
        bytes=sum(path.stat().st_size for path in paths),
        tensors=len(headers) if known else None,
        parameters=count if known else None,
        dtype=", ".join(dtypes) or "?",
    )
