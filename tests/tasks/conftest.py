"""Small speaker models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from wavconformer import Wav2Vec2ConformerConfig, Wav2Vec2ConformerForXVector, Wav2Vec2FeatureExtractor


def save_speaker_model(folder: Path, seed: int = 0, **settings: object) -> Path:
    """A speaker model of random weights, whose vectors are good enough to be counted and compared."""
    torch.manual_seed(seed)
    config = Wav2Vec2ConformerConfig(
        **{
            "conv_dim": [16, 16],
            "conv_kernel": [400, 3],
            "conv_stride": [160, 2],
            "feat_extract_norm": "layer",
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "conv_depthwise_kernel_size": 5,
            "num_conv_pos_embeddings": 4,
            "num_conv_pos_embedding_groups": 4,
            "position_embeddings_type": "rotary",
            "tdnn_dim": [16, 16],
            "tdnn_kernel": [5, 3],
            "tdnn_dilation": [1, 2],
            "xvector_output_dim": 24,
            "num_labels": 3,
            **settings,
        }
    )
    Wav2Vec2ConformerForXVector(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    return folder


@pytest.fixture
def make_speaker_model(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with a speaker model of those settings."""
    return lambda **settings: save_speaker_model(tmp_path / "model", **settings)


@pytest.fixture(scope="session")
def speaker_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small speaker model; no test may write to it."""
    return save_speaker_model(tmp_path_factory.mktemp("speakers") / "model")
