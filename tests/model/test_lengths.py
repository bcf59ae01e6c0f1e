"""Samples to frames, and what is too short."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn

from wavconformer import Wav2Vec2ConformerConfig
from wavconformer.model.lengths import (
    ADAPTER_PADDING,
    adapter_length,
    conv_length,
    encoder_length,
    least_adapter_frames,
    least_samples,
    least_tdnn_frames,
    length_mask,
    masked_mean,
    masked_std,
    sample_lengths,
    tdnn_length,
)

from .builders import build, build_pair, noise

many = hypothesis_settings(max_examples=100, deadline=None)
DEFAULT = Wav2Vec2ConformerConfig()


@many
@given(
    length=st.integers(1, 60),
    kernel=st.integers(1, 9),
    stride=st.integers(1, 5),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 4),
)
def test_conv_length_is_what_a_convolution_makes(
    length: int, kernel: int, stride: int, padding: int, dilation: int
) -> None:
    expected = conv_length(length, kernel, stride, padding, dilation)
    assert conv_length(torch.tensor([length]), kernel, stride, padding, dilation).tolist() == [expected]
    if expected > 0:
        convolution = nn.Conv1d(1, 1, kernel, stride, padding, dilation)
        assert convolution(torch.zeros(1, 1, length)).shape[-1] == expected
    else:
        assert length + 2 * padding < dilation * (kernel - 1) + 1


@st.composite
def configurations(draw: st.DrawFn) -> Wav2Vec2ConformerConfig:
    layers, tdnn_layers = draw(st.integers(1, 5)), draw(st.integers(1, 4))

    def entries(most: int, count: int) -> list[int]:
        return draw(st.lists(st.integers(1, most), min_size=count, max_size=count))

    return Wav2Vec2ConformerConfig(
        conv_dim=[4] * layers,
        conv_kernel=entries(10, layers),
        conv_stride=entries(5, layers),
        num_adapter_layers=draw(st.integers(0, 3)),
        adapter_kernel_size=draw(st.integers(1, 6)),
        adapter_stride=draw(st.integers(1, 3)),
        tdnn_dim=[4] * tdnn_layers,
        tdnn_kernel=entries(5, tdnn_layers),
        tdnn_dilation=entries(3, tdnn_layers),
    )


@many
@given(config=configurations(), frames=st.integers(1, 20))
def test_the_least_is_enough_and_nothing_less_is(config: Wav2Vec2ConformerConfig, frames: int) -> None:
    samples = least_samples(config, frames)
    assert encoder_length(samples, config) == frames
    assume(samples > 1)
    assert encoder_length(samples - 1, config) < frames

    before = least_adapter_frames(config, frames)
    assert adapter_length(before, config) >= frames
    if before > 1:
        assert adapter_length(before - 1, config) < frames

    assert tdnn_length(least_tdnn_frames(config), config) == 2


def test_the_published_numbers() -> None:
    """A frame sees 400 samples, the next begins 320 later; the TDNN loses 14 frames."""
    assert least_samples(DEFAULT) == 400
    assert [encoder_length(samples, DEFAULT) for samples in (399, 400, 719, 720, 16_000)] == [0, 1, 1, 2, 49]
    assert tdnn_length(15, DEFAULT) == 1
    assert least_tdnn_frames(DEFAULT) == 16
    assert ADAPTER_PADDING == 1


@pytest.mark.parametrize("adapter", [False, True], ids=["plain", "adapter"])
def test_lengths_agree_with_the_oracle(adapter: bool) -> None:
    ours, oracle = build_pair("Model", add_adapter=adapter, num_adapter_layers=3)
    samples = torch.arange(400, 12_000, 7).view(-1, 2)
    for counted in (None, True, False):
        expected = oracle._get_feat_extract_output_lengths(samples, add_adapter=counted)
        assert torch.equal(ours.feature_lengths(samples, add_adapter=counted), expected)
        assert torch.equal(ours._get_feat_extract_output_lengths(samples, add_adapter=counted), expected)


def test_a_number_gives_a_tensor_as_the_documented_example_needs() -> None:
    ours, oracle = build_pair("ForPreTraining")
    assert ours._get_feat_extract_output_lengths(16_000).item() == 49
    assert oracle._get_feat_extract_output_lengths(16_000).item() == 49


@pytest.mark.parametrize("adapter", [{}, {"adapter_kernel_size": 5}, {"adapter_kernel_size": 1}], ids=str)
@torch.no_grad()
def test_lengths_are_those_of_the_output(adapter: dict[str, Any]) -> None:
    """With an adapter kernel other than 3 the oracle's formula is wrong."""
    for config in ({}, {"add_adapter": True, **adapter}):
        model = build("Model", **config)
        for samples in (3000, 4321, 8000, 8001):
            frames = int(model.feature_lengths(samples))
            assert model(noise(1, samples)).last_hidden_state.shape[1] == frames


@torch.no_grad()
def test_tdnn_lengths_count_the_dilation() -> None:
    """The oracle's leave it out, and pool over frames that aren't there."""
    model = build("ForXVector", tdnn_kernel=(3, 3, 2), tdnn_dilation=(1, 2, 3))
    hidden = noise(1, 20, 10)
    for layer in model.tdnn:
        hidden = layer(hidden)
    assert model.tdnn_lengths(20) == hidden.shape[1] == 20 - 2 - 4 - 3
    assert model._get_tdnn_output_lengths(torch.tensor([20, 16])).tolist() == [11, 7]


# --- masks


def test_a_full_mask_is_no_mask() -> None:
    assert sample_lengths(noise(2, 500), torch.ones(2, 500), least=400) is None
    lengths = sample_lengths(noise(2, 500), torch.arange(500) < torch.tensor([[450], [500]]), least=400)
    assert lengths is not None
    assert lengths.tolist() == [450, 500]


@many
@given(lengths=st.lists(st.integers(0, 12), min_size=1, max_size=4))
def test_length_mask(lengths: list[int]) -> None:
    mask = length_mask(torch.tensor(lengths), 12)
    assert mask.sum(1).tolist() == lengths
    assert all((row[:length]).all() for row, length in zip(mask, lengths, strict=True))


@many
@given(lengths=st.lists(st.integers(2, 12), min_size=1, max_size=4), seed=st.integers(0, 999))
def test_pooling_over_the_real_frames(lengths: list[int], seed: int) -> None:
    x = noise(len(lengths), 12, 3, seed=seed)
    mask = length_mask(torch.tensor(lengths), 12)
    for row, length in enumerate(lengths):
        real = x[row, :length]
        torch.testing.assert_close(masked_mean(x, mask)[row], real.mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(masked_std(x, mask)[row], real.std(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(masked_mean(x, None), x.mean(1))
    torch.testing.assert_close(masked_std(x, None), x.std(1))
