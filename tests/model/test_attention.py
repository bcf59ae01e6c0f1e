"""Attention by blocks of queries is attention, and fused attention is what the visible one computes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from wavconformer.model import attention
from wavconformer.model.attention import RelativePositions, RelativeSelfAttention

from .builders import POSITIONS, build, noise, pad

FRAMES = [1, 2, 3, 14, 23]


def relative_attention() -> tuple[RelativePositions, RelativeSelfAttention]:
    """One layer's attention in double precision, where blocks may not differ at all."""
    model = build("Model", position_embeddings_type="relative").double()
    return model.encoder.embed_positions, model.encoder.layers[0].self_attn


def frame_mask(frames: int) -> Tensor:
    return torch.arange(frames) < torch.tensor([[frames], [max(1, frames // 2)]])


@pytest.mark.parametrize("masked", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("block", [1, 2, 7, 22, 512])
def test_blocks_of_queries_change_nothing(
    block: int, frames: int, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions, layer = relative_attention()
    mask = frame_mask(frames) if masked else None
    hidden = noise(2, frames, 24).double()
    weights = noise(2, frames, 24, seed=1).double()
    results = {}
    for size in (10**6, block):
        monkeypatch.setattr(attention, "QUERY_BLOCK", size)
        x = hidden.clone().requires_grad_()
        layer.zero_grad()
        context, none = layer(x, positions(x), mask)
        assert none is None
        (context * weights).sum().backward()
        results[size] = [context, x.grad, *(parameter.grad for parameter in layer.parameters())]
    for found, expected in zip(results[block], results[10**6], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("position", POSITIONS)
def test_fused_and_visible_attention_agree(position: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "QUERY_BLOCK", 7)
    model = build("Model", position_embeddings_type=position)
    values, mask = pad([noise(8000), noise(5000)])
    with torch.no_grad():
        fused = model(values, attention_mask=mask).last_hidden_state
        visible = model(values, attention_mask=mask, output_attentions=True).last_hidden_state
    torch.testing.assert_close(fused, visible, rtol=0, atol=1e-5)


@hypothesis_settings(max_examples=30, deadline=None)
@given(frames=st.integers(1, 12), block=st.integers(1, 13), by_heads=st.booleans(), seed=st.integers(0, 999))
def test_scores_are_those_of_the_paper(frames: int, block: int, by_heads: bool, seed: int) -> None:
    """(q_i + u)·k_j + (q_i + v)·p_{i-j} for every pair, computed one by one (arXiv 1901.02860, section 3.3)."""
    positions, layer = relative_attention()
    hidden = noise(1, frames, 24, seed=seed).double()
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "QUERY_BLOCK", block)
        patch.setattr(attention, "HEAD_QUERY_BLOCK", block)
        patch.setattr(attention, "HEAD_SCORES", 0 if by_heads else 10**9)
        found = layer(hidden, positions(hidden), None)[0]
        _, weights = layer(hidden, positions(hidden), None, output_attentions=True)

        def heads(x: Tensor) -> Tensor:
            return x.view(frames, 3, 8)

        q, k, v = (heads(linear(hidden[0])) for linear in (layer.linear_q, layer.linear_k, layer.linear_v))
        scores = torch.empty(3, frames, frames, dtype=torch.float64)
        for i in range(frames):
            for j in range(frames):
                p = layer.linear_pos(sinusoid(i - j)).view(3, 8)
                content = ((q[i] + layer.pos_bias_u) * k[j]).sum(-1)
                scores[:, i, j] = (content + ((q[i] + layer.pos_bias_v) * p).sum(-1)) / math.sqrt(8)
        expected = scores.softmax(-1)
        context = torch.einsum("hij,jhk->ihk", expected, v).flatten(1)
        torch.testing.assert_close(weights[0], expected, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(found[0], layer.linear_out(context), rtol=1e-5, atol=1e-5)


def sinusoid(distance: int, size: int = 24) -> Tensor:
    pairs = ((distance * 10_000 ** (-i / size), i) for i in range(0, size, 2))
    values = [(math.sin(angle), math.cos(angle)) for angle, _ in pairs]
    return torch.tensor(values, dtype=torch.float64).flatten()


@pytest.mark.parametrize("position", POSITIONS)
@torch.no_grad()
def test_positions_matter_only_where_there_are_positions(position: str | None) -> None:
    """Without positions attention sees a set: turning the frames round turns its output round."""
    model = build("Model", position_embeddings_type=position)
    layer = model.encoder.layers[0].self_attn
    hidden = noise(1, 9, 24)
    positions = None if position is None else model.encoder.embed_positions(hidden)
    forth = layer(hidden, positions, None)[0]
    back = layer(hidden.flip(1), positions, None)[0].flip(1)
    assert torch.allclose(forth, back, atol=1e-5) == (position is None)


@torch.no_grad()
def test_relative_attention_sees_distances_alone() -> None:
    """The weights among frames 5…9 are those among frames 0…4, where these hold the same."""
    model = build("Model", position_embeddings_type="relative")
    layer, positions = model.encoder.layers[0].self_attn, model.encoder.embed_positions
    hidden = noise(1, 5, 24)
    late = torch.cat((noise(1, 5, 24, seed=9), hidden), dim=1)
    _, early_weights = layer(hidden, positions(hidden), None, output_attentions=True)
    _, late_weights = layer(late, positions(late), None, output_attentions=True)
    among = late_weights[..., 5:, 5:]
    torch.testing.assert_close(among / among.sum(-1, keepdim=True), early_weights, rtol=1e-4, atol=1e-5)


def test_dropout_acts_in_training_alone() -> None:
    arguments: dict[str, Any] = {"attention_dropout": 0.5}
    for position in POSITIONS:
        model = build("Model", position_embeddings_type=position, **arguments)
        x = noise(1, 6000)
        assert torch.equal(model(x).last_hidden_state, model(x).last_hidden_state)
        model.train()
        torch.manual_seed(0)
        assert not torch.equal(model(x).last_hidden_state, model(x).last_hidden_state)
        torch.manual_seed(0)
        _, weights = model.encoder.layers[0].self_attn(
            noise(1, 50, 24),
            None if position is None else model.encoder.embed_positions(noise(1, 50, 24)),
            None,
            output_attentions=True,
        )
        assert 0.4 < (weights == 0).float().mean() < 0.6


@pytest.mark.parametrize("position", POSITIONS)
def test_short_utterances_are_trained_by_the_parts_of_attention(position, monkeypatch):
    model = build("Model", position_embeddings_type=position, feat_extract_norm="layer")
    values, mask = pad([noise(8000), noise(5000)])
    fused = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def gradient(*, half: bool) -> Tensor:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            output = model(values, attention_mask=mask).last_hidden_state
        output.float().square().sum().backward()
        return model.encoder.layers[0].self_attn.linear_v.weight.grad.clone()

    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *given, **options: fused.append(1) or attend(*given, **options),
    )
    by_parts, half_by_parts = gradient(half=False), gradient(half=True)
    assert not fused
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model(values, attention_mask=mask)
    assert fused
    monkeypatch.setattr(attention, "SCORES", 0)
    fused.clear()
    expected = gradient(half=False)
    assert len(fused) == 2  # in each block
    torch.testing.assert_close(by_parts, expected, rtol=1e-4, atol=1e-4)
    gradient(half=True)
    assert len(fused) == 2
    monkeypatch.setattr(attention, "HALF_SCORES", 0)
    both = {"parts": half_by_parts, "fused": gradient(half=True)}
    assert len(fused) == 4
    errors = {name: ((found - expected).norm() / expected.norm()).item() for name, found in both.items()}
    assert errors["parts"] <= max(0.03, 1.5 * errors["fused"]), errors


def test_an_exported_graph_takes_other_lengths_with_autograd_on_too():
    layer = build("Model", position_embeddings_type=None).encoder.layers[0].self_attn

    def given(batch, frames):
        return noise(batch, frames, 24), None, torch.arange(frames) < torch.full((batch, 1), 5)

    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    graph = torch.export.export(layer, given(3, 20), dynamic_shapes=(sizes, None, sizes), strict=False).module()
    for shape in ((2, 7), (9, 300)):  # the second with more scores than are computed in parts
        torch.testing.assert_close(graph(*given(*shape))[0], layer(*given(*shape))[0], rtol=0, atol=1e-5)
