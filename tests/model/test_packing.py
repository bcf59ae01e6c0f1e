"""Batches whose padding isn't computed."""

from __future__ import annotations

import itertools
from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from wavconformer.model import reference
from wavconformer.model.batch_norm import FrameBatchNorm
from wavconformer.model.packing import MULTIPLE, Packing

from .builders import CLASSES, NORMS, POSITIONS, build, noise, pad

lengths = st.lists(st.integers(1, 70), min_size=1, max_size=5)


@settings(deadline=None)
@given(lengths, st.integers(0, 3))
def test_a_line_holds_the_real_frames_and_gives_them_back(lengths, more):
    packing = Packing(lengths, max(lengths) + more)
    x = torch.randn(len(lengths), packing.frames, 3)
    line = packing.pack(x)
    assert line.shape[0] == 1
    assert line.shape[1] % MULTIPLE == 0
    assert line.shape[1] - sum(lengths) < MULTIPLE
    parts = packing.apart(line, 1)
    assert torch.equal(packing.together(parts, 1)[:, : sum(lengths)], line[:, : sum(lengths)])
    back = packing.unpack(line)
    assert back.shape == x.shape
    for row, given_row, part, length in zip(back, x, parts, lengths, strict=True):
        assert torch.equal(part[0], given_row[:length])
        assert torch.equal(row[:length], given_row[:length])
        assert not row[length:].any()


@settings(deadline=None)
@given(lengths)
def test_what_is_the_same_for_all_stands_at_each_from_its_start(lengths):
    packing = Packing(lengths, max(lengths))
    times = torch.arange(max(lengths))
    repeated = packing.repeat(times)
    assert len(repeated) == packing.pack(torch.zeros(len(lengths), max(lengths), 1)).shape[1]
    for part, length in zip(packing.apart(repeated, 0), lengths, strict=True):
        assert torch.equal(part, times[:length])


@settings(deadline=None)
@given(lengths, st.integers(0, 7))
def test_a_convolution_finds_zeros_beyond_the_ends(lengths, reach):
    packing = Packing(lengths, max(lengths))
    convolution = nn.Conv1d(2, 2, 2 * reach + 1, padding=reach, bias=False)
    line = torch.randn(1, sum(lengths) + packing.spare, 2)  # what belongs to no utterance is anything
    with torch.no_grad():
        made = packing.spread(line, reach, lambda x: convolution(x.mT).mT)
        assert made.shape == line.shape
        for part, given_part in zip(packing.apart(made, 1), packing.apart(line, 1), strict=True):
            torch.testing.assert_close(part, convolution(given_part.mT).mT)


@pytest.fixture
def packed(monkeypatch):
    """Counts how often an encoder packed."""
    calls = []
    pack = Packing.pack
    monkeypatch.setattr(Packing, "pack", lambda *given: calls.append(1) or pack(*given))
    return calls


@pytest.mark.parametrize(("name", "position", "norm"), [*itertools.product(CLASSES, POSITIONS, NORMS)])
def test_a_padded_batch_gives_what_each_gives_alone(paths, packed, name, position, norm):
    model = build(name, position_embeddings_type=position, feat_extract_norm=norm)
    utterances = [noise(length, seed=length) for length in (9000, 20_000, 12_345, 19_999, 7000)]
    values, mask = pad(utterances, filler=3.0)
    with torch.no_grad():
        batch = model(values, attention_mask=mask)
        field = next(field for field in ("logits", "last_hidden_state", "projected_states") if field in batch)
        assert bool(packed) == (paths == "fast")
        for row, utterance in enumerate(utterances):
            alone = model(utterance[None])[field][0]
            assert (batch[field][row][: len(alone)] - alone).abs().max() <= 1e-4
        watched = model(values, attention_mask=mask, output_hidden_states=True)
    assert len(packed) <= 1
    torch.testing.assert_close(batch[field], watched[field], rtol=0, atol=1e-4)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("position", POSITIONS)
def test_training_on_a_line_is_training_on_the_batch(packed, position, norm, checkpointing):
    utterances = [noise(length, seed=length) for length in (9000, 20_000, 12_345)]
    values, mask = pad(utterances, filler=3.0)
    labels = torch.tensor([[3, 4, 5, 6], [1, 2, 2, 9], [7, 8, -100, -100]])
    found = []
    for is_plain in (False, True):
        torch.manual_seed(0)
        model = build("ForCTC", position_embeddings_type=position, feat_extract_norm=norm).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        with reference.plain() if is_plain else nullcontext():
            loss = model(values, attention_mask=mask, labels=labels).loss
            loss.backward()
        assert bool(packed) != is_plain
        packed.clear()
        gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
        found.append({"loss": loss.detach(), **gradients, **dict(model.named_buffers())})
    ours, plain = found
    assert ours.keys() == plain.keys()
    for name, value in plain.items():
        assert (ours[name] - value).float().norm() <= 1e-3 * value.float().norm() + 1e-4, name


def test_a_norm_that_stays_as_it_is_is_packed_in_training_too(packed):
    values, mask = pad([noise(9000, seed=1), noise(8000, seed=2)])
    losses = []
    for is_plain in (False, True):
        model = build("ForCTC").train()
        for module in model.modules():
            if isinstance(module, FrameBatchNorm):
                module.eval()
        with reference.plain() if is_plain else nullcontext():
            losses.append(model(values, attention_mask=mask).logits.detach())
    assert packed
    torch.testing.assert_close(*losses, rtol=0, atol=1e-4)


def test_what_is_watched_or_partly_trained_is_not_packed(packed):
    model = build("ForCTC")
    values, mask = pad([noise(9000, seed=1), noise(8000, seed=2)])
    with torch.no_grad():
        model(values, attention_mask=mask, output_attentions=True)
        model.wav2vec2_conformer.encoder.layers[0].conv_module.train()
        model(values, attention_mask=mask)
        assert not packed
        model.eval()
        model(values, attention_mask=mask)
    assert packed


def test_a_hook_finds_the_batch(packed):
    model = build("Model", feat_extract_norm="layer")
    values, mask = pad([noise(9000, seed=1), noise(8000, seed=2)])
    seen = []
    watched = (model.encoder.layers[0].self_attn.linear_v, model.feature_extractor.conv_layers[-1])
    hooks = [part.register_forward_hook(lambda module, given, made: seen.append(made.shape[:2])) for part in watched]
    with torch.no_grad():
        output = model(values, attention_mask=mask).last_hidden_state
        assert not packed
        assert seen == [output.shape[:2]] * 2
        for hook in hooks:
            hook.remove()
        torch.testing.assert_close(model(values, attention_mask=mask).last_hidden_state, output, rtol=0, atol=1e-4)
    assert packed


def test_compiled_blocks_find_the_batch(packed):
    model = build("Model")
    values, mask = pad([noise(9000, seed=1), noise(8000, seed=2)])
    for block in model.encoder.layers:
        block.compile(backend="eager")
    model(values, attention_mask=mask)
    model = build("Model")
    model.encoder.layers[0] = torch.compile(model.encoder.layers[0], backend="eager")
    model(values, attention_mask=mask)
    assert not packed


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_a_traced_graph_takes_other_lengths(packed):
    model = build("ForCTC", feat_extract_norm="layer").requires_grad_(False)
    values, mask = pad([noise(9000, seed=1), noise(8000, seed=2)])
    with torch.no_grad():
        traced = torch.jit.trace(
            lambda values, mask: model(values, attention_mask=mask, return_dict=False)[0],
            (values, mask),
            check_trace=False,
        )
        assert not packed
        mask[1, 4000:] = 0
        alone = model(values[1:, :4000]).logits[0]
        torch.testing.assert_close(traced(values, mask)[1, : len(alone)], alone, rtol=0, atol=1e-4)
