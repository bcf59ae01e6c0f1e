"""PyTorch's layers without their own starting values.

`initialization` gives every parameter its value, so drawing others first is work for nothing; and a model whose weights
come from a file is built without touching them at all.
"""

from __future__ import annotations

from torch import nn


class Linear(nn.Linear):
    """`nn.Linear` whose weights are left as allocated."""

    def reset_parameters(self) -> None:
        """Does nothing: see the module's docstring."""


class Conv1d(nn.Conv1d):
    """`nn.Conv1d` whose weights are left as allocated."""

    def reset_parameters(self) -> None:
        """Does nothing: see the module's docstring."""


class LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` whose weights are left as allocated."""

    def reset_parameters(self) -> None:
        """Does nothing: see the module's docstring."""
