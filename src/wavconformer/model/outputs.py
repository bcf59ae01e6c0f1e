"""What the models return: results that read as attributes, as a dict, or as a tuple."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.utils import _pytree as pytree


class ModelOutput(dict[str, Any]):
    """A model's results by name.

    A field reads as an attribute (`output.logits`; None where it wasn't computed), as a dict entry
    (`output["logits"]`; fields that weren't computed are absent) or by position among those computed
    (`output[0]`, `output[:2]`, `output.to_tuple()`). The fields and their order are the class's annotations.
    """

    def __init__(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **fields: Any) -> None:
        given = {**dict(values), **fields}
        unknown = given.keys() - self.fields()
        if unknown:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}")
        super().__init__({name: given[name] for name in self.fields() if given.get(name) is not None})

    _fields: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """The names of all fields, in order."""
        return cls._fields

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._fields = (*cls._fields, *inspect.get_annotations(cls))
        # So that DDP, FSDP, torch.export and torch.func see the tensors inside.
        pytree.register_pytree_node(
            cls,
            lambda output: (list(output.values()), list(output)),
            lambda values, names: cls(dict(zip(names, values, strict=True))),
            serialized_type_name=f"wavconformer.{cls.__name__}",
        )

    def __getattr__(self, name: str) -> Any:
        if name in self.fields():
            return self.get(name)
        raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self.fields():
            raise KeyError(f"{type(self).__name__} has no field '{name}'")
        if value is None:
            self.pop(name, None)
        else:
            super().__setitem__(name, value)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, (int, slice)):
            return self.to_tuple()[key]
        return super().__getitem__(key)

    def to_tuple(self) -> tuple[Any, ...]:
        """The computed fields in order."""
        return tuple(self[name] for name in self.fields() if name in self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={_shape(value)}' for name, value in self.items())})"


def _shape(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(_shape(item) for item in value)})"
    if isinstance(value, Tensor):
        return repr(value.item()) if value.ndim == 0 and not value.is_meta else f"Tensor{tuple(value.shape)}"
    return repr(value)


class Wav2Vec2ConformerBaseModelOutput(ModelOutput):
    """Output of the bare model.

    last_hidden_state: (B, T, D) output of the encoder, or of the adapter: (B, T', output_hidden_size). Frames
        beyond an utterance's length are zero.
    extract_features: (B, T, C) normalised output of the feature encoder.
    hidden_states: num_hidden_layers + 1 tensors (B, T, D): the first block's input and every block's output.
    attentions: num_hidden_layers tensors (B, H, T, T).
    """

    last_hidden_state: Tensor
    extract_features: Tensor
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None


class CausalLMOutput(ModelOutput):
    """Output of the CTC model.

    loss: the CTC loss, a scalar, or (B,) where the reduction is "none".
    logits: (B, T, V). Frames beyond an utterance's length say blank.
    """

    loss: Tensor | None
    logits: Tensor
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None


class SequenceClassifierOutput(ModelOutput):
    """Output of the sequence head: logits (B, num_labels)."""

    loss: Tensor | None
    logits: Tensor
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None


class TokenClassifierOutput(ModelOutput):
    """Output of the frame head: logits (B, T, num_labels)."""

    loss: Tensor | None
    logits: Tensor
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None


class XVectorOutput(ModelOutput):
    """Output of the speaker model: logits and embeddings, (B, xvector_output_dim) both."""

    loss: Tensor | None
    logits: Tensor
    embeddings: Tensor
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None


class Wav2Vec2ConformerForPreTrainingOutput(ModelOutput):
    """Output of the pretraining model.

    loss: contrastive_loss + diversity_loss_weight · diversity_loss, summed over the masked frames.
    projected_states, projected_quantized_states: (B, T, proj_codevector_dim).
    codevector_perplexity: scalar, between the number of groups and of codevectors; the latter is best.
    contrastive_loss, diversity_loss: scalars, L_m and L_d of wav2vec 2.0 (arXiv 2006.11477, equations 3 and 4).
    """

    loss: Tensor | None
    projected_states: Tensor
    projected_quantized_states: Tensor
    codevector_perplexity: Tensor
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None
    contrastive_loss: Tensor | None
    diversity_loss: Tensor | None
