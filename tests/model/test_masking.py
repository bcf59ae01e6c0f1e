"""Which frames are masked, and which serve as distractors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers.models.wav2vec2.modeling_wav2vec2 import _sample_negative_indices as oracle_negatives
from transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer import _compute_mask_indices as oracle_mask

from wavconformer import compute_mask_indices, sample_negative_indices
from wavconformer.model import masking

from .builders import CLASSES, NORMS, assert_same_outputs, build, build_pair, noise, pad

few = hypothesis_settings(max_examples=60, deadline=None)


def spans(row: NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], row.astype(int), [0]))))
    return list(edges[1::2] - edges[::2])


@st.composite
def lengths(draw: st.DrawFn) -> list[int]:
    """Real frames of each utterance, the longest first."""
    return sorted(draw(st.lists(st.integers(1, 80), min_size=1, max_size=5)), reverse=True)


def attention(lengths: list[int]) -> NDArray[np.int64]:
    return (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)


# --- masks


@few
@given(
    lengths=lengths(),
    probability=st.floats(0, 1),
    span=st.integers(1, 12),
    least=st.integers(0, 4),
    seed=st.integers(0, 2**32 - 1),
    as_tensor=st.booleans(),
)
def test_spans_lie_in_the_real_frames(
    lengths: list[int], probability: float, span: int, least: int, seed: int, as_tensor: bool
) -> None:
    frames = max(lengths)
    real: Any = attention(lengths)
    if span > frames:
        with pytest.raises(ValueError, match=f"mask_length is {span}.*only {frames} positions"):
            compute_mask_indices((len(lengths), frames), probability, span)
        return

    def draw() -> NDArray[np.bool_]:
        return compute_mask_indices(
            (len(lengths), frames),
            probability,
            span,
            torch.from_numpy(real) if as_tensor else real,
            least,
            np.random.default_rng(seed),
        )

    state = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002
    mask = draw()
    assert np.array_equal(draw(), mask)
    assert np.array_equal(np.random.get_state(legacy=False)["state"]["key"], state)  # noqa: NPY002
    assert mask.shape == (len(lengths), frames)
    assert mask.dtype == np.bool_
    assert not mask[real == 0].any()
    for row, length in zip(mask, lengths, strict=True):
        assert all(run >= span for run in spans(row))
        wanted = probability * length / span
        most = max(int(wanted + 1), least)
        assert row.sum() <= most * span
        if length < span or most == 0:
            assert not row.any()
        elif min(max(int(wanted), least), frames // span, length - span + 1) >= 1:
            assert row.any()


@few
@given(
    lengths=lengths(),
    probability=st.floats(0, 1),
    span=st.integers(1, 12),
    least=st.integers(0, 4),
    seed=st.integers(0, 2**32 - 1),
    padded=st.booleans(),
)
def test_masks_are_the_oracles_of_the_same_seed(
    lengths: list[int], probability: float, span: int, least: int, seed: int, padded: bool
) -> None:
    """Among real frames: of an utterance shorter than a span the oracle marks the padding's last frame."""
    shape = (len(lengths), max(lengths))
    if span > shape[1] or min(lengths) < span - 1:
        return  # the oracle can't
    real = torch.from_numpy(attention(lengths)) if padded else None
    masks: list[Any] = []
    for draw in (compute_mask_indices, oracle_mask):
        np.random.seed(seed)  # noqa: NPY002
        mask = draw(shape, probability, span, attention_mask=real, min_masks=least)
        masks.append(mask if real is None else mask & real.bool().numpy())
    assert np.array_equal(masks[0], masks[1])


def test_the_share_that_is_masked() -> None:
    """Published settings: 0.65 in spans of 10 leave about half of the frames (arXiv 2006.11477, appendix A)."""
    mask = compute_mask_indices((64, 750), 0.65, 10, generator=np.random.default_rng(0))
    assert 0.46 < mask.mean() < 0.52
    assert not compute_mask_indices((4, 50), 0.0, 10).any()
    assert compute_mask_indices((4, 50), 1.0, 1).all()


def test_a_span_has_a_length() -> None:
    with pytest.raises(ValueError, match="mask_length is 0"):
        compute_mask_indices((2, 10), 0.5, 0)


# --- negatives


@few
@given(lengths=lengths(), count=st.integers(1, 20), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_negatives_are_other_masked_frames_of_the_same_utterance(
    lengths: list[int], count: int, seed: int, data: st.DataObject
) -> None:
    rows, frames = len(lengths), max(lengths)
    masked = np.zeros((rows, frames), bool)
    for row, length in enumerate(lengths):
        chosen = data.draw(st.sets(st.integers(0, length - 1), max_size=length).filter(lambda x: len(x) != 1))
        masked[row, list(chosen)] = True

    def draw() -> NDArray[np.int32]:
        return sample_negative_indices((rows, frames), count, masked, np.random.default_rng(seed))

    drawn = draw()
    assert np.array_equal(draw(), drawn)
    assert drawn.shape == (rows, frames, count)
    assert drawn.dtype == np.int32
    for row, frame in zip(*masked.nonzero(), strict=True):
        negatives = drawn[row, frame]
        assert (negatives // frames == row).all()
        assert masked[row, negatives % frames].all()
        assert (negatives % frames != frame).all()
    np.random.seed(seed)  # noqa: NPY002
    ours = sample_negative_indices((rows, frames), count, masked)
    if masked.any(1).all():  # the oracle fails where an utterance has no masked frame
        np.random.seed(seed)  # noqa: NPY002
        assert np.array_equal(ours, oracle_negatives((rows, frames), count, masked))


def test_without_a_mask_all_frames_are_drawn_from() -> None:
    drawn = sample_negative_indices((2, 5), 200, generator=np.random.default_rng(0))
    for row in range(2):
        for frame in range(5):
            others = [5 * row + other for other in range(5) if other != frame]
            found, counts = np.unique(drawn[row, frame], return_counts=True)
            assert found.tolist() == others
            assert counts.min() > 25  # about 50 each


def test_a_lonely_masked_frame_is_refused() -> None:
    masked = np.array([[True, True, False], [False, True, False]])
    with pytest.raises(ValueError, match="Utterance 1 has a single masked frame"):
        sample_negative_indices((2, 3), 4, masked)


def test_the_names_that_programs_import() -> None:
    assert masking._compute_mask_indices is compute_mask_indices
    assert masking._sample_negative_indices is sample_negative_indices


# --- in the model


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", CLASSES)
def test_drawn_masks_agree_with_the_oracle(name: str, norm: str) -> None:
    """SpecAugment over time and features, by numpy's global generator: one seed, one mask, where nothing is padded."""
    settings: dict[str, Any] = {"mask_time_prob": 0.4, "mask_feature_prob": 0.3, "mask_feature_min_masks": 1}
    ours, oracle = build_pair(name, feat_extract_norm=norm, **settings)
    outputs = []
    for model in (ours, oracle):
        model.train()
        np.random.seed(5)  # noqa: NPY002
        torch.manual_seed(5)
        outputs.append(model(noise(3, 8000), output_hidden_states=True))
    assert_same_outputs(*outputs)
    first = outputs[0].hidden_states[0]
    assert (first == 0).all(1).any()  # a feature of an utterance is hidden
    embedding = ours.base_model.masked_spec_embed
    assert ((first == embedding) | (first == 0)).all(-1).any()  # and a frame


def test_a_generator_of_the_model_repeats_its_masks() -> None:
    model = build("Model", mask_time_prob=0.4).train()
    state = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002

    def run() -> torch.Tensor:
        model.mask_generator = np.random.default_rng(3)
        return model(noise(2, 8000), output_hidden_states=True).hidden_states[0]

    assert torch.equal(run(), run())
    assert not torch.equal(run(), model(noise(2, 8000), output_hidden_states=True).hidden_states[0])
    assert np.array_equal(np.random.get_state(legacy=False)["state"]["key"], state)  # noqa: NPY002


def test_masks_are_drawn_within_the_real_frames() -> None:
    """A short utterance gets as many spans as it has frames for, not those of the batch's longest."""
    model = build("Model", mask_time_prob=0.9, mask_time_length=2).train()
    values, mask = pad([noise(16_000), noise(3000)])
    length = int(model.feature_lengths(3000))
    for seed in range(20):
        model.mask_generator = np.random.default_rng(seed)
        first = model(values, attention_mask=mask, output_hidden_states=True).hidden_states[0]
        hidden = (first == model.masked_spec_embed).all(-1)
        assert hidden[1, :length].any()
        assert not hidden[1, length:].any()
        assert (first[1, length:] == 0).all()


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_given_frames_are_masked_and_no_others(training: bool) -> None:
    ours, oracle = build_pair("Model", mask_time_prob=0.4)
    frames = int(ours.feature_lengths(8000))
    given_mask = torch.rand(2, frames, generator=torch.Generator().manual_seed(0)) < 0.5
    outputs = [
        model.train(training)(noise(2, 8000), mask_time_indices=given_mask, output_hidden_states=True)
        for model in (ours, oracle)
    ]
    assert_same_outputs(*outputs)
    found = (outputs[0].hidden_states[0] == ours.masked_spec_embed).all(-1)
    assert torch.equal(found, given_mask)
    numbers = ours(noise(2, 8000), mask_time_indices=given_mask.long(), output_hidden_states=True)
    assert torch.equal((numbers.hidden_states[0] == ours.masked_spec_embed).all(-1), given_mask)


def test_masks_stay_away_where_they_should() -> None:
    x, frames = noise(1, 8000), 24
    never = build("Model", mask_time_prob=0.9, mask_feature_prob=0.9, apply_spec_augment=False).train()
    assert torch.equal(never(x).last_hidden_state, never(x).last_hidden_state)
    every = torch.ones(1, frames, dtype=torch.bool)
    assert torch.equal(never(x, mask_time_indices=every).last_hidden_state, never(x).last_hidden_state)
    evaluated = build("Model", mask_time_prob=0.9, mask_feature_prob=0.9)
    assert torch.equal(evaluated(x).last_hidden_state, evaluated(x).last_hidden_state)
    # Audio shorter than a span passes unmasked.
    short = build("Model", mask_time_prob=0.9, mask_time_length=10).train()
    first = short(noise(1, 1000), output_hidden_states=True).hidden_states[0]
    assert not (first == short.masked_spec_embed).all(-1).any()


def test_the_embedding_of_masked_frames_learns() -> None:
    model = build("Model", mask_time_prob=0.4)
    given_mask = torch.zeros(1, 24, dtype=torch.bool)
    given_mask[0, 3:7] = True
    model(noise(1, 8000), mask_time_indices=given_mask).last_hidden_state.square().sum().backward()
    assert model.masked_spec_embed.grad.abs().max() > 0
