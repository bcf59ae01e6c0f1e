"""Small models, ours and the oracle's with the same weights, and what they are called with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

import wavconformer
from wavconformer import Wav2Vec2ConformerConfig, compute_mask_indices, sample_negative_indices

POSITIONS = ("relative", "rotary", None)
NORMS = ("group", "layer")
HEADS = ("ForCTC", "ForSequenceClassification", "ForAudioFrameClassification", "ForXVector", "ForPreTraining")
CLASSES = ("Model", *HEADS)
WITH_ADAPTER = ("Model", "ForCTC", "ForXVector", "ForPreTraining")
WITH_LAYER_SUM = ("ForSequenceClassification", "ForAudioFrameClassification", "ForXVector")
LABELS = 5

SHAPE: dict[str, Any] = {
    "vocab_size": 11,
    "num_labels": LABELS,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "conv_dim": (8, 8, 10, 10, 12, 12, 14),
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "conv_depthwise_kernel_size": 5,
    "max_source_positions": 10,  # fewer than the frames: positions must grow
    "num_adapter_layers": 2,
    "num_codevectors_per_group": 40,
    "codevector_dim": 12,
    "proj_codevector_dim": 10,
    "num_negatives": 6,
    "classifier_proj_size": 9,
    "tdnn_dim": (10, 8, 12),
    "tdnn_kernel": (3, 2, 1),
    "tdnn_dilation": (1, 2, 1),
    "xvector_output_dim": 7,
    "initializer_range": 0.2,  # so that attention prefers some frames to others
    "mask_time_length": 3,
    "mask_feature_length": 4,
}
NO_RANDOMNESS: dict[str, Any] = {
    "hidden_dropout": 0.0,
    "activation_dropout": 0.0,
    "attention_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "feat_quantizer_dropout": 0.0,
    "final_dropout": 0.0,
    "conformer_conv_dropout": 0.0,
    "layerdrop": 0.0,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
}


def settings(name: str, **overrides: Any) -> dict[str, Any]:
    """The configuration of a small model of that class, without randomness."""
    # Pretraining masks the frames it is given, and needs the embedding that stands in for them.
    mask = {"mask_time_prob": 0.3} if name == "ForPreTraining" else {}
    return {**SHAPE, **NO_RANDOMNESS, **mask, **overrides}


def build(name: str, *, seed: int = 0, **overrides: Any) -> Any:
    """Our model in eval mode."""
    torch.manual_seed(seed)
    model_class = getattr(wavconformer, f"Wav2Vec2Conformer{name}")
    model = model_class(Wav2Vec2ConformerConfig(**settings(name, **overrides)))
    _unsettle(model)
    return model.eval()


def build_pair(name: str, *, seed: int = 0, attention: str = "eager", **overrides: Any) -> tuple[Any, Any]:
    """Ours and the oracle with the same weights, in eval mode."""
    torch.manual_seed(seed)
    oracle_class = getattr(transformers, f"Wav2Vec2Conformer{name}")
    oracle = oracle_class(transformers.Wav2Vec2ConformerConfig(**settings(name, **overrides)))
    oracle.set_attn_implementation(attention)
    _unsettle(oracle)
    ours = build(name, seed=seed + 1, **overrides)
    ours.load_state_dict(oracle.state_dict(), strict=True)
    return ours, oracle.eval()


@torch.no_grad()
def _unsettle(model: torch.nn.Module) -> None:
    """Moves biases, norms and running statistics off 0 and 1, so that no mistake in them goes unseen."""
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.3 * torch.randn_like(parameter))
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.3)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Numbers of zero mean and unit variance: waveforms as the feature extractor hands them over."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pad(utterances: list[Tensor], filler: float = 0.0) -> tuple[Tensor, Tensor]:
    """Waveforms (S,) one below the other, padded on the right with `filler`, and their attention mask."""
    values = torch.nn.utils.rnn.pad_sequence(utterances, batch_first=True, padding_value=filler)
    lengths = torch.tensor([len(utterance) for utterance in utterances])
    return values, (torch.arange(values.shape[1]) < lengths[:, None]).long()


def task_arguments(name: str, model: Any, batch: int, samples: int, seed: int = 0) -> dict[str, Tensor]:
    """What the class needs for its loss, beside the waveforms."""
    generator = torch.Generator().manual_seed(seed)
    frames = int(model.feature_lengths(samples, add_adapter=False))
    if name == "ForCTC":
        length = max(1, int(model.feature_lengths(samples)) // 3)
        labels = torch.randint(1, model.config.vocab_size, (batch, length), generator=generator)
        labels[0, length // 2 + 1 :] = -100
        return {"labels": labels}
    if name in ("ForSequenceClassification", "ForXVector"):
        return {"labels": torch.randint(0, LABELS, (batch,), generator=generator)}
    if name == "ForAudioFrameClassification":
        return {"labels": F.one_hot(torch.randint(0, LABELS, (batch, frames), generator=generator), LABELS)}
    if name == "ForPreTraining":
        random = np.random.default_rng(seed)
        mask = compute_mask_indices((batch, frames), 0.4, 3, min_masks=2, generator=random)
        arguments = {"mask_time_indices": torch.from_numpy(mask)}
        if not model.config.add_adapter:
            negatives = sample_negative_indices((batch, frames), 6, mask, random)
            arguments["sampled_negative_indices"] = torch.from_numpy(negatives)
        return arguments
    return {}


def objective(output: Any) -> Tensor:
    """The loss; of a model without one, a scalar that all its results have a part in."""
    if output.get("loss") is not None:
        return output["loss"].sum()
    results = [value for value in output.values() if isinstance(value, Tensor) and value.ndim == 3]
    return torch.stack([(noise(*result.shape) * result.square()).sum() for result in results]).sum()


# --- comparing


def largest_difference(ours: Any, theirs: Any) -> float:
    """Largest absolute difference between two tensors, or tuples of them, of the same shapes."""
    if isinstance(theirs, Tensor):
        assert ours.shape == theirs.shape
        return (ours - theirs).abs().max().item() if theirs.numel() else 0.0
    assert len(ours) == len(theirs)
    return max(largest_difference(a, b) for a, b in zip(ours, theirs, strict=True))


def assert_same_outputs(ours: Any, theirs: Any, tolerance: float = 1e-4) -> None:
    """The same fields in the same order, with the same values; losses to 1e-5 of their size."""
    assert list(ours) == list(theirs)
    for field, theirs_value in theirs.items():
        if field.endswith("loss"):
            torch.testing.assert_close(ours[field], theirs_value, rtol=1e-5, atol=0, msg=field)
        else:
            assert largest_difference(ours[field], theirs_value) <= tolerance, field


def assert_same_gradients(ours: Any, theirs: Any, tolerance: float = 1e-3) -> None:
    """Gradients equal to `tolerance` of each tensor's largest.

    Some are zero in theory, as a bias of all keys shifts a query's scores alike: what differs there is rounding,
    which is measured by the largest gradient of the model.
    """
    theirs_by_name = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    rounding = 1e-6 * max(gradient.abs().max().item() for gradient in theirs_by_name.values() if gradient is not None)
    for name, parameter in ours.named_parameters():
        expected = theirs_by_name.pop(name)
        assert (parameter.grad is None) == (expected is None), name
        if expected is not None:
            allowed = max(tolerance * expected.abs().max().item(), rounding)
            assert largest_difference(parameter.grad, expected) <= allowed, name
    assert not theirs_by_name
