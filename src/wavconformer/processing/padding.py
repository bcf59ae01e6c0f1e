"""What the padding and truncation arguments of the feature extractor and of the tokenizer mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Strategy = Literal["longest", "max_length", "do_not_pad"]


def padding_strategy(padding: bool | str | None) -> Strategy:
    """The strategy that a `padding` argument names; ValueError for an unknown one."""
    if padding is True or padding == "longest":
        return "longest"
    if padding == "max_length":
        return "max_length"
    if padding is False or padding is None or padding == "do_not_pad":
        return "do_not_pad"
    raise ValueError(f"padding={padding!r} is unknown: give True or 'longest', 'max_length', or False.")


def truncates(truncation: bool | str | None) -> bool:
    """Whether a `truncation` argument asks for it; ValueError for an unknown one."""
    if truncation is True or truncation in ("longest_first", "only_first"):
        return True
    if truncation is False or truncation is None or truncation == "do_not_truncate":
        return False
    raise ValueError(f"truncation={truncation!r} is unknown: give True or False.")


def check_lengths(max_length: int | None, multiple: int | None) -> None:
    """Refuses, with ValueError, a `max_length` or `pad_to_multiple_of` below 1."""
    for name, value in (("max_length", max_length), ("pad_to_multiple_of", multiple)):
        if value is not None and value < 1:
            raise ValueError(f"{name}={value}: it must be 1 or more.")


def check_side(name: str, side: str) -> str:
    """The side, 'left' or 'right'; ValueError for anything else, with the argument's name."""
    if side not in ("left", "right"):
        raise ValueError(f"{name}={side!r}: it must be 'right' or 'left'.")
    return side


def round_up(length: int, multiple: int | None) -> int:
    """The length itself, or the next multiple above it."""
    return length if multiple is None else -(-length // multiple) * multiple


def padded_lengths(
    lengths: Sequence[int], strategy: Strategy, max_length: int | None, multiple: int | None
) -> list[int]:
    """The length of each row after padding; a row beyond `max_length` keeps its own.

    max_length: the target of the strategy 'max_length', which must have one.
    multiple: what the target is rounded up to.
    """
    if strategy == "do_not_pad" or not lengths:
        return list(lengths)
    target = max(lengths) if strategy == "longest" or max_length is None else max_length
    target = round_up(target, multiple)
    return [max(length, target) for length in lengths]


def span(length: int, width: int, side: str) -> slice:
    """Where the real entries of a row of `length` stand once it is padded to `width` on `side`."""
    return slice(width - length, width) if side == "left" else slice(0, length)
