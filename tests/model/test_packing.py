"""Batches whose padding isn't computed."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from wavconformer.model.conformer import ConformerEncoder
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
    packed = ConformerEncoder._packed
    monkeypatch.setattr(ConformerEncoder, "_packed", lambda *given: calls.append(1) or packed(*given))
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


def test_what_is_trained_or_watched_is_not_packed(packed):
    model = build("ForCTC")
    values, mask = pad([noise(9000, seed=1), noise(8000, seed=2)])
    model(values, attention_mask=mask)
    with torch.no_grad():
        model(values, attention_mask=mask, output_attentions=True)
        model.wav2vec2_conformer.encoder.layers[0].conv_module.train()
        model(values, attention_mask=mask)
    assert not packed
