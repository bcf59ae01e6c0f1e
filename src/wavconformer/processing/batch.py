"""A batch of model inputs: a dictionary of rows, or of tensors."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from typing_extensions import Self


class BatchFeature(dict[str, Any]):
    """A dictionary of inputs whose entries are attributes too: `batch["input_values"]` is `batch.input_values`.

    data: the entries; a value is a list of rows (lists, arrays, tensors), an array or a tensor.
    tensor_type: 'np' or 'pt' to make arrays or torch tensors of them, as `convert_to_tensors` does.
    """

    def __init__(self, data: Mapping[str, Any] | None = None, tensor_type: str | None = None) -> None:
        super().__init__(data or {})
        self.convert_to_tensors(tensor_type)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            names = ", ".join(self) or "nothing"
            raise AttributeError(f"The batch has no '{name}'; it holds {names}.") from None

    def convert_to_tensors(self, tensor_type: str | None = None) -> Self:
        """Makes every entry of numbers one array ('np') or one torch tensor ('pt'), in place; None leaves all.

        Text entries stay as they are. Raises ValueError where an entry's rows differ in length.
        """
        if tensor_type is None:
            return self
        if tensor_type not in ("np", "pt"):
            raise ValueError(f"return_tensors={str(tensor_type)!r} is unknown: give 'np', 'pt' or None.")
        for key, value in self.items():
            self[key] = _stacked(key, value) if tensor_type == "np" else _tensor(key, value)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Moves all tensors to a device or dtype, in place; takes what `torch.Tensor.to` takes.

        Only floating-point tensors change their dtype: masks and labels stay integers.
        """
        import torch

        placed = [argument for argument in args if not isinstance(argument, torch.dtype)]
        options = {key: value for key, value in kwargs.items() if key != "dtype"}
        moves = bool(placed) or "device" in options

        def move(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                if value.is_floating_point():
                    return value.to(*args, **kwargs)
                return value.to(*placed, **options) if moves else value
            if isinstance(value, (list, tuple)):
                return type(value)(move(item) for item in value)
            return value

        for key, value in self.items():
            self[key] = move(value)
        return self


BatchEncoding = BatchFeature  # what a tokenizer returns is no different


def is_tensor(value: Any) -> bool:
    """Whether the value is a torch tensor; doesn't import torch, for without it there is none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def as_array(value: Any) -> NDArray[Any]:
    """The value as a numpy array: a view of an array or of a CPU tensor, a copy of anything else."""
    if not is_tensor(value):
        return np.asarray(value)
    value = value.detach().cpu()
    if value.is_floating_point() and value.element_size() < 4:  # numpy has no bfloat16
        value = value.float()
    array: NDArray[Any] = value.numpy()
    return array


def columns(features: Mapping[str, Any] | Sequence[Mapping[str, Any]], required: str) -> dict[str, Any]:
    """The entries of a batch by name, from one mapping or from a list with one mapping for each example.

    Raises ValueError where the entry `required` or a mapping at all is missing, or the examples' keys differ.
    """
    if not isinstance(features, Mapping):
        if not features or not all(isinstance(example, Mapping) for example in features):
            raise ValueError(
                f"pad() takes a dictionary with '{required}', or a list of such, one for each example; "
                f"it was given {'an empty list' if not features else f'a {type(features).__name__}'}."
            )
        keys = features[0].keys()
        for index, example in enumerate(features):
            if example.keys() != keys:
                raise ValueError(f"Example {index} has the keys {list(example)}, example 0 has {list(keys)}.")
        features = {key: [example[key] for example in features] for key in keys}
    if required not in features:
        raise ValueError(f"pad() needs '{required}', and was given {list(features) or 'nothing'}.")
    return dict(features)


def _stacked(key: str, value: Any) -> Any:
    """One array of the rows; a value that isn't numbers comes back as it is."""
    if isinstance(value, (list, tuple)) and value and not isinstance(value[0], (str, bytes, Mapping)):
        rows = [as_array(row) for row in value]
        if len({row.shape for row in rows}) > 1:
            lengths = ", ".join(str(len(row)) for row in rows[:4] if row.ndim)
            raise ValueError(
                f"The rows of '{key}' have unequal lengths ({lengths}{', …' if len(rows) > 4 else ''}), so they "
                "make no tensor: pass padding=True, or return_tensors=None for a list of rows."
            )
        stacked = rows[0][None] if len(rows) == 1 else np.stack(rows)
    elif isinstance(value, (str, bytes, Mapping)) or value is None:
        return value
    else:
        stacked = as_array(value)
    return stacked if stacked.dtype.kind in "biufc" else value


def _tensor(key: str, value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return value
    stacked = _stacked(key, value)
    return torch.from_numpy(stacked) if isinstance(stacked, np.ndarray) else stacked
