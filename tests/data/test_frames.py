from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavconformer import Wav2Vec2ConformerConfig
from wavconformer.data.frames import ctc_frames, encoder_frames, output_frames
from wavconformer.model.lengths import adapter_length, encoder_length

CONFIGS = [
    Wav2Vec2ConformerConfig(),
    Wav2Vec2ConformerConfig(add_adapter=True),
    Wav2Vec2ConformerConfig(add_adapter=True, num_adapter_layers=1, adapter_kernel_size=4, adapter_stride=3),
    Wav2Vec2ConformerConfig(conv_dim=(8, 8, 8), conv_kernel=(11, 4, 2), conv_stride=(7, 3, 2)),
]


@given(samples=st.integers(0, 200_000), config=st.sampled_from(CONFIGS))
def test_frames_are_those_of_the_model(samples, config):
    frames = encoder_frames(samples, config)
    assert frames == max(0, int(encoder_length(samples, config)))
    if frames and config.add_adapter:
        assert output_frames(samples, config) == max(0, int(adapter_length(frames, config)))
    elif frames:
        assert output_frames(samples, config) == frames


@pytest.mark.parametrize(("labels", "frames"), [("", 0), ("A", 1), ("AB", 2), ("AA", 3), ("AABBB", 8), ([4, 4, 5], 4)])
def test_repeated_labels_need_a_blank_between(labels, frames):
    assert ctc_frames(labels) == frames
