"""The utterances of a batch one behind the other, so that nothing is computed for its padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from torch import Tensor

# Lines have a multiple of so many frames: then few lengths occur, and what oneDNN prepares for one it finds again.
MULTIPLE = 32


class Packing:
    """Where each utterance of a batch (B, T, …) lies on a line (1, L, …): in order, without a gap.

    After the last there may be frames that belong to none. What a layer does to each frame by itself it does to the
    line as it is; what looks at other frames goes through `apart` or `spread`.
    """

    def __init__(self, lengths: Sequence[int], frames: int) -> None:
        """`lengths`: real frames of each utterance. frames: T."""
        self.lengths = tuple(lengths)
        self.frames = frames
        self.spare = -sum(self.lengths) % MULTIPLE
        self._places: dict[int, Tensor] = {}

    def pack(self, x: Tensor) -> Tensor:
        """(B, T, …) → (1, L, …)."""
        rows = [row[:length] for row, length in zip(x, self.lengths, strict=True)]
        return torch.cat([*rows, x.new_zeros(self.spare, *x.shape[2:])])[None]

    def unpack(self, line: Tensor) -> Tensor:
        """(1, L, …) → (B, T, …), zero on padding."""
        x = line.new_zeros(len(self.lengths), self.frames, *line.shape[2:])
        for row, part in zip(x, self.apart(line[0], 0), strict=True):
            row[: len(part)] = part
        return x

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
        places = self._spread_places(reach, line.device)
        count = sum(self.lengths)
        wide = line.new_zeros(rounded(count + reach * len(self.lengths)), line.shape[2])
        wide.index_copy_(0, places[:count], line[0, :count])
        return function(wide[None])[0].index_select(0, places)[None]

    def _spread_places(self, reach: int, device: torch.device) -> Tensor:
        """Where each frame of the line stands when `reach` zeros follow each utterance (L,)."""
        if reach not in self._places:
            starts = accumulate((length + reach for length in self.lengths), initial=0)
            runs = [torch.arange(start, start + length) for start, length in zip(starts, self.lengths, strict=False)]
            self._places[reach] = torch.cat([*runs, torch.zeros(self.spare, dtype=torch.long)]).to(device)
        return self._places[reach]


def rounded(count: int) -> int:
    """The next multiple of MULTIPLE."""
    return -(-count // MULTIPLE) * MULTIPLE
