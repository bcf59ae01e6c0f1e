"""Which frames are hidden, and which serve as distractors: SpecAugment and the contrastive task's draws."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavconformer.config import Wav2Vec2ConformerConfig


def compute_mask_indices(
    shape: tuple[int, int],
    mask_prob: float,
    mask_length: int,
    attention_mask: Tensor | NDArray[np.integer] | None = None,
    min_masks: int = 0,
    generator: np.random.Generator | None = None,
) -> NDArray[np.bool_]:
    """Draws spans to mask, as SpecAugment (arXiv 1904.08779) and wav2vec 2.0 (arXiv 2006.11477, appendix A) do.

    shape: (B, T), or (B, D) for masks over features.
    mask_prob: share of the axis to mask, were there no overlaps; the number of spans is
        mask_prob · length / mask_length, rounded up or down at random.
    mask_length: length of a span.
    attention_mask: (B, T) of ones and zeros; a row's spans lie within its first sum(row) positions.
    min_masks: the fewest spans in a row, where they fit.
    generator: source of randomness; numpy's global one by default.

    Returns a boolean array of that shape, True where masked. A row shorter than a span has none.
    Raises ValueError for a span shorter than 1 or longer than the axis.
    """
    rows, size = shape
    if mask_length < 1:
        raise ValueError(f"mask_length is {mask_length}, but a span has at least one position.")
    if mask_length > size:
        raise ValueError(f"mask_length is {mask_length}, but the axis to mask has only {size} positions.")
    random = np.random if generator is None else generator
    lengths = [size] * rows if attention_mask is None else [int(row.sum()) for row in attention_mask]
    rounding = float(random.random())
    mask = np.zeros(shape, dtype=np.bool_)
    for row, length in enumerate(lengths):
        starts = length - mask_length + 1
        spans = max(int(mask_prob * length / mask_length + rounding), min_masks)
        spans = max(min(spans, size // mask_length, starts), 0)
        if spans:
            first = random.choice(starts, spans, replace=False)
            mask[row, first[:, None] + np.arange(mask_length)] = True
    return mask


def sample_negative_indices(
    features_shape: tuple[int, int],
    num_negatives: int,
    mask_time_indices: NDArray[np.bool_] | None = None,
    generator: np.random.Generator | None = None,
) -> NDArray[np.int32]:
    """Draws distractors for the contrastive task (arXiv 2006.11477, section 3.2).

    For each masked frame `num_negatives` others are drawn uniformly, with replacement, among the masked frames of
    the same utterance.

    features_shape: (B, T). mask_time_indices: (B, T), True where masked; None for all frames.
    generator: source of randomness; numpy's global one by default.

    Returns (B, T, N) positions in the flattened B · T frames; on frames that aren't masked they mean nothing.
    Raises ValueError where an utterance has one masked frame alone: it has no other to be told from.
    """
    rows, frames = features_shape
    masked = np.ones(features_shape, np.bool_) if mask_time_indices is None else np.asarray(mask_time_indices, bool)
    indices = np.zeros((rows, frames, num_negatives), dtype=np.int32)
    for row in range(rows):
        positions = np.flatnonzero(masked[row])
        count = len(positions)
        if count == 1:
            raise ValueError(
                f"Utterance {row} has a single masked frame, and no other to draw negatives from. Mask longer "
                "spans or leave such short utterances out."
            )
        if count:
            integers = np.random.randint if generator is None else generator.integers
            others = integers(0, count - 1, size=(count, num_negatives))
            # Skip the frame itself: what lies at or above it moves up by one.
            others += others >= np.arange(count)[:, None]
            indices[row, positions] = positions[others]
        indices[row] += row * frames
    return indices


def spec_augment(
    hidden: Tensor,
    masked_spec_embed: Tensor | None,
    config: Wav2Vec2ConformerConfig,
    mask: Tensor | None,
    mask_time_indices: Tensor | None,
    training: bool,
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Masks hidden states (B, T, D): the given frames, or in training drawn frames and features.

    mask: (B, T), True on real frames. mask_time_indices: (B, T) frames to hide behind `masked_spec_embed` (D,).
    """
    if not config.apply_spec_augment:
        return hidden
    rows, frames, size = hidden.shape
    if mask_time_indices is None and training and config.mask_time_prob > 0 and config.mask_time_length <= frames:
        drawn = compute_mask_indices(
            (rows, frames),
            config.mask_time_prob,
            config.mask_time_length,
            None if mask is None else mask.cpu(),
            config.mask_time_min_masks,
            generator,
        )
        mask_time_indices = torch.from_numpy(drawn)
    if mask_time_indices is not None:
        if mask_time_indices.shape != (rows, frames):
            raise ValueError(
                f"mask_time_indices has the shape {tuple(mask_time_indices.shape)}, but the audio makes "
                f"{frames} frames for each of {rows} utterances."
            )
        if masked_spec_embed is None:
            raise ValueError(
                "mask_time_indices was given, but the model has no masked_spec_embed to put there, as both "
                "mask_time_prob and mask_feature_prob are 0 in its configuration."
            )
        chosen = mask_time_indices.to(hidden.device, torch.bool)[..., None]
        hidden = torch.where(chosen, masked_spec_embed.to(hidden.dtype), hidden)
    if training and config.mask_feature_prob > 0 and config.mask_feature_length <= size:
        features = compute_mask_indices(
            (rows, size),
            config.mask_feature_prob,
            config.mask_feature_length,
            min_masks=config.mask_feature_min_masks,
            generator=generator,
        )
        hidden = hidden.masked_fill(torch.from_numpy(features).to(hidden.device)[:, None], 0.0)
    return hidden


# Under the names that programs for the Hugging Face package import.
_compute_mask_indices = compute_mask_indices
_sample_negative_indices = sample_negative_indices
