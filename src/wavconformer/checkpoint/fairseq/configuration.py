"""The Hugging Face configuration that the weights and fairseq's settings tell together."""

from __future__ import annotations

from typing import Any

from wavconformer.checkpoint.fairseq.architecture import architecture, refuse_contradictions
from wavconformer.checkpoint.fairseq.expressions import evaluated
from wavconformer.checkpoint.fairseq.pickles import bare
from wavconformer.checkpoint.fairseq.settings import Sections, Settings
from wavconformer.checkpoint.fairseq.weights import Task, Weights
from wavconformer.errors import CheckpointError

# Settings that change what the model computes: fairseq's default, and the one value that a Wav2Vec2-Conformer
# can express.
BACKBONE_MUST = {"layer_norm_first": (False, True), "quantize_input": (False, False)}
CTC_MUST = {"blank_weight": (0.0, 0.0)}
PRETRAINING_MUST = {"quantize_targets": (False, True), "quantizer_depth": (1, 1), "target_glu": (False, False)}

# Settings that have no word in a Hugging Face configuration, with the value that needs none. They shape the
# training; crop_seq_to_multiple also drops a frame or two at the end.
MASKING_WITHOUT_WORD = {
    "mask_selection": "static",
    "mask_channel_selection": "static",
    "no_mask_overlap": False,
    "no_mask_channel_overlap": False,
    "mask_channel_before": False,
    "mask_dropout": 0,
}
BACKBONE_WITHOUT_WORD = {"crop_seq_to_multiple": 1}
PRETRAINING_WITHOUT_WORD = {"negatives_from_everywhere": False, "cross_sample_negatives": 0, "codebook_negatives": 0}
CRITERION_WITHOUT_WORD = {"infonce": True}


def configuration(weights: Weights, sections: Sections) -> dict[str, Any]:
    """Keyword arguments of `Wav2Vec2ConformerConfig`; `read_fairseq` says what becomes of which setting.

    Raises CheckpointError where settings are missing, contradict the weights, or name a model that computes
    something else.
    """
    _require_what_weights_cannot_tell(weights, sections)
    _require(sections.backbone, BACKBONE_MUST)
    config = architecture(weights, sections.backbone) | _dropout_and_masking(weights.task, sections)
    if weights.task == "ctc":
        _require(sections.tuned, CTC_MUST)
        return config | _quantizer(sections.backbone, config["hidden_size"]) | _fine_tuning(weights, sections)
    _require(sections.backbone, PRETRAINING_MUST)
    quantizer = _quantizer(sections.backbone, config["hidden_size"])
    sizes = _quantizer_sizes(weights, sections.backbone, quantizer)
    return config | quantizer | sizes | _diversity_loss(sections.criterion)


def lost_settings(task: Task, sections: Sections) -> tuple[str, ...]:
    """The settings that have no word in the configuration and aren't neutral, as "name=value"."""
    tables: list[tuple[Settings, dict[str, Any]]] = [
        (sections.tuned, MASKING_WITHOUT_WORD),
        (sections.backbone, BACKBONE_WITHOUT_WORD),
    ]
    if task == "pretraining":
        tables += [(sections.backbone, PRETRAINING_WITHOUT_WORD), (sections.criterion, CRITERION_WITHOUT_WORD)]
    return tuple(
        f"{name}={settings.plain(name)}"
        for settings, table in tables
        for name, neutral in table.items()
        if name in settings and settings.plain(name) != neutral
    )


def _require_what_weights_cannot_tell(weights: Weights, sections: Sections) -> None:
    """A file without settings is enough where the caller gives those that no shape tells."""
    if sections.known:
        return
    needed = ["conv_feature_layers", "layer_norm_first", "normalize"]
    if not weights.relative and not weights.rotary:
        needed += ["pos_enc_type", "encoder_attention_heads"]
    if weights.task == "pretraining":
        needed += ["latent_groups", "quantize_targets"]
    missing = [name for name in needed if name not in sections.task and name not in sections.backbone]
    if missing:
        raise CheckpointError(
            f"{weights.path} holds no settings of the model (neither 'cfg' nor 'args'), and its weights can't tell "
            f"{', '.join(missing)}: give them as fairseq settings (`wavconformer convert --set name=value`)."
        )


def _require(settings: Settings, table: dict[str, tuple[Any, Any]]) -> None:
    for name, (default, needed) in table.items():
        found = settings.get(name, default)
        if found != needed:
            raise CheckpointError(
                f"{settings.path} was made with {name}={found}. A Wav2Vec2-Conformer can only compute {name}={needed}: "
                "it would give other results."
            )


def _dropout_and_masking(task: Task, sections: Sections) -> dict[str, Any]:
    """What drops and masks in training; fairseq's defaults differ between pretraining and fine-tuning."""
    tuned, fine_tuned = sections.tuned, task == "ctc"
    dropout = tuned.get("dropout", 0.0 if fine_tuned else 0.1)
    return {
        "hidden_dropout": dropout,
        "attention_dropout": dropout,
        "activation_dropout": dropout,
        "conformer_conv_dropout": dropout,
        "feat_proj_dropout": tuned.get("dropout_input", 0.0),
        "feat_quantizer_dropout": sections.backbone.get("dropout_features", 0.0),
        "layerdrop": tuned.get("layerdrop" if fine_tuned else "encoder_layerdrop", 0.0),
        "apply_spec_augment": tuned.get("apply_mask", False) if fine_tuned else True,
        "mask_time_prob": tuned.get("mask_prob", 0.5 if fine_tuned else 0.65),
        "mask_time_length": tuned.get("mask_length", 10),
        "mask_time_min_masks": 2,
        "mask_feature_prob": tuned.get("mask_channel_prob", 0.0),
        "mask_feature_length": tuned.get("mask_channel_length", 10),
        "mask_feature_min_masks": 0,
    }


def _quantizer(settings: Settings, hidden: int) -> dict[str, Any]:
    """The quantizer and the contrastive task as the settings have them."""
    projected = settings.get("final_dim", 0) or hidden
    return {
        "num_codevectors_per_group": settings.get("latent_vars", 320),
        "num_codevector_groups": settings.get("latent_groups", 2),
        "codevector_dim": settings.get("latent_dim", 0) or projected,
        "proj_codevector_dim": projected,
        "contrastive_logits_temperature": settings.get("logit_temp", 0.1),
        "num_negatives": settings.get("num_negatives", 100),
    }


def _quantizer_sizes(weights: Weights, settings: Settings, quantizer: dict[str, Any]) -> dict[str, int]:
    """The quantizer's sizes as the weights of a pretraining checkpoint have them, checked against the settings."""
    groups = quantizer["num_codevector_groups"]
    vectors, width = weights.size("quantizer.vars", 3, 1), weights.size("quantizer.vars", 3, 2)
    if groups < 1 or vectors % groups:
        raise CheckpointError(f"{weights.path}: its {vectors} codevectors can't form latent_groups={groups} groups.")
    told = {
        "num_codevectors_per_group": vectors // groups,
        "codevector_dim": width * groups,
        "proj_codevector_dim": weights.size("final_proj.weight", 2),
    }
    names = zip(told, ("latent_vars", "latent_dim", "final_dim"), strict=True)
    said = {ours: quantizer[ours] for ours, theirs in names if settings.get(theirs, 0) > 0}
    refuse_contradictions(weights.path, said, told)
    return told


def _diversity_loss(criterion: Settings) -> dict[str, float]:
    """The weight of the diversity loss: the first of the criterion's extra losses, 0 where it names none."""
    if "loss_weights" not in criterion.values:
        return {}
    weights = criterion.plain("loss_weights") or [0.0]
    if isinstance(weights, str):  # in older files
        weights = evaluated(criterion.path, "loss_weights", weights)
    first: Any = bare(weights[0]) if isinstance(weights, list | tuple) else None
    if type(first) not in (int, float):
        raise CheckpointError(f"{criterion.path}: the setting loss_weights is no list of numbers: {weights!r}.")
    return {"diversity_loss_weight": float(first)}


def _fine_tuning(weights: Weights, sections: Sections) -> dict[str, Any]:
    """The CTC head and its loss."""
    return {
        "vocab_size": weights.rows,
        "final_dropout": sections.tuned.get("final_dropout", 0.0),
        "ctc_loss_reduction": "sum",
        "ctc_zero_infinity": sections.criterion.get("zero_infinity", False),
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
