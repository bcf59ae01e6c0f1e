"""The losses, by their formulas; the oracle's where it follows its own documentation."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wavconformer import compute_mask_indices, sample_negative_indices

from .builders import LABELS, build, build_pair, noise, pad

SAMPLES = 6000
FRAMES = 18


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=1e-7)


# --- CTC


@pytest.mark.parametrize("filler", ["-100", "blank"])
@pytest.mark.parametrize("blank", [0, 4])
@pytest.mark.parametrize("zero_infinity", [False, True], ids=["inf", "zero-inf"])
@pytest.mark.parametrize("reduction", ["sum", "mean", "none"])
def test_ctc_agrees_with_the_oracle(reduction: str, zero_infinity: bool, blank: int, filler: str) -> None:
    ours, oracle = build_pair(
        "ForCTC", ctc_loss_reduction=reduction, ctc_zero_infinity=zero_infinity, pad_token_id=blank
    )
    none = -100 if filler == "-100" else blank
    labels = torch.tensor([[1, 1, 2, 3], [5, 6, none, none], [7, none, none, none]])
    found, expected = ours(noise(3, SAMPLES), labels=labels).loss, oracle(noise(3, SAMPLES), labels=labels).loss
    assert found.shape == ((3,) if reduction == "none" else ())
    close(found, expected)


def test_ctc_sums_over_all_paths() -> None:
    """The probability of a label is that of all its frame sequences, here enumerated."""
    model = build("ForCTC", vocab_size=4)
    samples = 400 + 3 * 320
    log_probs = model(noise(1, samples)).logits[0].log_softmax(-1)
    label = [2, 2]

    def collapse(path: tuple[int, ...]) -> list[int]:
        return [token for token, _ in itertools.groupby(path) if token != 0]

    paths = [path for path in itertools.product(range(4), repeat=4) if collapse(path) == label]
    total = torch.stack([log_probs[range(4), list(path)].sum() for path in paths]).logsumexp(0)
    close(model(noise(1, samples), labels=torch.tensor([label])).loss, -total)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_transcript_without_words_asks_for_blanks(rows: int) -> None:
    model = build("ForCTC")
    labels = torch.full((rows, 3), -100)
    output = model(noise(rows, SAMPLES), labels=labels)
    close(output.loss, -output.logits.log_softmax(-1)[..., 0].sum())


def test_labels_that_just_fit_are_taken() -> None:
    model = build("ForCTC")
    distinct = torch.arange(FRAMES).remainder(2)[None] + 1
    assert model(noise(1, SAMPLES), labels=distinct).loss.isfinite()
    repeated = torch.ones(1, FRAMES // 2, dtype=torch.long)  # each but the first needs a blank before it
    assert model(noise(1, SAMPLES), labels=repeated).loss.isfinite()


def test_labels_that_do_not_fit_count_nothing_where_that_is_asked_for() -> None:
    model = build("ForCTC", ctc_zero_infinity=True)
    labels = torch.full((2, FRAMES + 1), -100)
    labels[0, :2] = torch.tensor([1, 2])
    alone = model(noise(2, SAMPLES)[:1], labels=labels[:1]).loss
    labels[1] = torch.arange(FRAMES + 1).remainder(2) + 1
    with pytest.warns(UserWarning, match=r"utterance 1 need 19 frames, but its audio makes 18"):
        both = model(noise(2, SAMPLES), labels=labels).loss
    close(both, alone)
    both.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


# --- one answer for an utterance


def test_one_class_is_cross_entropy() -> None:
    ours, oracle = build_pair("ForSequenceClassification")
    labels = torch.tensor([4, 0, 2])
    output = ours(noise(3, SAMPLES), labels=labels)
    close(output.loss, F.cross_entropy(output.logits, labels))
    close(output.loss, oracle(noise(3, SAMPLES), labels=labels).loss)
    one_hot = F.one_hot(labels, LABELS)
    close(ours(noise(3, SAMPLES), labels=one_hot).loss, output.loss)
    assert ours.config.problem_type is None


def test_a_class_of_minus_100_is_ignored() -> None:
    model = build("ForSequenceClassification")
    both = model(noise(2, SAMPLES), labels=torch.tensor([3, -100])).loss
    close(both, model(noise(2, SAMPLES)[:1], labels=torch.tensor([3])).loss)


@pytest.mark.parametrize("stated", [False, True], ids=["inferred", "stated"])
def test_several_classes_are_binary_cross_entropy(stated: bool) -> None:
    model = build("ForSequenceClassification", problem_type="multi_label_classification" if stated else None)
    labels = torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 0, 1]])
    output = model(noise(2, SAMPLES), labels=labels.float())
    close(output.loss, F.binary_cross_entropy_with_logits(output.logits, labels.float()))
    if stated:
        close(model(noise(2, SAMPLES), labels=labels).loss, output.loss)


@pytest.mark.parametrize("shape", [(3,), (3, 1)], ids=str)
@pytest.mark.parametrize("stated", [False, True], ids=["inferred", "stated"])
def test_one_label_is_regression(stated: bool, shape: tuple[int, ...]) -> None:
    model = build("ForSequenceClassification", num_labels=1, problem_type="regression" if stated else None)
    labels = torch.tensor([0.5, -2.0, 7.0])
    output = model(noise(3, SAMPLES), labels=labels.view(shape))
    close(output.loss, F.mse_loss(output.logits[:, 0], labels))
    whole = labels.round().long()
    close(model(noise(3, SAMPLES), labels=whole.view(shape)).loss, F.mse_loss(output.logits[:, 0], whole.float()))


def test_several_numbers_are_regression_where_it_is_stated() -> None:
    model = build("ForSequenceClassification", problem_type="regression")
    labels = noise(2, LABELS)
    output = model(noise(2, SAMPLES), labels=labels)
    close(output.loss, F.mse_loss(output.logits, labels))


@torch.no_grad()
def test_the_pooled_answer_is_the_mean_over_frames() -> None:
    model = build("ForSequenceClassification")
    hidden = model.wav2vec2_conformer(noise(2, SAMPLES)).last_hidden_state
    close(model(noise(2, SAMPLES)).logits, model.classifier(model.projector(hidden).mean(1)), 1e-4)


@pytest.mark.parametrize("name", ["ForSequenceClassification", "ForAudioFrameClassification", "ForXVector"])
@torch.no_grad()
def test_the_layer_sum_is_weighted_by_a_softmax(name: str) -> None:
    model = build(name, use_weighted_layer_sum=True)
    output = model(noise(1, SAMPLES), output_hidden_states=True)
    shares = model.layer_weights.softmax(0)
    mixture = sum(share * state for share, state in zip(shares, output.hidden_states, strict=True))
    head = model.classifier if name == "ForAudioFrameClassification" else model.projector
    seen: list[Tensor] = []
    head.register_forward_hook(lambda module, inputs, _: seen.append(inputs[0]))
    assert "hidden_states" not in model(noise(1, SAMPLES))
    close(seen[0], mixture)


# --- an answer for each frame


def test_frames_of_one_class_are_cross_entropy() -> None:
    ours, oracle = build_pair("ForAudioFrameClassification")
    classes = torch.randint(0, LABELS, (2, FRAMES), generator=torch.Generator().manual_seed(0))
    output = ours(noise(2, SAMPLES), labels=classes)
    close(output.loss, F.cross_entropy(output.logits.flatten(0, 1), classes.flatten()))
    one_hot = F.one_hot(classes, LABELS)
    close(ours(noise(2, SAMPLES), labels=one_hot).loss, output.loss)
    close(oracle(noise(2, SAMPLES), labels=one_hot).loss, output.loss)


def test_frames_of_minus_100_are_ignored() -> None:
    model = build("ForAudioFrameClassification")
    classes = torch.randint(0, LABELS, (1, FRAMES), generator=torch.Generator().manual_seed(0))
    output = model(noise(1, SAMPLES), labels=classes)
    classes[0, 5:] = -100
    expected = F.cross_entropy(output.logits[0, :5], classes[0, :5])
    close(model(noise(1, SAMPLES), labels=classes).loss, expected)


@pytest.mark.parametrize("stated", [False, True], ids=["inferred", "stated"])
def test_frames_of_several_classes_are_binary_cross_entropy(stated: bool) -> None:
    """Two people may speak at once: that is what the head is for, and what the oracle's loss can't say."""
    model = build("ForAudioFrameClassification", problem_type="multi_label_classification" if stated else None)
    values, mask = pad([noise(SAMPLES), noise(4000)])
    labels = (noise(2, FRAMES, LABELS) > 0.5).long()
    real = torch.arange(FRAMES) < model.feature_lengths(mask.sum(-1))[:, None]
    output = model(values, attention_mask=mask, labels=labels if stated else labels.float())
    close(output.loss, F.binary_cross_entropy_with_logits(output.logits[real], labels[real].float()))


# --- speakers


def test_speakers_are_told_apart_by_am_softmax() -> None:
    model = build("ForXVector")
    labels = torch.tensor([1, 4])
    output = model(noise(2, SAMPLES), labels=labels)
    cosine = F.normalize(output.logits, dim=1) @ F.normalize(model.objective.weight, dim=0)
    cosine[range(2), labels] -= 0.4
    close(output.loss, F.cross_entropy(30 * cosine, labels))
    close(model(noise(2, SAMPLES), labels=labels[:, None]).loss, output.loss)


@torch.no_grad()
def test_an_embedding_is_made_of_means_and_deviations() -> None:
    model = build("ForXVector")
    hidden = model.projector(model.wav2vec2_conformer(noise(1, SAMPLES)).last_hidden_state)
    for layer in model.tdnn:
        hidden = layer(hidden)
    assert hidden.shape[1] == FRAMES - 2 * 1 - 1 * 2
    pooled = torch.cat((hidden.mean(1), hidden.std(1)), -1)
    close(model(noise(1, SAMPLES)).embeddings, model.feature_extractor(pooled), 1e-4)


# --- pretraining


def pretraining_arguments(seed: int = 0, negatives: int = 6) -> dict[str, Tensor]:
    random = np.random.default_rng(seed)
    mask = compute_mask_indices((2, FRAMES), 0.5, 3, min_masks=2, generator=random)
    drawn = sample_negative_indices((2, FRAMES), negatives, mask, random)
    return {"mask_time_indices": torch.from_numpy(mask), "sampled_negative_indices": torch.from_numpy(drawn)}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("codevector_dim", [5, 12])
def test_the_contrastive_loss_leaves_out_negatives_like_the_positive(codevector_dim: int, training: bool) -> None:
    """With few codes many negatives are the positive's equal: in training too, where the oracle's rounding hides them.

    An odd codevector_dim is one for which matrix products on a CPU may round equal rows apart.
    """
    model = build(
        "ForPreTraining", num_codevector_groups=1, num_codevectors_per_group=3, codevector_dim=codevector_dim
    ).train(training)
    codes: list[Tensor] = []
    model.quantizer.register_forward_hook(lambda module, inputs, output: codes.append(output[2][..., 0].flatten()))
    arguments = pretraining_arguments()
    output = model(noise(2, SAMPLES), **arguments)
    quantized = output.projected_quantized_states.flatten(0, 1)
    expected, left_out = torch.zeros(()), 0
    for frame in arguments["mask_time_indices"].flatten().nonzero()[:, 0].tolist():
        drawn = arguments["sampled_negative_indices"].flatten(0, 1)[frame].tolist()
        negatives = [other for other in drawn if codes[0][other] != codes[0][frame]]
        left_out += len(drawn) - len(negatives)
        predicted = output.projected_states.flatten(0, 1)[frame]
        logits = F.cosine_similarity(predicted, quantized[[frame, *negatives]], dim=-1) / 0.1
        expected = expected - logits.log_softmax(0)[0]
    assert left_out > 20
    close(output.contrastive_loss, expected)


def test_the_diversity_loss_counts_unused_codes() -> None:
    model = build("ForPreTraining", diversity_loss_weight=0.7)
    arguments = pretraining_arguments()
    output = model(noise(2, SAMPLES), **arguments)
    masked = arguments["mask_time_indices"].sum()
    close(output.diversity_loss, (80 - output.codevector_perplexity) / 80 * masked)
    close(output.loss, output.contrastive_loss + 0.7 * output.diversity_loss)


def test_losses_are_computed_where_negatives_are_given() -> None:
    model = build("ForPreTraining")
    arguments = pretraining_arguments()
    assert "loss" not in model(noise(2, SAMPLES))
    del arguments["sampled_negative_indices"]
    assert "loss" not in model(noise(2, SAMPLES), **arguments)


def test_masks_may_be_numbers() -> None:
    """The documented example makes both tensors of integers."""
    model = build("ForPreTraining")
    arguments: dict[str, Any] = pretraining_arguments()
    expected = model(noise(2, SAMPLES), **arguments).loss
    numbers = {name: value.long() for name, value in arguments.items()}
    assert torch.equal(model(noise(2, SAMPLES), **numbers).loss, expected)


@torch.no_grad()
def test_contrastive_logits_agree_with_the_oracle() -> None:
    ours, oracle = build_pair("ForPreTraining")
    tensors = noise(1, 2, 9, 8), noise(6, 2, 9, 8, seed=1), noise(2, 9, 8, seed=2)
    close(ours.compute_contrastive_logits(*tensors, 0.2), oracle.compute_contrastive_logits(*tensors, 0.2))
