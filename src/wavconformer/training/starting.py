"""What a run starts from: the model, and what makes its inputs."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from wavconformer.checkpoint import models
from wavconformer.checkpoint.adapters import checked_language, save_adapter
from wavconformer.checkpoint.pretrained import PreTrained
from wavconformer.checkpoint.weights import save_tensors
from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.data.corpus import Corpus
from wavconformer.data.examine import read_tokenizer
from wavconformer.errors import CheckpointError, ConfigError, DataError
from wavconformer.files import Source, write_json
from wavconformer.processing import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor
from wavconformer.training.filterbank import set_filterbank
from wavconformer.training.lora import add_lora, peft_config, peft_tensors
from wavconformer.training.recipe import Recipe

CLASSES: dict[str, type[PreTrained]] = {
    "ctc": models.Wav2Vec2ConformerForCTC,
    "sequence": models.Wav2Vec2ConformerForSequenceClassification,
    "frame": models.Wav2Vec2ConformerForAudioFrameClassification,
    "xvector": models.Wav2Vec2ConformerForXVector,
    "pretrain": models.Wav2Vec2ConformerForPreTraining,
}
BASE_FILE = "base.json"
"""Beside small weights: which checkpoint they go with."""


@dataclass
class Start:
    """The model, in training mode, and what makes its inputs. labels: the classes' names."""

    model: PreTrained
    feature_extractor: Wav2Vec2FeatureExtractor
    tokenizer: Wav2Vec2CTCTokenizer | None
    labels: tuple[str, ...]
    recipe: Recipe

    @property
    def is_small(self) -> bool:
        """Whether a language's adapter, or low-rank matrices, are trained alone."""
        return self.recipe.model.adapter is not None or self.recipe.model.lora.rank > 0

    def trained(self) -> dict[str, Tensor]:
        """The weights that training changes, by name."""
        return {name: value.detach() for name, value in self.model.named_parameters() if name in self.trainable}

    def __post_init__(self) -> None:
        self.trainable = {name for name, value in self.model.named_parameters() if value.requires_grad}

    def save(self, folder: Path) -> None:
        """Writes a checkpoint folder that loads by its name; small weights alone where these alone are trained."""
        settings = self.recipe.model
        if self.is_small:
            base = {"base": settings.init, "language": settings.adapter}
            write_json(folder / BASE_FILE, base)
            config = {**self.model.config.to_dict(), "architectures": [type(self.model).__name__]}
            write_json(folder / "config.json", config)
        if settings.adapter is not None:
            assert isinstance(self.model, models.Wav2Vec2ConformerForCTC)
            save_adapter(self.model, folder, settings.adapter)
        elif settings.lora.rank:
            save_tensors(peft_tensors(self.trained()), folder / "adapter_model.safetensors")
            heads = sorted(name for name, _ in self.model.named_children() if name != self.model.base_model_prefix)
            write_json(folder / "adapter_config.json", peft_config(settings.lora, str(settings.init), heads))
        else:
            self.model.save_pretrained(folder)
        if self.tokenizer is None:
            self.feature_extractor.save_pretrained(folder)
        else:
            Wav2Vec2Processor(self.feature_extractor, self.tokenizer).save_pretrained(folder)


def start(recipe: Recipe, checkpoint: Path | None = None) -> Start:
    """The model of a recipe, with the parts in training that it trains.

    checkpoint: the folder to read whole weights from in place of `model.init`, as a resumed run does.

    Raises ConfigError for settings that don't go together, CheckpointError for a checkpoint that can't be used,
    DataError where the data says no vocabulary or no classes.
    """
    settings, trainer = recipe.model, recipe.trainer
    small = settings.adapter is not None or settings.lora.rank > 0
    if small and settings.init is None:
        raise ConfigError("model.adapter and model.lora train little beside a trained model: name it in model.init.")
    if settings.adapter is not None and recipe.task != "ctc":
        raise ConfigError(f"model.adapter is of a language, for the task ctc, not {recipe.task}.")
    if settings.adapter is not None:
        checked_language(settings.adapter)
    init = settings.init if checkpoint is None or small else str(checkpoint)
    tokenizer = _tokenizer(recipe, init) if recipe.task == "ctc" else None
    labels = class_names(recipe)
    values = _values(recipe, tokenizer, labels)
    cls = CLASSES[recipe.task]
    if init is None:
        model = cls(Wav2Vec2ConformerConfig.preset(settings.preset, **values))
        if settings.filterbank:
            set_filterbank(model)
        _shorten_classes(model)
        extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    else:
        model = _loaded(cls, init, values, tokenizer)
        extractor = Wav2Vec2FeatureExtractor.from_pretrained(init)
    model.train()
    if recipe.task == "pretrain" and not model.config.apply_spec_augment:
        raise ConfigError("Pretraining hides frames: model.config.apply_spec_augment must be true.")
    for name, parameter in model.named_parameters():
        if ".pos_conv_embed." in name:  # in each checkpoint, and used by none of the models
            parameter.requires_grad_(False)
    config = model.config
    hides_frames = recipe.task == "pretrain" or (config.apply_spec_augment and config.mask_time_prob > 0)
    masked: Any = getattr(model.base_model, "masked_spec_embed", None)
    if masked is not None and not hides_frames:
        masked.requires_grad_(False)
    if trainer.freeze_feature_encoder:
        model.freeze_feature_encoder()
    if settings.adapter is not None:
        assert isinstance(model, models.Wav2Vec2ConformerForCTC)
        model.freeze_all_but_adapters()
        model.target_lang = settings.adapter
    elif settings.lora.rank:
        add_lora(model, settings.lora)
    if trainer.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    return Start(model, extractor, tokenizer, labels, recipe)


def class_names(recipe: Recipe) -> tuple[str, ...]:
    """Names of the classes that a recipe tells apart, in order; for x-vectors speakers where there are no labels."""
    if recipe.data.labels or recipe.task not in ("sequence", "xvector"):
        return recipe.data.labels
    utterances = iter(Corpus.open(*recipe.data.train))
    if recipe.task == "sequence":
        return tuple(sorted({one.label for one in utterances if one.label is not None}))
    names = (one.label or one.speaker for one in utterances)
    return tuple(sorted({name for name in names if name is not None}))


def _tokenizer(recipe: Recipe, init: str | None) -> Wav2Vec2CTCTokenizer:
    name = recipe.data.vocabulary or init
    if name is None:
        raise DataError(
            "CTC needs a vocabulary: set data.vocabulary to the vocab.json that `wavconformer prepare --vocabulary "
            "build` wrote, or model.init to a checkpoint that has one."
        )
    return read_tokenizer(name)


def _values(recipe: Recipe, tokenizer: Wav2Vec2CTCTokenizer | None, labels: tuple[str, ...]) -> dict[str, Any]:
    """Fields of the configuration that the recipe and its data decide."""
    values: dict[str, Any] = {}
    if recipe.task == "pretrain" and recipe.model.init is None:
        values |= {"mask_time_prob": 0.65, "mask_time_length": 10}  # as published
    if recipe.model.adapter is not None:
        values["adapter_attn_dim"] = recipe.model.adapter_dim
    values |= recipe.model.config
    if tokenizer is not None:
        asked = values.get("vocab_size", len(tokenizer))
        if asked != len(tokenizer):
            raise ConfigError(
                f"model.config.vocab_size is {asked}, but the vocabulary has {len(tokenizer)} tokens, which decide it: "
                "leave it out, or name another data.vocabulary."
            )
        values |= {
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        }
    if labels:
        values["id2label"] = dict(enumerate(labels))
        values["label2id"] = {label: number for number, label in enumerate(labels)}
    known = set(Wav2Vec2ConformerConfig.names()) | {"num_labels"}
    unknown = sorted(values.keys() - known)
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        advice = f" Did you mean model.config.{near[0]}?" if near else ""
        raise ConfigError(f"model.config.{unknown[0]} is no field of the model's configuration.{advice}")
    return values


def _loaded(
    cls: type[PreTrained], name: str, values: Mapping[str, Any], tokenizer: Wav2Vec2CTCTokenizer | None
) -> PreTrained:
    """The checkpoint's model with the head that the task needs: a new one where its classes or letters are others."""
    stored = Wav2Vec2ConformerConfig.from_pretrained(name)
    if "adapter_attn_dim" in values and stored.adapter_attn_dim is not None:
        values = {**values, "adapter_attn_dim": stored.adapter_attn_dim}  # its own size stands
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*start from random values", category=UserWarning)
        model, info = cls.from_pretrained(
            name, config=stored.copy(**values), output_loading_info=True, ignore_mismatched_sizes=True
        )
    prefix = f"{cls.base_model_prefix}."
    if "objective.weight" in {*info["missing_keys"], *(key for key, _, _ in info["mismatched_keys"])}:
        _shorten_classes(model)
    wrong = [key for key, _, _ in info["mismatched_keys"] if key.startswith(prefix)]
    if wrong:
        raise CheckpointError(f"model.config doesn't fit '{name}': {', '.join(wrong[:5])} have other shapes there.")
    assert isinstance(model, PreTrained)
    if tokenizer is not None and Source(name).find("vocab.json") is not None:
        before = Wav2Vec2CTCTokenizer.from_pretrained(name).get_vocab()
        if before != tokenizer.get_vocab() and not info["mismatched_keys"]:
            model.init_weights(skip=model.base_model)  # as many letters, but others
    return model


def _shorten_classes(model: PreTrained) -> None:
    """Lets new class vectors of AM-softmax begin short, which sees directions alone: Adam's steps turn them faster.

    At their usual length of √D they hardly move, and the embeddings must learn random directions by heart.
    """
    if isinstance(model, models.Wav2Vec2ConformerForXVector):
        model.objective.weight.data.mul_(model.config.initializer_range)
