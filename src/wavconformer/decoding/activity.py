"""Who speaks in each frame, as a frame head's labels say it: one label a speaker, or one label a set of speakers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.errors import ConfigError

NOBODY = "nobody"
"""Name of the label of frames in which nobody speaks."""
AND = "+"
"""Parts the names of those who speak at once, in a label's name."""


@dataclass(frozen=True)
class SpeakerLabels:
    """How the labels of a frame head are to be read; which speaker is which is decided anew in each recording.

    names: of the K speakers. sets: (V, K) which of them each label means; None where each label is a speaker, and
    several are true at once.
    """

    names: tuple[str, ...]
    sets: NDArray[np.bool_] | None

    @classmethod
    def of(cls, config: Wav2Vec2ConformerConfig) -> SpeakerLabels:
        """As `problem_type` says: with "single_label_classification" one label is true in a frame, and is a set of
        speakers (the powerset of arXiv 2310.13025): id2label names it "nobody", "A", "B", "A+B" and so on. Else each
        label is a speaker (multi-label, as the Hugging Face head is used).

        Raises ConfigError where the labels' names are no such sets, or the head is one for regression.
        """
        named = config.id2label or {}
        labels = tuple(named[number] for number in range(len(named)))
        if config.problem_type == "regression":
            raise ConfigError("A head for regression doesn't say who speaks: problem_type must name classes.")
        if config.problem_type != "single_label_classification":
            return cls(labels, None)
        parts = [() if label == NOBODY else tuple(label.split(AND)) for label in labels]
        names = tuple(dict.fromkeys(name for part in parts for name in part))
        sets = np.array([[name in part for name in names] for part in parts], bool)
        if NOBODY not in labels or not names or len(np.unique(sets, axis=0)) < len(sets):
            raise ConfigError(
                f"The labels {', '.join(labels)} don't say who speaks: with problem_type "
                f"'single_label_classification' id2label must name sets of speakers, such as {NOBODY}, A, B, A{AND}B."
            )
        alone = sets[sets.sum(1) == 1]
        if len(alone) < len(names) or not all(
            (sets[:, None, :] == sets[None, :, order]).all(-1).any(1).all() for order in _swaps(len(names))
        ):
            raise ConfigError(
                f"The labels {', '.join(labels)} treat the speakers unequally: each must be there alone, and with "
                "each other as the others are."
            )
        return cls(names, sets)

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, V) → (T, K) how likely each speaks: the sum over the sets that each is in."""
        logits = logits.astype(np.float32)
        if self.sets is None:
            return np.asarray(1 / (1 + np.exp(-np.clip(logits, -60, 60))), np.float32)
        shares = np.exp(logits - logits.max(-1, keepdims=True))
        return np.asarray(shares @ self.sets / shares.sum(-1, keepdims=True), np.float32)

    def active(self, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(T, V) → (T, K) who speaks: the likeliest set, or each whose probability is more than one half."""
        if self.sets is None:
            return np.asarray(logits > 0)
        return np.asarray(self.sets[logits.argmax(-1)])


def _swaps(count: int) -> list[list[int]]:
    """Exchanges of two neighbours; all orders are made of them."""
    orders = []
    for first in range(count - 1):
        order = list(range(count))
        order[first], order[first + 1] = order[first + 1], order[first]
        orders.append(order)
    return orders
