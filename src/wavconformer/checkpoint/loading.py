"""From the tensors of a checkpoint to the parameters of a model."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from wavconformer.checkpoint.weights import LazyTensor
from wavconformer.errors import CheckpointError
from wavconformer.model.attention import RotaryPositions
from wavconformer.model.base import SpeechModel
from wavconformer.model.initialization import initialize_module

logger = logging.getLogger(__name__)

PREFIX = f"{SpeechModel.base_model_prefix}."
# Names of weight normalisation before PyTorch 2.0.
_OLD_NAMES = {
    "pos_conv_embed.conv.weight_g": "pos_conv_embed.conv.parametrizations.weight.original0",
    "pos_conv_embed.conv.weight_v": "pos_conv_embed.conv.parametrizations.weight.original1",
}
# Marks the name of a head's weight where only the backbone is read.
_HEAD = "head:"
# Computed in full precision, whatever a file has of it: rounded to half precision it would be wrong.
_COMPUTED = "embed_positions.inv_freq"
# What a backbone may lack because it is computed, counted or unused …
_NEEDLESS = (_COMPUTED, "pos_conv_embed.conv.", "batch_norm.num_batches_tracked")
# … and what may be new in it, to be trained.
_OPTIONAL = ("masked_spec_embed", "adapter.", ".adapter_layer.")


@dataclass
class LoadingInfo:
    """How the names of a checkpoint and of a model met.

    missing_keys: in the model alone. unexpected_keys: in the checkpoint alone. mismatched_keys: name, shape in the
    checkpoint, shape in the model. new: those that were given starting values and need training.
    """

    missing_keys: list[str] = field(default_factory=list)
    unexpected_keys: list[str] = field(default_factory=list)
    mismatched_keys: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    new: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """In the form that `from_pretrained(..., output_loading_info=True)` returns."""
        return {
            "missing_keys": self.missing_keys,
            "unexpected_keys": self.unexpected_keys,
            "mismatched_keys": self.mismatched_keys,
            "error_msgs": [],
        }


def load_tensors(
    model: SpeechModel,
    tensors: Mapping[str, LazyTensor],
    *,
    place: str,
    dtype: torch.dtype,
    ignore_mismatched_sizes: bool = False,
) -> LoadingInfo:
    """Fills a model, built on the meta device or not, with the tensors of a checkpoint.

    place: where these come from, for messages. dtype: what floating tensors become.

    Names may have the prefix of a task model or not. Returns what `report` tells the user. Raises CheckpointError
    where weights of the backbone are missing, and where a shape differs unless `ignore_mismatched_sizes`.
    """
    expected = model.state_dict()
    named = _match_names(tensors, expected)
    info = LoadingInfo(
        missing_keys=[name for name in expected if name not in named],
        unexpected_keys=[
            name.removeprefix(_HEAD)
            for name in named
            if name not in expected and not name.endswith("masked_spec_embed")  # harmless without masking
        ],
    )
    state: dict[str, Tensor] = {}
    for name, wanted in expected.items():
        if name not in named or name.endswith(_COMPUTED):
            continue
        if named[name].shape != tuple(wanted.shape):
            info.mismatched_keys.append((name, named[name].shape, tuple(wanted.shape)))
        else:
            values = named[name].read()
            if wanted.is_floating_point() and not values.is_floating_point():
                raise CheckpointError(f"{place}: {name} is of {values.dtype}, but must be floating point.")
            state[name] = values.to(dtype if wanted.is_floating_point() else wanted.dtype)
    _refuse_incomplete(info, model, place, ignore_mismatched_sizes)
    model.load_state_dict(state, strict=False, assign=True)
    absent = [*info.missing_keys, *(name for name, _, _ in info.mismatched_keys)]
    _start(model, {*absent, *(name for name in expected if name.endswith(_COMPUTED))}, dtype)
    info.new = [name for name in absent if not any(part in name for part in _NEEDLESS)]
    return info


def rounded_layers(model: SpeechModel, tensors: Mapping[str, LazyTensor]) -> set[str]:
    """The names that those layers have in the model whose weights in the checkpoint are int8."""
    scale, prefix = ".weight_scale", PREFIX if model.base_model is not model else ""  # all are the backbone's
    return {prefix + name.removeprefix(PREFIX).removesuffix(scale) for name in tensors if name.endswith(scale)}


def _match_names(tensors: Mapping[str, LazyTensor], expected: Mapping[str, Tensor]) -> dict[str, LazyTensor]:
    """The tensors by the model's names: prefix added or taken away, old names replaced."""
    has_prefix = any(name.startswith(PREFIX) for name in tensors)
    wants_prefix = any(name.startswith(PREFIX) for name in expected)
    named = {}
    for name, tensor in tensors.items():
        for old, new in _OLD_NAMES.items():
            if name.endswith(old):
                name = name.removesuffix(old) + new
        if has_prefix and not wants_prefix:
            # A head's name without the prefix may look like a backbone's: it stays marked as what it is.
            name = name.removeprefix(PREFIX) if name.startswith(PREFIX) else _HEAD + name
        elif wants_prefix and not has_prefix and PREFIX + name in expected:
            name = PREFIX + name
        named[name] = tensor
    return named


def _refuse_incomplete(info: LoadingInfo, model: SpeechModel, place: str, ignore_mismatched_sizes: bool) -> None:
    if info.mismatched_keys and not ignore_mismatched_sizes:
        lines = [f"{name} is {have} in the file, {want} in the model" for name, have, want in info.mismatched_keys]
        raise CheckpointError(
            f"{place} doesn't fit {type(model).__name__}: {_listed(lines)}. Change the configuration to match it, or "
            "pass ignore_mismatched_sizes=True to give these weights new starting values."
        )
    is_task = model.base_model is not model
    lost = [
        name
        for name in info.missing_keys
        if (name.startswith(PREFIX) or not is_task)
        and not any(part in name for part in _NEEDLESS)
        and not any(part in name.removeprefix(PREFIX) for part in _OPTIONAL)
    ]
    if lost:
        raise CheckpointError(
            f"{place} lacks weights of the model itself: {_listed(lost)}. It is incomplete, or its config.json isn't "
            "that of these weights."
        )


def _start(model: SpeechModel, absent: set[str], dtype: torch.dtype) -> None:
    """Gives what the checkpoint didn't hold its starting values, and leaves everything else as it is."""
    owners = {id(child): (module, name) for module in model.modules() for name, child in module.named_children()}
    for path, module in model.named_modules():
        held = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
        if not any((f"{path}.{name}" if path else name) in absent for name in held):
            continue
        kept = {}
        for name, tensor in held.items():
            if (f"{path}.{name}" if path else name) not in absent:
                kept[name] = tensor
            _place(module, name, torch.empty_like(tensor, device="cpu", dtype=_full(tensor)))
        owner, attribute = owners.get(id(module), (None, ""))
        initialize_module(module, owner, attribute, model.config.initializer_range)
        for name in held:
            started = getattr(module, name).detach()
            cast = started.is_floating_point() and not isinstance(module, RotaryPositions)
            _place(module, name, kept.get(name, started.to(dtype) if cast else started))


def _full(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.is_floating_point() else tensor.dtype


def _place(module: nn.Module, name: str, tensor: Tensor) -> None:
    if name in module._buffers:
        module._buffers[name] = tensor
    else:
        old = module._parameters[name]
        assert old is not None
        module._parameters[name] = nn.Parameter(tensor.detach(), requires_grad=old.requires_grad)


def report(info: LoadingInfo, model: SpeechModel, place: str) -> None:
    """Warns the caller's caller of parts that start anew and of weights that the model has no place for."""
    unused = info.unexpected_keys
    foreign = [name for name in unused if name.removeprefix(PREFIX).startswith(("encoder.", "feature_projection."))]
    if info.new:
        lack = "no weights of this shape" if info.mismatched_keys else "no weights"
        message = (
            f"{place} has {lack} for these parts of {type(model).__name__}, which start from random values: "
            f"{_listed(info.new)}. Train the model before you use it."
        )
        warnings.warn(f"{message} Not used: {_listed(unused)}." if unused else message, stacklevel=3)
    elif foreign:
        warnings.warn(f"{place} has weights that {type(model).__name__} doesn't: {_listed(unused)}.", stacklevel=3)
    elif unused:
        logger.info("%s: not used by %s: %s", place, type(model).__name__, _listed(unused))


def _listed(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
