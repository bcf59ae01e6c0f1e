"""The utterances of a batch one behind the other, so that nothing is computed for its padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from wavconformer.model.lengths import length_mask

# Lines have a multiple of so many frames: then few lengths occur, and what oneDNN prepares for one it finds again.
MULTIPLE = 32

_Move = Callable[[Tensor], Tensor]


class Packing:
    """Where each utterance of a batch (B, T, …) lies on a line (1, L, …): in order, without a gap.

    After the last there may be frames that belong to none. What a layer does to each frame by itself it does to the
    line as it is; what looks at other frames goes through `apart`, `spread`, or `unpack` and `pack`.
    """

    def __init__(self, lengths: Sequence[int], frames: int, multiple: int = MULTIPLE) -> None:
        """`lengths`: real frames of each utterance. frames: T. multiple: of so many frames is a line."""
        self.lengths = tuple(lengths)
        self.frames = frames
        self.multiple = multiple
        self.spare = -sum(self.lengths) % multiple
        self._layouts: dict[int | None, _Layout] = {}

    def pack(self, x: Tensor) -> Tensor:
        """(B, T, …) → (1, L, …)."""
        return _take(x.flatten(0, 1), self._batch(x.device))[None]

    def unpack(self, line: Tensor) -> Tensor:
        """(1, L, …) → (B, T, …), zero on padding."""
        return _put(line[0], self._batch(line.device)).view(len(self.lengths), self.frames, *line.shape[2:])

    def mask(self, device: torch.device) -> Tensor:
        """The real frames of the batch, (B, T)."""
        return length_mask(torch.tensor(self.lengths, device=device), self.frames)

    def repeat(self, x: Tensor) -> Tensor:
        """What is the same for all utterances, (T, …), for each of them: (L, …)."""
        return torch.cat([*(x[:length] for length in self.lengths), x[:1].expand(self.spare, *x.shape[1:])])

    def apart(self, line: Tensor, dim: int) -> tuple[Tensor, ...]:
        """The utterances of a line, each by itself."""
        return torch.split(line, [*self.lengths, self.spare], dim)[:-1]

    def together(self, parts: Sequence[Tensor], dim: int) -> Tensor:
        """The line that was taken apart."""
        shape = list(parts[0].shape)
        shape[dim] = self.spare
        return torch.cat([*parts, parts[0].new_zeros(shape)], dim)

    def spread(self, line: Tensor, reach: int, function: Callable[[Tensor], Tensor]) -> Tensor:
        """What a function makes of the line (1, L, D) that sees `reach` frames to both sides: (1, L, D).

        It finds zeros there, as at the ends of an utterance that is alone.
        """
        layout = self._spread(reach, line.device)
        return _take(function(_put(line[0], layout)[None])[0], layout)[None]

    def _batch(self, device: torch.device) -> _Layout:
        """The rows of the batch, B · T of them."""
        if None not in self._layouts:
            starts = range(0, self.frames * len(self.lengths), self.frames)
            self._layouts[None] = self._layout(starts, starts.stop, device)
        return self._layouts[None]

    def _spread(self, reach: int, device: torch.device) -> _Layout:
        """The line where `reach` frames more follow each utterance."""
        if reach not in self._layouts:
            *starts, count = accumulate((length + reach for length in self.lengths), initial=0)
            self._layouts[reach] = self._layout(starts, rounded(count, self.multiple), device)
        return self._layouts[reach]

    def _layout(self, starts: Sequence[int], size: int, device: torch.device) -> _Layout:
        runs = [torch.arange(start, start + length) for start, length in zip(starts, self.lengths, strict=True)]
        return _Layout(torch.cat(runs).to(device), size, self.spare)


class _Layout:
    """Another order of a line's frames, with rows between them that hold none.

    places: (N,) the row of each frame. size: rows in all. spare: frames at the line's end that have no row.
    """

    def __init__(self, places: Tensor, size: int, spare: int) -> None:
        self.count = len(places)
        self.places = torch.cat([places, places.new_zeros(spare)])
        self.frames = places.new_full((size,), self.count)
        self.frames[places] = torch.arange(self.count, device=places.device)

    def put(self, line: Tensor) -> Tensor:
        """(L, …) → (size, …), zeros in rows that hold no frame."""
        return torch.cat([line[: self.count], line.new_zeros(1, *line.shape[1:])]).index_select(0, self.frames)

    def take(self, rows: Tensor) -> Tensor:
        """(size, …) → (L, …)."""
        return rows.index_select(0, self.places)


class _Rearranged(torch.autograd.Function):
    """A layout's `put` or `take`: where no frame is spare each is the other's gradient.

    PyTorch's own gradient of such a selection adds row by row, since rows could be selected twice.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: _Move, back: _Move) -> Tensor:
        ctx.back = back
        return there(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.back(gradients[0]), None, None


def _put(line: Tensor, layout: _Layout) -> Tensor:
    rows: Tensor = _Rearranged.apply(line, layout.put, layout.take)  # type: ignore[no-untyped-call]
    return rows


def _take(rows: Tensor, layout: _Layout) -> Tensor:
    line: Tensor = _Rearranged.apply(rows, layout.take, layout.put)  # type: ignore[no-untyped-call]
    return line


def rounded(count: int, multiple: int = MULTIPLE) -> int:
    """The next multiple."""
    return -(-count // multiple) * multiple
