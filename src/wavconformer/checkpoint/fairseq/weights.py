"""The tensors of a checkpoint by fairseq's names, and what they tell of the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from wavconformer.errors import CheckpointError

Task = Literal["ctc", "pretraining"]

# A fine-tuned model wraps the pretrained one; the longest prefix comes first, since the last fits anything.
PREFIXES = ("w2v_encoder.w2v_model.", "w2v_model.", "")


@dataclass(frozen=True)
class Weights:
    """The tensors of a wav2vec2-conformer.

    path: the file they are from, for messages. tensors: by their full names. prefix: what the backbone's names
    begin with. task: "ctc" for a model with a letter head, "pretraining" for one with its quantizer.
    """

    path: Path
    tensors: dict[str, Tensor] = field(repr=False)
    prefix: str
    task: Task

    @classmethod
    def find(cls, path: Path, content: dict[str, Any]) -> Weights:
        """The weights in a checkpoint's content; CheckpointError where they aren't a wav2vec2-conformer's."""
        if any(str(name).startswith("wav2vec2_conformer.") or "feature_projection." in str(name) for name in content):
            raise CheckpointError(
                f"{path} has the Hugging Face layout already: load its folder, there is nothing to convert."
            )
        model = content.get("model")
        if not isinstance(model, dict) or not model:
            raise CheckpointError(f"{path} is not a fairseq checkpoint: it holds no weights under 'model'.")
        for name, value in model.items():
            if not isinstance(name, str) or not isinstance(value, Tensor):
                raise CheckpointError(f"{path} is not a fairseq checkpoint: model[{name!r}] is no tensor.")
        prefix = next((p for p in PREFIXES if any(name.startswith(p + "encoder.layers.") for name in model)), None)
        block = f"{prefix}encoder.layers.0."
        if f"{block}fc1.weight" in model:
            raise CheckpointError(
                f"{path} has Transformer layers (fc1, fc2), as plain wav2vec 2.0, HuBERT and data2vec have: these are "
                "other models. Only checkpoints with Conformer layers (layer_type: conformer) can be converted."
            )
        if prefix is None or f"{block}conv_module.depthwise_conv.weight" not in model:
            raise CheckpointError(
                f"{path} is no wav2vec2-conformer: it lacks encoder.layers.0.conv_module. It holds "
                f"{', '.join(list(model)[:5])} …"
            )
        if prefix and _head(prefix) + ".weight" in model:
            return cls(path, model, prefix, "ctc")
        if f"{prefix}quantizer.vars" in model:
            return cls(path, model, prefix, "pretraining")
        raise CheckpointError(
            f"{path} holds a Conformer encoder, but neither a CTC head (w2v_encoder.proj) nor the quantizer of "
            "pretraining (quantizer.vars, from quantize_targets: true). Only these two can be converted."
        )

    @property
    def head(self) -> str:
        """The full name of the CTC head."""
        return _head(self.prefix)

    @property
    def rows(self) -> int:
        """The number of tokens that the CTC head knows."""
        return self._shape(f"{self.head}.weight", 2)[0]

    def has(self, name: str) -> bool:
        """Whether the backbone has a weight of that name."""
        return self.prefix + name in self.tensors

    def size(self, name: str, dimensions: int, dimension: int = 0) -> int:
        """One size of a weight of the backbone, which must be there and have that many dimensions."""
        return self._shape(self.prefix + name, dimensions)[dimension]

    def _shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        if name not in self.tensors:
            raise CheckpointError(f"{self.path} lacks {name}.")
        shape = tuple(self.tensors[name].shape)
        if len(shape) != dimensions or 0 in shape:
            raise CheckpointError(f"{self.path}: {name} has the shape {shape}: it should have {dimensions} sizes.")
        return shape

    @property
    def blocks(self) -> int:
        """The number of Conformer blocks."""
        start = self.prefix + "encoder.layers."
        return len({name.removeprefix(start).split(".")[0] for name in self.tensors if name.startswith(start)})

    @property
    def convolutions(self) -> int:
        """The number of convolutions of the feature encoder."""
        count = 0
        while self.has(f"feature_extractor.conv_layers.{count}.0.weight"):
            count += 1
        return count

    @property
    def norm(self) -> str:
        """The norm of the feature encoder: "layer" has one in every layer, inside a Sequential."""
        return "layer" if self.has("feature_extractor.conv_layers.0.2.1.weight") else "group"

    @property
    def relative(self) -> bool:
        """Whether the attention has the weights of relative positions."""
        return self.has("encoder.layers.0.self_attn.pos_bias_u")

    @property
    def rotary(self) -> bool:
        """Whether the attention has rotary frequencies; a rotary model may lack them."""
        return self.has("encoder.layers.0.self_attn.rotary_emb.inv_freq")


def _head(prefix: str) -> str:
    return prefix.removesuffix("w2v_model.") + "proj"
