"""What is computed faster without autograd is what autograd's way computes."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch.nn import functional as F

from model.builders import build
from wavconformer.model import attention, feature_encoder
from wavconformer.model.convolution import depthwise_convolution, strided_convolution


@pytest.mark.parametrize("kernel", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("has_bias", [True, False])
def test_both_ways_of_a_strided_convolution(kernel, stride, channels, has_bias):
    torch.manual_seed(0)
    x, weight = torch.randn(3, 47, channels), torch.randn(6, channels, kernel)
    bias = torch.randn(6) if has_bias else None
    expected = F.conv1d(x.transpose(1, 2), weight, bias, stride=stride).transpose(1, 2)
    torch.testing.assert_close(strided_convolution(x, weight, bias, stride), expected, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(strided_convolution(x, weight, bias, stride), expected, atol=1e-5, rtol=1e-5)
        one = strided_convolution(x[1:2, 3:], weight, bias, stride)  # a view that starts within its storage
    torch.testing.assert_close(
        one, F.conv1d(x[1:2, 3:].transpose(1, 2), weight, bias, stride=stride).transpose(1, 2), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("frames", [1, 2, 30])
@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_depthwise_convolution_and_its_gradients(frames, kernel):
    torch.manual_seed(0)
    x = torch.randn(2, frames, 6, requires_grad=True)
    weight = torch.randn(6, 1, kernel, requires_grad=True)
    bias = torch.randn(6, requires_grad=True)
    expected = F.conv1d(x.transpose(1, 2), weight, bias, padding=kernel // 2, groups=6).transpose(1, 2)
    found = depthwise_convolution(x, weight, bias)
    torch.testing.assert_close(found, expected)
    direction = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, (x, weight, bias), direction),
        torch.autograd.grad(expected, (x, weight, bias), direction),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("piece", [1, 7, 40, 10_000])
@pytest.mark.parametrize("samples", [400, 3_217, 8_000])
def test_the_waveform_in_pieces_is_the_waveform_whole(monkeypatch, piece, samples):
    model = build("Model", feat_extract_norm="layer")
    audio = torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    expected = model.feature_extractor(audio, None).detach()
    monkeypatch.setattr(feature_encoder, "FIRST_PIECE", piece)
    with torch.no_grad():
        assert model.feature_extractor._may_go_in_pieces(audio)
        torch.testing.assert_close(model.feature_extractor(audio, None), expected, atol=1e-5, rtol=1e-5)


def test_a_norm_over_time_never_goes_in_pieces():
    model = build("Model", feat_extract_norm="group")
    with torch.no_grad():
        assert not model.feature_extractor._may_go_in_pieces(torch.zeros(1, 400))


def run(model, frames):
    audio = torch.randn(1, 400 + 320 * (frames - 1), generator=torch.Generator().manual_seed(frames))
    expected = model(audio).last_hidden_state.detach()  # with autograd nothing is kept
    with torch.no_grad():
        torch.testing.assert_close(model(audio).last_hidden_state, expected, atol=1e-5, rtol=1e-5)


def kept(model):
    return [layer.self_attn._kept for layer in model.encoder.layers]


def test_projected_positions_are_kept_and_right():
    model = build("Model", position_embeddings_type="relative")
    assert kept(model) == [None, None]
    run(model, 20)
    first = kept(model)[0][1]
    assert first.shape[2] == 39
    run(model, 7)  # the middle of what was kept
    assert kept(model)[0][1] is first
    run(model, 31)
    assert kept(model)[0][1].shape[2] == 61


def test_changed_weights_make_kept_positions_anew():
    model = build("Model", position_embeddings_type="relative")
    run(model, 12)
    with torch.no_grad():
        model.encoder.layers[0].self_attn.linear_pos.weight.mul_(-2)
    run(model, 12)
    other = build("Model", position_embeddings_type="relative", seed=1)
    model.load_state_dict(other.state_dict(), assign=True)
    run(model, 12)
    model.double()
    audio = torch.randn(1, 4_000).double()
    expected = model(audio).last_hidden_state.detach()
    with torch.no_grad():
        torch.testing.assert_close(model(audio).last_hidden_state, expected)


def test_training_drops_kept_positions_and_copies_have_none():
    model = build("Model", position_embeddings_type="relative")
    run(model, 12)
    assert kept(copy.deepcopy(model)) == kept(pickle.loads(pickle.dumps(model))) == [None, None]  # noqa: S301
    assert kept(model) != [None, None]
    model.train()
    assert kept(model) == [None, None]


def test_long_positions_are_not_kept(monkeypatch):
    monkeypatch.setattr(attention, "KEPT_FRAMES", 5)
    model = build("Model", position_embeddings_type="relative")
    run(model, 12)
    assert kept(model) == [None, None]


def test_weights_made_in_inference_mode_work():
    with torch.inference_mode():
        model = build("Model", position_embeddings_type="relative")
        assert model(torch.randn(1, 4_000)).last_hidden_state.isfinite().all()
