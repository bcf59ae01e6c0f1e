"""How many frames audio makes and a text needs, in plain numbers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from wavconformer.config import Wav2Vec2ConformerConfig


def encoder_frames(samples: int, config: Wav2Vec2ConformerConfig) -> int:
    """Frames of the feature encoder of so many samples; 0 where they are too few."""
    if samples < config.receptive_field:
        return 0
    return (samples - config.receptive_field) // config.inputs_to_logits_ratio + 1


def output_frames(samples: int, config: Wav2Vec2ConformerConfig) -> int:
    """Frames at the model's end, behind its convolutional adapter if it has one."""
    frames = encoder_frames(samples, config)
    if config.add_adapter:
        for _ in range(config.num_adapter_layers):
            frames = max(0, (frames + 2 - config.adapter_kernel_size) // config.adapter_stride + 1)
    return frames


def ctc_frames(ids: Sequence[int] | str) -> int:
    """The fewest frames that CTC can align labels to: one each, and a blank between two that are equal."""
    return len(ids) + sum(one == other for one, other in itertools.pairwise(ids))
