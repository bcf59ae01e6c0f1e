"""What is computed faster without autograd is what autograd's way computes."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch.nn import functional as F

from model.builders import build
from wavconformer.model import attention, convolution, feature_encoder, layers, reference
from wavconformer.model import linear as linear_module
from wavconformer.model.convolution import depthwise_convolution, strided_convolution
from wavconformer.model.linear import linear


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


@pytest.mark.parametrize("kernel", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("has_bias", [True, False])
def test_gradients_of_a_strided_convolution(kernel, stride, channels, has_bias):
    random = torch.Generator().manual_seed(0)

    def leaf(*shape):
        return torch.randn(shape, generator=random, dtype=torch.float64).requires_grad_()

    inputs = [leaf(3, 47, channels), leaf(6, channels, kernel)] + ([leaf(6)] if has_bias else [])
    bias = inputs[2] if has_bias else None
    found = strided_convolution(inputs[0], inputs[1], bias, stride)
    expected = reference.strided_convolution(inputs[0], inputs[1], bias, stride)
    torch.testing.assert_close(found, expected)
    direction = torch.randn(expected.shape, generator=random, dtype=torch.float64)
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs, direction), torch.autograd.grad(expected, inputs, direction), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_a_strided_convolution_keeps_its_input_alone_for_the_backward_pass():
    x, weight = torch.randn(1, 400, 8, requires_grad=True), torch.randn(8, 8, 3, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda x: x):
        strided_convolution(x, weight, None, 2)
    assert sorted(kept) == [weight.numel(), x.numel()]


def test_large_products_go_through_onednn_and_are_right(monkeypatch):
    called = []
    monkeypatch.setattr(linear_module, "_suits_onednn", lambda x: called.append(x) or True)
    x, weight, bias = torch.randn(2, 300, 256), torch.randn(512, 256), torch.randn(512)
    expected = F.linear(x, weight, bias)
    torch.testing.assert_close(linear(x, weight, bias), expected)
    assert not called  # autograd looks on
    with torch.no_grad():
        linear(x[:, :9], weight, bias)
        assert not called  # too small to be worth it
        torch.testing.assert_close(linear(x, weight, bias), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(linear(x, weight), F.linear(x, weight), atol=1e-4, rtol=1e-4)
        assert len(called) == 4
        few = x[:, :16]  # as lines of packed utterances have: few products are of another number of rows
        torch.testing.assert_close(linear(few, weight, bias), F.linear(few, weight, bias), atol=1e-4, rtol=1e-4)
        assert len(called) == 6


def test_what_onednn_is_given():
    assert torch.backends.mkldnn.is_available()
    x, weight = torch.randn(600, 256), torch.randn(512, 256)
    with torch.no_grad(), torch.profiler.profile() as profile:
        linear(x, weight)
    assert any("_linear_pointwise" in event.name for event in profile.events())


def test_functional_transforms_see_ordinary_operations(monkeypatch):
    monkeypatch.setattr(attention, "QUERY_BLOCK", 4)
    monkeypatch.setattr(linear_module, "LEAST_PRODUCT", 0)
    model = build("Model", position_embeddings_type="relative")
    audio = torch.randn(1, 4_000)

    def loss(x):
        return model(x).last_hidden_state.square().sum()

    leaf = audio.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(loss)(audio), expected, atol=1e-4, rtol=1e-4)
    x, weight = torch.randn(5, 8), torch.randn(6, 8)
    with torch.no_grad():
        _, tangent = torch.func.jvp(lambda x: linear(x, weight), (x,), (torch.ones_like(x),))
    torch.testing.assert_close(tangent, torch.ones_like(x) @ weight.t())


def test_the_feature_encoder_on_the_meta_device():
    encoder = build("Model").feature_extractor.to("meta")
    assert encoder(torch.zeros(1, 4_000, device="meta"), None).shape == (1, 12, 14)


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(2, 3, dtype=torch.float16),
        torch.zeros(3, 2).t(),
        torch.zeros(0, 3),
        torch.zeros(2, 3, device="meta"),
    ],
    ids=["half", "strided", "empty", "meta"],
)
def test_what_onednn_is_not_given(x):
    assert not linear_module._suits_onednn(x)


def test_autocast_still_casts():
    x, weight = torch.randn(600, 256), torch.randn(512, 256)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight).dtype is torch.bfloat16
        assert strided_convolution(x[None], torch.randn(8, 256, 3), None, 2).dtype is torch.bfloat16


def test_autocast_leaves_double_precision():
    x = torch.randn(1, 9, 4, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        assert depthwise_convolution(x, torch.randn(4, 1, 3, dtype=torch.float64), None).dtype is torch.float64


def test_half_precision_sums_the_gradient_of_a_kernel_in_single():
    torch.manual_seed(0)
    x, weight = torch.randn(1, 3000, 6), torch.randn(6, 1, 7, requires_grad=True)
    (expected,) = torch.autograd.grad(depthwise_convolution(x, weight, None).sum(), weight)
    with torch.autocast("cpu", torch.bfloat16):
        output = depthwise_convolution(x, weight, None)
    assert output.dtype is torch.bfloat16
    (found,) = torch.autograd.grad(output.sum(), weight)
    assert ((found - expected).norm() / expected.norm()) < 0.005


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("frames", [1, 5, 8, 29])
def test_blocks_of_queries_and_their_gradients_are_the_plain_formula(monkeypatch, frames, masked):
    monkeypatch.setattr(attention, "QUERY_BLOCK", 8)
    layer = build("Model", position_embeddings_type="relative").encoder.layers[0].self_attn
    positions = attention.RelativePositions(build("Model").config)
    hidden = torch.randn(2, frames, 24, requires_grad=True)
    mask = torch.arange(frames) < torch.tensor([[frames], [max(1, frames - 3)]]) if masked else None
    leaves = [hidden, *layer.parameters()]
    found = layer(hidden, positions(hidden), mask)[0]
    with reference.plain():
        expected = layer(hidden, positions(hidden), mask)[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    direction = torch.randn_like(expected)
    for ours, plain in zip(
        torch.autograd.grad(found, leaves, direction), torch.autograd.grad(expected, leaves, direction), strict=True
    ):
        torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-4)


def test_a_block_that_is_made_again_drops_the_same_weights(monkeypatch):
    monkeypatch.setattr(attention, "QUERY_BLOCK", 4)
    layer = build("Model", position_embeddings_type="relative", attention_dropout=0.5).encoder.layers[0].self_attn
    layer.double().train()
    positions = attention.RelativePositions(build("Model").config)(torch.zeros(1, 10, 24, dtype=torch.float64))

    def attend(hidden):
        torch.manual_seed(5)
        return layer(hidden, positions, None)[0]

    hidden = torch.randn(1, 10, 24, dtype=torch.float64, requires_grad=True)
    assert (attend(hidden) - layer.eval()(hidden, positions, None)[0]).abs().max() > 0.01
    layer.train()
    assert torch.autograd.gradcheck(attend, hidden)


def test_training_keeps_no_matrix_of_all_pairs_of_frames(monkeypatch):
    frames = 200
    monkeypatch.setattr(attention, "QUERY_BLOCK", 8)
    layer = build("Model", position_embeddings_type="relative").encoder.layers[0].self_attn
    hidden = torch.randn(1, frames, 24, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda x: x):
        layer(hidden, attention.RelativePositions(build("Model").config)(hidden), None)
    assert max(kept) == (2 * frames - 1) * 24 < frames * frames  # the positions are the largest


@pytest.mark.parametrize("piece", [1, 500, 1 << 20])
@pytest.mark.parametrize("frames", [1, 2, 30])
@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_depthwise_convolution_and_its_gradients(monkeypatch, frames, kernel, piece):
    monkeypatch.setattr(convolution, "KERNEL_PIECE", piece)
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
@pytest.mark.parametrize("first_piece", [1, 200, 100_000])
@pytest.mark.parametrize("samples", [400, 3_217, 8_000])
def test_the_waveform_in_pieces_is_the_waveform_whole(monkeypatch, piece, first_piece, samples):
    model = build("Model", feat_extract_norm="layer")
    audio = torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    expected = model.feature_extractor(audio, None).detach()
    monkeypatch.setattr(feature_encoder, "PIECE", piece)
    monkeypatch.setattr(feature_encoder, "FIRST_PIECE", first_piece)
    with torch.no_grad():
        assert model.feature_extractor._may_go_in_line(audio)
        torch.testing.assert_close(model.feature_extractor(audio, None), expected, atol=1e-5, rtol=1e-5)


def test_a_norm_over_time_never_goes_in_pieces():
    model = build("Model", feat_extract_norm="group")
    with torch.no_grad():
        assert not model.feature_extractor._may_go_in_line(torch.zeros(1, 400))


def run(model, frames):
    audio = torch.randn(1, 400 + 320 * (frames - 1), generator=torch.Generator().manual_seed(frames))
    expected = model(audio).last_hidden_state.detach()  # with autograd nothing is kept
    with torch.no_grad():
        torch.testing.assert_close(model(audio).last_hidden_state, expected, atol=1e-5, rtol=1e-5)


def kept(model):
    return [layer.self_attn._kept for layer in model.encoder.layers]


@pytest.mark.parametrize("frames", [700, 1100])
def test_long_recordings_go_by_heads_and_give_the_plain_formula(monkeypatch, frames):
    monkeypatch.setattr(linear_module, "LEAST_PRODUCT", 0)
    layer = build("Model", position_embeddings_type="relative").encoder.layers[0].self_attn
    hidden = torch.randn(2, frames, 24)
    mask = torch.arange(frames) < torch.tensor([[frames], [frames - 333]])
    with torch.inference_mode():
        assert attention._block_size(torch.empty(2, 3, frames, 8))[0] == 1
        for given in (mask, None):
            positions = attention.RelativePositions(build("Model").config)(hidden)
            found = layer.eval()(hidden, positions, given)[0]
            with reference.plain():
                expected = layer(hidden, positions, given)[0]
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_projected_positions_are_kept_and_right():
    model = build("Model", position_embeddings_type="relative")
    assert kept(model) == [None, None]
    run(model, 20)
    first = kept(model)[0][1]
    assert first.shape[1] == 39
    run(model, 7)  # the middle of what was kept
    assert kept(model)[0][1] is first
    run(model, 31)
    assert kept(model)[0][1].shape[1] == 61


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


@pytest.mark.parametrize("build_layer", [lambda: layers.Linear(24, 40), lambda: layers.PointwiseConv(24, 40)])
def test_prepacked_weights_give_the_same_until_they_change(build_layer, monkeypatch):
    torch.manual_seed(0)
    layer, x = build_layer(), torch.randn(2, 32, 24)
    torch.nn.init.normal_(layer.weight)
    if layer.bias is not None:
        torch.nn.init.normal_(layer.bias)
    layers.prepack(layer)

    def expected():
        return F.linear(x, layer.weight.flatten(1), layer.bias)

    assert layer.prepacked is not None
    torch.testing.assert_close(layer(x), expected())  # with autograd, as ever
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected(), atol=1e-5, rtol=1e-5)
        layer.weight.mul_(3)
        torch.testing.assert_close(layer(x), expected(), atol=1e-5, rtol=1e-5)
    assert copy.deepcopy(layer).prepacked is None
    assert pickle.loads(pickle.dumps(layer)).prepacked is None  # noqa: S301 - just made
    assert list(layer.state_dict()) == [name for name, _ in layer.named_parameters()]
    monkeypatch.setattr(layers, "MOST_PREPACKED", 24 * 40 * 4 - 1)
    large = build_layer()
    layers.prepack(large)
    assert large.prepacked is None


def test_weights_that_onednn_doesnt_take_aren_t_prepacked():
    assert linear_module.Prepacked.of(torch.zeros(8, 4, dtype=torch.float64)) is None
    with torch.inference_mode():
        made = torch.zeros(8, 4)
    assert linear_module.Prepacked.of(made) is None


def test_prepacked_weights_are_no_others_that_came_to_lie_there():
    torch.manual_seed(0)
    x = torch.randn(1, 32, 64)
    for _ in range(20):  # memory that was given back is soon taken again
        layer = layers.Linear(64, 64, bias=False)
        torch.nn.init.normal_(layer.weight)
        layers.prepack(layer)
        layer.bfloat16().float()
        with torch.no_grad():
            torch.testing.assert_close(layer(x), F.linear(x, layer.weight), atol=1e-4, rtol=1e-5)


def test_weights_of_inference_mode_may_take_the_place_of_prepacked_ones():
    torch.manual_seed(0)
    layer, x = layers.Linear(64, 64, bias=False), torch.randn(1, 32, 64)
    torch.nn.init.normal_(layer.weight)
    layers.prepack(layer)
    with torch.inference_mode():
        layer.load_state_dict({"weight": torch.randn(64, 64)}, assign=True)
        torch.testing.assert_close(layer(x), F.linear(x, layer.weight), atol=1e-4, rtol=1e-5)


def test_trained_weights_aren_t_prepacked():
    layer, x = layers.Linear(64, 64, bias=False), torch.randn(1, 32, 64)
    torch.nn.init.normal_(layer.weight)
    layers.prepack(layer)
    layer.train()
    layer(x).sum().backward()
    torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True).step()  # which leaves the weight's version as it is
    layer.eval()
    with torch.no_grad():
        torch.testing.assert_close(layer(x), F.linear(x, layer.weight), atol=1e-4, rtol=1e-5)
