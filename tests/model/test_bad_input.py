"""What can't be used is refused, and the message says what it is and what to do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wavconformer import ConfigError, Wav2Vec2ConformerConfig, Wav2Vec2ConformerForCTC, Wav2Vec2ConformerModel

from .builders import CLASSES, LABELS, build, noise, pad, settings, task_arguments

FRAMES = 18
SAMPLES = 6000
every_class = pytest.mark.parametrize("name", CLASSES)


# --- the waveform


@every_class
@pytest.mark.parametrize(
    ("waveform", "error", "words"),
    [
        (torch.zeros(8000), ValueError, r"shape \(8000,\).*\(batch, samples\).*x\[None\]"),
        (torch.zeros(2, 8000, 1), ValueError, r"shape \(2, 8000, 1\).*mono"),
        (torch.zeros(0, 8000), ValueError, "holds no utterance"),
        (torch.zeros(2, 8000, dtype=torch.int16), ValueError, r"torch\.int16.*floating point"),
        (torch.zeros(2, 8000, dtype=torch.bool), ValueError, r"torch\.bool.*floating point"),
        (torch.zeros(2, 8000, dtype=torch.complex64), ValueError, r"torch\.complex64.*floating point"),
        (np.zeros((2, 8000), np.float32), TypeError, r"ndarray.*return_tensors='pt'"),
        ([[0.0] * 8000], TypeError, r"list.*return_tensors='pt'"),
        (None, TypeError, "NoneType"),
    ],
    ids=["1-d", "3-d", "no-rows", "int16", "bool", "complex", "numpy", "list", "none"],
)
def test_what_is_no_batch_of_waveforms(name: str, waveform: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        build(name)(waveform)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
@torch.no_grad()
def test_other_floating_types_are_taken(dtype: torch.dtype) -> None:
    model = build("ForCTC")
    logits = model(noise(1, SAMPLES).to(dtype)).logits
    assert logits.dtype == torch.float32
    assert (logits - model(noise(1, SAMPLES)).logits).abs().max() < 0.2


@every_class
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
def test_samples_that_are_no_numbers(name: str, value: float) -> None:
    waveform = noise(2, 8000)
    waveform[1, 5000] = value
    with pytest.raises(ValueError, match="Utterance 1 of the batch holds NaN or infinite samples"):
        build(name)(waveform)


@every_class
def test_audio_shorter_than_a_frame(name: str) -> None:
    least = 400 if name != "ForXVector" else 400 + 5 * 320
    model = build(name)
    with pytest.raises(ValueError, match=rf"The audio has {least - 1} samples, but this model needs at least {least} "):
        model(noise(1, least - 1))
    assert model(noise(1, least))[0].isfinite().all()
    values, mask = pad([noise(SAMPLES), noise(least - 1)])
    with pytest.raises(ValueError, match=rf"Utterance 1 of the batch has {least - 1} samples.*at least {least} "):
        model(values, attention_mask=mask)
    with pytest.raises(ValueError, match="has 0 samples"):
        model(noise(1, 0))


def test_a_published_speaker_model_needs_a_third_of_a_second() -> None:
    """Sixteen frames: the TDNN takes fourteen, and a deviation needs two."""
    tdnn: dict[str, Any] = {
        "tdnn_dim": (8, 8, 8, 8, 8),
        "tdnn_kernel": (5, 3, 3, 1, 1),
        "tdnn_dilation": (1, 2, 3, 1, 1),
    }
    model = build("ForXVector", **tdnn)
    with pytest.raises(ValueError, match=r"5199 samples.*at least 5200 \(325 ms"):
        model(noise(1, 5199))
    assert model(noise(1, 5200)).embeddings.isfinite().all()
    values, mask = pad([noise(5199), noise(8000)])
    with pytest.raises(ValueError, match="Utterance 0 of the batch has 5199 samples"):
        model(values, attention_mask=mask)


@pytest.mark.parametrize("name", ["Model", "ForCTC", "ForXVector"])
def test_an_adapter_needs_more(name: str) -> None:
    model = build(name, add_adapter=True, adapter_kernel_size=5, num_adapter_layers=2)
    with pytest.raises(ValueError, match="The audio has 400 samples"):
        model(noise(1, 400))


@every_class
@pytest.mark.parametrize("norm", ["group", "layer"])
def test_silence_gives_numbers(name: str, norm: str) -> None:
    """No deviation anywhere, and yet no division by zero: neither forward nor backward."""
    model = build(name, feat_extract_norm=norm)
    for training in (False, True):
        model.train(training)
        values, mask = pad([torch.zeros(SAMPLES), torch.zeros(8000)])
        for arguments in ({}, {"attention_mask": mask}):
            model.zero_grad()
            output = model(values, **arguments, **task_arguments(name, model, 2, 8000))
            for field, value in output.items():
                assert value.isfinite().all(), field
            (output[0].square().sum() if name == "Model" else output.loss).backward()
            for parameter_name, parameter in model.named_parameters():
                assert parameter.grad is None or parameter.grad.isfinite().all(), parameter_name


# --- the mask


@every_class
@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (torch.ones(2, SAMPLES - 1), rf"attention_mask has the shape \(2, {SAMPLES - 1}\), input_values"),
        (torch.ones(SAMPLES), "attention_mask has the shape"),
        (torch.ones(2, FRAMES), "feature extractor"),
        ((torch.arange(SAMPLES) > 500).expand(2, -1), r"Row 0.*not ones followed by zeros.*padding_side='right'"),
        (
            torch.stack([torch.ones(SAMPLES), (torch.arange(SAMPLES) != 3000).float()]),
            r"Row 1 of attention_mask.*holes",
        ),
        (torch.tensor([[1], [0]]).expand(-1, SAMPLES), "Utterance 1 of the batch has 0 samples"),
    ],
    ids=["short", "1-d", "of-frames", "left-padded", "hole", "empty-row"],
)
def test_masks_that_are_no_padding(name: str, mask: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build(name)(noise(2, SAMPLES), attention_mask=mask)


# --- labels


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (torch.tensor([[1, 2], [3, 11]]), r"utterance 1 hold the id 11, outside.*vocabulary of 11 tokens"),
        (torch.tensor([[-1, 2], [3, 4]]), r"utterance 0 hold the id -1, outside"),
        (torch.tensor([1, 2]), r"labels is a tensor \(2,\) of torch\.int64, but must be \(batch, length\)"),
        (torch.tensor([[1, 2]]), r"\(1, 2\).*for the 2 utterances"),
        (torch.tensor([[1.0, 2.0], [1.0, 2.0]]), r"torch\.float32.*integers"),
        (torch.arange(FRAMES + 1).remainder(2)[None] + torch.ones(2, 1).long(), r"utterance 0 need 19 .* makes 18"),
        # A repeated label needs a blank between.
        (torch.ones(2, FRAMES // 2 + 1).long(), rf"need {FRAMES + 1} frames.*ctc_zero_infinity=True"),
    ],
    ids=["above", "below", "1-d", "fewer-rows", "floats", "too-long", "too-many-repeats"],
)
def test_transcripts_that_do_not_fit(labels: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build("ForCTC")(noise(2, SAMPLES), labels=labels)


@pytest.mark.parametrize("labels", [[[1, 2]], np.array([[1, 2]])], ids=["list", "numpy"])
def test_transcripts_that_are_no_tensor(labels: Any) -> None:
    with pytest.raises(TypeError, match=r"must be a tensor \(batch, length\)"):
        build("ForCTC")(noise(1, SAMPLES), labels=labels)


def test_a_transcript_longer_than_its_own_audio_in_a_padded_batch() -> None:
    values, mask = pad([noise(8000), noise(400 + 320)])
    labels = torch.tensor([[1, 2, 3], [1, 2, 3]])
    with pytest.raises(ValueError, match=r"utterance 1 need 3 frames, but its audio makes 2"):
        build("ForCTC")(values, attention_mask=mask, labels=labels)


@pytest.mark.parametrize(
    ("name", "labels", "words"),
    [
        ("ForSequenceClassification", torch.tensor([0, LABELS]), rf"label {LABELS} lies outside.*{LABELS} labels"),
        ("ForSequenceClassification", torch.tensor([0, -1]), "label -1 lies outside"),
        ("ForSequenceClassification", torch.tensor([0, 1, 2]), "3 labels for 2 items"),
        ("ForSequenceClassification", torch.tensor([-100, -100]), "All 2 labels are -100"),
        ("ForSequenceClassification", torch.zeros(2, 3), r"\(2, 3\).*needs \(2, 5\)"),
        ("ForAudioFrameClassification", torch.zeros(2, 7).long(), rf"\(2, 7\), but there are {FRAMES} frames"),
        ("ForAudioFrameClassification", torch.zeros(2).long(), r"must be \(batch, frames\)"),
        ("ForAudioFrameClassification", torch.full((2, FRAMES), 9), "label 9 lies outside"),
        ("ForAudioFrameClassification", torch.full((2, FRAMES), -100), "nothing to learn"),
        ("ForAudioFrameClassification", torch.zeros(2, FRAMES, 3), r"needs \(36, 5\)"),
        ("ForXVector", torch.tensor([0, LABELS]), f"label {LABELS} lies outside"),
        ("ForXVector", torch.tensor([0, -100]), "label -100 lies outside"),
        ("ForXVector", torch.tensor([0]), "1 labels for 2 items"),
    ],
    ids=[
        *(f"sequence-{what}" for what in ("above", "below", "too-many", "all-ignored", "shape")),
        *(f"frames-{what}" for what in ("too-few", "1-d", "above", "all-ignored", "shape")),
        *(f"speaker-{what}" for what in ("above", "ignored", "too-few")),
    ],
)
def test_classes_that_are_not_there(name: str, labels: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build(name)(noise(2, SAMPLES), labels=labels)


# --- pretraining


def masks(**changes: Any) -> dict[str, Any]:
    return {
        "mask_time_indices": torch.ones(2, FRAMES, dtype=torch.bool),
        "sampled_negative_indices": torch.zeros(2, FRAMES, 6, dtype=torch.long),
        **changes,
    }


@pytest.mark.parametrize(
    ("arguments", "overrides", "words"),
    [
        (masks(mask_time_indices=torch.ones(2, 7)), {}, rf"mask_time_indices has the shape \(2, 7\).*{FRAMES} frames"),
        (masks(mask_time_indices=torch.ones(1, FRAMES)), {}, rf"shape \(1, {FRAMES}\).*2 utterances"),
        (masks(mask_time_indices=None), {}, "without mask_time_indices"),
        (masks(sampled_negative_indices=torch.zeros(2, 7, 6)), {}, r"sampled_negative_indices has the shape \(2, 7, 6"),
        (masks(sampled_negative_indices=torch.zeros(2, FRAMES)), {}, r"\(batch, frames, negatives\)"),
        (masks(), {"apply_spec_augment": False}, "apply_spec_augment=False"),
        (masks(), {"mask_time_prob": 0.0}, "no masked_spec_embed"),
        (masks(), {"add_adapter": True}, "add_adapter=False"),
    ],
    ids=["mask-shape", "mask-rows", "no-mask", "negatives-shape", "negatives-2d", "no-augment", "no-embed", "adapter"],
)
def test_pretraining_that_can_not_be(arguments: dict[str, Any], overrides: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build("ForPreTraining", **overrides)(noise(2, SAMPLES), **arguments)


def test_a_mask_for_the_bare_model_must_fit_too() -> None:
    with pytest.raises(ValueError, match="mask_time_indices has the shape"):
        build("Model", mask_time_prob=0.1)(noise(2, SAMPLES), mask_time_indices=torch.ones(2, 7, dtype=torch.bool))


# --- building


@pytest.mark.parametrize("wish", [{"every_n_layers": 2}, {"offload": True}], ids=str)
def test_checkpointing_that_is_not_offered(wish: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="every_n_layers must be 1 and offload False"):
        build("ForCTC").gradient_checkpointing_enable(**wish)


@pytest.mark.parametrize("name", ["ForSequenceClassification", "ForAudioFrameClassification"])
def test_heads_that_take_no_adapter(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}.*add_adapter=False"):
        build(name, add_adapter=True)


def test_a_ctc_model_needs_a_vocabulary() -> None:
    with pytest.raises(ConfigError, match=r"needs vocab_size.*from_pretrained\(\.\.\., vocab_size"):
        build("ForCTC", vocab_size=None)


def test_a_language_needs_adapters() -> None:
    config = Wav2Vec2ConformerConfig(**settings("ForCTC"))
    with pytest.raises(ConfigError, match=r"target_lang is 'fra'.*adapter_attn_dim"):
        Wav2Vec2ConformerForCTC(config, target_lang="fra")
    with pytest.raises(ValueError, match="adapter_attn_dim"):
        build("ForCTC").init_adapter_layers()


@pytest.mark.parametrize("wrong", [{"hidden_size": 24}, "facebook/wav2vec2-conformer-rel-pos-large", None], ids=repr)
def test_a_model_is_built_from_a_configuration(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"takes a Wav2Vec2ConformerConfig, not.*from_pretrained"):
        Wav2Vec2ConformerModel(wrong)


@every_class
def test_an_encoder_of_waveforms_has_no_token_embeddings(name: str) -> None:
    model = build(name)
    with pytest.raises(NotImplementedError, match=r"no token embeddings to resize.*vocab_size"):
        model.resize_token_embeddings(50)
    with pytest.raises(NotImplementedError, match="no token embeddings"):
        model.get_input_embeddings()
    with pytest.raises(NotImplementedError, match="prune"):
        model.prune_heads({0: [1]})
