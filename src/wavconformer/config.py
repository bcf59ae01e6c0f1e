"""`Wav2Vec2ConformerConfig`: every field, its default, its check."""

from __future__ import annotations

import copy
import json
import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from wavconformer.errors import ConfigError
from wavconformer.files import Source, push_folder, read_json, write_text

POSITION_TYPES = ("relative", "rotary", None)
FEATURE_NORMS = ("group", "layer")
CTC_REDUCTIONS = ("mean", "sum", "none")
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification", None)
# Names that `hidden_act` and `feat_extract_activation` may have; `model.activations` holds the functions.
ACTIVATIONS = (
    "elu",
    "gelu",
    "gelu_fast",
    "gelu_new",
    "gelu_pytorch_tanh",
    "leaky_relu",
    "linear",
    "mish",
    "quick_gelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "swish",
    "tanh",
)
_CHOICES: dict[str, tuple[Any, ...]] = {
    "position_embeddings_type": POSITION_TYPES,
    "feat_extract_norm": FEATURE_NORMS,
    "ctc_loss_reduction": CTC_REDUCTIONS,
    "problem_type": PROBLEM_TYPES,
}
# The least that each whole number may be.
_LEAST = {
    **dict.fromkeys(
        (
            "hidden_size",
            "num_attention_heads",
            "intermediate_size",
            "num_conv_pos_embeddings",
            "num_conv_pos_embedding_groups",
            "mask_time_length",
            "mask_feature_length",
            "num_codevectors_per_group",
            "num_codevector_groups",
            "codevector_dim",
            "proj_codevector_dim",
            "num_negatives",
            "classifier_proj_size",
            "xvector_output_dim",
            "adapter_kernel_size",
            "adapter_stride",
            "output_hidden_size",
            "conv_depthwise_kernel_size",
            "max_source_positions",
            "vocab_size",
            "adapter_attn_dim",
        ),
        1,
    ),
    **dict.fromkeys(("num_hidden_layers", "num_adapter_layers", "mask_time_min_masks", "mask_feature_min_masks"), 0),
}
_MAY_BE_NONE = ("vocab_size", "adapter_attn_dim", "output_hidden_size")
_PROBABILITIES = (
    "hidden_dropout",
    "activation_dropout",
    "attention_dropout",
    "feat_proj_dropout",
    "feat_quantizer_dropout",
    "final_dropout",
    "conformer_conv_dropout",
    "layerdrop",
    "mask_time_prob",
    "mask_feature_prob",
)
_POSITIVE = ("layer_norm_eps", "contrastive_logits_temperature", "rotary_embedding_base")
_SWITCHES = (
    "conv_bias",
    "apply_spec_augment",
    "ctc_zero_infinity",
    "use_weighted_layer_sum",
    "add_adapter",
    "output_hidden_states",
    "output_attentions",
    "return_dict",
)
# What stands in a file for an activation that was a Python function: a JSON file can't hold it.
_CALLABLE = "callable:"

Activation = str | Callable[[Any], Any]


@dataclass(init=False, eq=True)
class Wav2Vec2ConformerConfig:
    """Shape, regularisation and task settings of a Wav2Vec2-Conformer model.

    Fields and defaults are those of the Hugging Face class of the same name, whose `config.json` this reads
    and writes. Arguments are keywords; what this class doesn't know is kept as an attribute and written back.
    A contradiction between values is a `ConfigError`, raised when the configuration is made.

    Architecture
        vocab_size: rows of the CTC head, None without one.
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: the Conformer blocks (D, their
            number, H, F).
        hidden_act: activation of feed-forward and convolution module, a name or a callable.
        layer_norm_eps: epsilon of the feature projection's and the encoder's last layer norm.
        conv_dim, conv_stride, conv_kernel, conv_bias: the feature encoder's convolutions, one entry a layer.
        feat_extract_norm: "group" (first layer alone, over time) or "layer" (every layer, over channels).
        feat_extract_activation: activation between these convolutions, a name or a callable.
        num_conv_pos_embeddings, num_conv_pos_embedding_groups: the convolutional position embedding that each
            checkpoint holds and no Conformer forward uses.
        position_embeddings_type: "relative", "rotary" or None.
        rotary_embedding_base, max_source_positions: base of the rotary frequencies; a starting size of the
            relative positions, no limit.
        conv_depthwise_kernel_size: odd kernel of the convolution module.
        add_adapter, adapter_kernel_size, adapter_stride, num_adapter_layers, output_hidden_size: convolutions on
            top that shorten the sequence.
        adapter_attn_dim: bottleneck of the per-language adapter in each block; None for none.

    Regularisation (probabilities in [0, 1])
        hidden_dropout, activation_dropout, attention_dropout, feat_proj_dropout, feat_quantizer_dropout,
        final_dropout, conformer_conv_dropout, layerdrop; apply_spec_augment, mask_time_prob, mask_time_length,
        mask_time_min_masks, mask_feature_prob, mask_feature_length, mask_feature_min_masks (SpecAugment).

    Pretraining
        num_codevectors_per_group, num_codevector_groups, codevector_dim, proj_codevector_dim, num_negatives,
        contrastive_logits_temperature, diversity_loss_weight.

    Heads
        ctc_loss_reduction: "mean", "sum" or "none". ctc_zero_infinity: let labels that don't fit count as zero.
        use_weighted_layer_sum, classifier_proj_size; tdnn_dim, tdnn_kernel, tdnn_dilation, xvector_output_dim.
        id2label, label2id, num_labels: the classes. problem_type: how the sequence head's loss is computed.
    """

    model_type: ClassVar[str] = "wav2vec2-conformer"

    vocab_size: int | None = None
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: Activation = "gelu"
    hidden_dropout: float = 0.1
    activation_dropout: float = 0.1
    attention_dropout: float = 0.1
    feat_proj_dropout: float = 0.0
    feat_quantizer_dropout: float = 0.0
    final_dropout: float = 0.1
    layerdrop: float = 0.1
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    feat_extract_norm: str = "group"
    feat_extract_activation: Activation = "gelu"
    conv_dim: Sequence[int] = (512, 512, 512, 512, 512, 512, 512)
    conv_stride: Sequence[int] = (5, 2, 2, 2, 2, 2, 2)
    conv_kernel: Sequence[int] = (10, 3, 3, 3, 3, 2, 2)
    conv_bias: bool = False
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    apply_spec_augment: bool = True
    mask_time_prob: float = 0.05
    mask_time_length: int = 10
    mask_time_min_masks: int = 2
    mask_feature_prob: float = 0.0
    mask_feature_length: int = 10
    mask_feature_min_masks: int = 0
    num_codevectors_per_group: int = 320
    num_codevector_groups: int = 2
    contrastive_logits_temperature: float = 0.1
    num_negatives: int = 100
    codevector_dim: int = 256
    proj_codevector_dim: int = 256
    diversity_loss_weight: float = 0.1
    ctc_loss_reduction: str = "sum"
    ctc_zero_infinity: bool = False
    use_weighted_layer_sum: bool = False
    classifier_proj_size: int = 256
    tdnn_dim: Sequence[int] = (512, 512, 512, 512, 1500)
    tdnn_kernel: Sequence[int] = (5, 3, 3, 1, 1)
    tdnn_dilation: Sequence[int] = (1, 2, 3, 1, 1)
    xvector_output_dim: int = 512
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | None = 2
    add_adapter: bool = False
    adapter_kernel_size: int = 3
    adapter_stride: int = 2
    num_adapter_layers: int = 3
    output_hidden_size: int | None = None
    adapter_attn_dim: int | None = None
    position_embeddings_type: str | None = "relative"
    rotary_embedding_base: int = 10000
    max_source_positions: int = 5000
    conv_depthwise_kernel_size: int = 31
    conformer_conv_dropout: float = 0.1

    # What every Hugging Face configuration carries and these models use.
    architectures: Sequence[str] | None = None
    dtype: str | None = None
    id2label: Mapping[int, str] | None = None
    label2id: Mapping[str, int] | None = None
    problem_type: str | None = None
    output_hidden_states: bool = False
    output_attentions: bool = False
    return_dict: bool = True

    name_or_path = ""  # where it was read from; no value of the configuration

    extra: dict[str, Any] = field(default_factory=dict, repr=False)
    """What the file or the caller gave beyond the fields above; each key is readable as an attribute too."""

    def __init__(self, **values: Any) -> None:
        name_or_path = values.pop("name_or_path", values.pop("_name_or_path", ""))
        num_labels = values.pop("num_labels", None)
        values.pop("num_feat_extract_layers", None)  # derived, and written by older files
        model_type = values.pop("model_type", self.model_type)
        if model_type != self.model_type:
            raise ConfigError(f"The configuration is of a '{model_type}' model, not of a '{self.model_type}'.")
        legacy_dtype = values.pop("torch_dtype", None)
        if values.get("dtype") is None and legacy_dtype is not None:
            values["dtype"] = legacy_dtype
        for entry in fields(self):
            if entry.name == "extra":
                continue
            default = entry.default_factory() if entry.default_factory is not MISSING else entry.default
            setattr(self, entry.name, values.pop(entry.name, default))
        self.extra = dict(values)
        self.name_or_path = str(name_or_path)
        for name in ("conv_dim", "conv_stride", "conv_kernel", "tdnn_dim", "tdnn_kernel", "tdnn_dilation"):
            setattr(self, name, _integers(name, getattr(self, name)))
        self.dtype = None if self.dtype is None else str(self.dtype).removeprefix("torch.")
        if self.output_hidden_size is None:
            self.output_hidden_size = self.hidden_size
        self._set_labels(num_labels)
        self.validate()

    # --- labels

    def _set_labels(self, num_labels: int | None) -> None:
        if self.id2label is not None:
            self.id2label = _numbered(self.id2label)
            if num_labels is not None and num_labels != len(self.id2label):
                warnings.warn(
                    f"num_labels={num_labels} disagrees with the {len(self.id2label)} entries of id2label, which "
                    "decide. Pass both id2label and label2id, or num_labels alone.",
                    stacklevel=4,
                )
            if self.label2id is None:
                self.label2id = {label: index for index, label in self.id2label.items()}
            else:
                self.label2id = _named(self.label2id)
        elif self.label2id is not None:
            self.label2id = _named(self.label2id)
            self.id2label = {index: label for label, index in self.label2id.items()}
        else:
            self.num_labels = 2 if num_labels is None else num_labels
        if not self.id2label:
            raise ConfigError("id2label is empty, but a head needs at least one label.")

    @property
    def num_labels(self) -> int:
        """Number of classes of a classification head; setting it to another number renames them LABEL_0, …"""
        return len(self.id2label or ())

    @num_labels.setter
    def num_labels(self, value: int) -> None:
        if value is None or int(value) < 1:
            raise ConfigError(f"num_labels is {value}, but a head needs at least one label.")
        if self.id2label is None or len(self.id2label) != value:
            self.id2label = {index: f"LABEL_{index}" for index in range(int(value))}
            self.label2id = {label: index for index, label in self.id2label.items()}

    @property
    def _labels_are_default(self) -> bool:
        return self.id2label == {0: "LABEL_0", 1: "LABEL_1"}

    # --- derived values

    @property
    def num_feat_extract_layers(self) -> int:
        """Number of convolutions in the feature encoder."""
        return len(self.conv_dim)

    @property
    def head_size(self) -> int:
        """Size K of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def inputs_to_logits_ratio(self) -> int:
        """Samples from one frame to the next: the product of the strides, 320 by default (the adapter aside)."""
        return math.prod(self.conv_stride)

    @property
    def hop_length(self) -> int:
        """Samples from one output frame to the next, the adapter's strides included."""
        adapter = self.adapter_stride**self.num_adapter_layers if self.add_adapter else 1
        return self.inputs_to_logits_ratio * adapter

    @property
    def receptive_field(self) -> int:
        """Samples that one frame of the feature encoder sees, 400 by default: the least that makes a frame."""
        samples = 1
        for kernel, stride in zip(reversed(self.conv_kernel), reversed(self.conv_stride), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples

    def frame_rate(self, sampling_rate: int = 16_000) -> float:
        """Output frames per second, 50 by default."""
        return sampling_rate / self.hop_length

    @property
    def use_return_dict(self) -> bool:
        """The Hugging Face name for `return_dict`."""
        return self.return_dict

    # --- checks

    def validate(self) -> None:
        """Raises ConfigError at the first value, or pair of values, that no model can be made from."""
        for entry in fields(self):
            self._check_field(entry.name, getattr(self, entry.name))
        self._check_problem()
        self._check_shapes()

    def _check_field(self, name: str, value: Any) -> None:
        """Raises ConfigError where a field can't have that value, whatever the others are."""
        if name in _LEAST and (value is not None or name not in _MAY_BE_NONE):
            _require_integer(name, value, least=_LEAST[name])
        elif name in _PROBABILITIES:
            if not _is_number(value) or not 0 <= value <= 1:
                raise ConfigError(f"{name} is {value!r}, but a probability lies between 0 and 1.")
        elif name in _POSITIVE:
            if not _is_number(value) or not value > 0:
                raise ConfigError(f"{name} is {value!r}, but must be a positive number.")
        elif name in _SWITCHES:
            if not isinstance(value, bool):
                raise ConfigError(f"{name} is {value!r}, but must be true or false.")
        elif name in ("initializer_range", "diversity_loss_weight"):
            if not _is_number(value) or value < 0:
                raise ConfigError(f"{name} is {value!r}, but must be a number ≥ 0.")
        elif name in _CHOICES:
            if value not in _CHOICES[name]:
                known = ", ".join(repr(choice) for choice in _CHOICES[name])
                raise ConfigError(f"{name} is {value!r}, but must be one of {known}.")
        elif name in ("hidden_act", "feat_extract_activation"):
            _check_activation(name, value)
        elif name == "architectures" and not (value is None or _is_list_of_text(value)):
            raise ConfigError(f"architectures is {value!r}, but must be a list of class names.")

    def _check_problem(self) -> None:
        if self.problem_type == "single_label_classification" and self.num_labels == 1:
            raise ConfigError(
                "problem_type is 'single_label_classification' with one label, which is always right: use "
                "num_labels=2, or problem_type='regression'."
            )

    def _check_shapes(self) -> None:
        if not len(self.conv_dim) == len(self.conv_stride) == len(self.conv_kernel) > 0:
            raise ConfigError(
                "conv_dim, conv_stride and conv_kernel need an entry for each convolution, but have "
                f"{len(self.conv_dim)}, {len(self.conv_stride)} and {len(self.conv_kernel)} entries."
            )
        if not len(self.tdnn_dim) == len(self.tdnn_kernel) == len(self.tdnn_dilation) > 0:
            raise ConfigError(
                "tdnn_dim, tdnn_kernel and tdnn_dilation need an entry for each TDNN layer, but have "
                f"{len(self.tdnn_dim)}, {len(self.tdnn_kernel)} and {len(self.tdnn_dilation)} entries."
            )
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"hidden_size {self.hidden_size} can't be split evenly over {self.num_attention_heads} "
                "num_attention_heads."
            )
        if self.position_embeddings_type == "rotary" and self.head_size % 2:
            raise ConfigError(
                f"Rotary positions rotate pairs, but hidden_size {self.hidden_size} over "
                f"{self.num_attention_heads} heads gives the odd head size {self.head_size}."
            )
        if self.position_embeddings_type == "relative" and self.hidden_size % 2:
            raise ConfigError(
                f"Relative positions are pairs of sine and cosine, but hidden_size {self.hidden_size} is odd."
            )
        if self.conv_depthwise_kernel_size % 2 == 0:
            raise ConfigError(
                f"conv_depthwise_kernel_size is {self.conv_depthwise_kernel_size}, but must be odd, so that a "
                "block's output keeps its input's length."
            )
        if self.hidden_size % self.num_conv_pos_embedding_groups:
            raise ConfigError(
                f"hidden_size {self.hidden_size} can't be split evenly over "
                f"{self.num_conv_pos_embedding_groups} num_conv_pos_embedding_groups."
            )
        if self.codevector_dim % self.num_codevector_groups:
            raise ConfigError(
                f"codevector_dim {self.codevector_dim} can't be split evenly over "
                f"{self.num_codevector_groups} num_codevector_groups."
            )
        blank, tokens = self.pad_token_id, self.vocab_size
        if blank is not None and tokens is not None and blank not in range(tokens):
            raise ConfigError(
                f"pad_token_id is {blank!r}, but as the CTC blank must be None or an id below the vocab_size {tokens}."
            )

    # --- dictionaries and files

    def to_dict(self) -> dict[str, Any]:
        """The configuration as the plain values of `config.json`."""
        output: dict[str, Any] = copy.deepcopy(self.extra)
        for entry in fields(self):
            if entry.name != "extra":
                output[entry.name] = _plain(getattr(self, entry.name))
        output["model_type"] = self.model_type
        output["num_feat_extract_layers"] = self.num_feat_extract_layers
        for name in ("adapter_attn_dim", "problem_type", "architectures", "dtype"):
            if output[name] is None:
                del output[name]
        if self._labels_are_default:
            del output["id2label"], output["label2id"]
        else:
            output["id2label"] = {str(index): label for index, label in (self.id2label or {}).items()}
        return output

    def to_diff_dict(self) -> dict[str, Any]:
        """`to_dict` without the values that are the defaults."""
        default = type(self)().to_dict()
        return {
            key: value
            for key, value in self.to_dict().items()
            if key == "model_type" or key not in default or default[key] != value
        }

    def to_json_string(self, use_diff: bool = False) -> str:
        """The text of `config.json`: every value, or with `use_diff` those that differ from the defaults."""
        content = self.to_diff_dict() if use_diff else self.to_dict()
        return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    def to_json_file(self, path: str | os.PathLike[str], use_diff: bool = False) -> None:
        """Writes `to_json_string` to a file, whole or not at all."""
        write_text(Path(path), self.to_json_string(use_diff))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **overrides: Any) -> Wav2Vec2ConformerConfig:
        """A configuration of the values of a `config.json`; keyword arguments override them."""
        merged = {**values, **overrides}
        if "num_labels" in overrides and "id2label" not in overrides:
            known = values.get("id2label") or {}
            if len(known) != overrides["num_labels"]:
                merged.pop("id2label", None)
                merged.pop("label2id", None)
        elif "id2label" in overrides and "label2id" not in overrides:
            merged.pop("label2id", None)
        elif "label2id" in overrides and "id2label" not in overrides:
            merged.pop("id2label", None)
        if "output_hidden_size" not in overrides and merged.get("output_hidden_size") == values.get("hidden_size"):
            merged.pop("output_hidden_size", None)  # written as the hidden size's equal, it follows it
        return cls(**{key: value if callable(value) else copy.deepcopy(value) for key, value in merged.items()})

    @classmethod
    def from_json_file(cls, path: str | os.PathLike[str]) -> Wav2Vec2ConformerConfig:
        """A configuration of one JSON file."""
        return cls.from_dict(_read(Path(path), cls.model_type))

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], **arguments: Any) -> Any:
        """Reads `config.json` of a folder or Hub repository.

        revision, cache_dir, token, local_files_only, force_download and subfolder say where it comes from
        (`wavconformer.files.Source`); any other keyword overrides the value of that name. With
        `return_unused_kwargs=True` keywords that are no value of it are returned beside it, as (config, unused).

        Raises CheckpointError where there is no such file, ConfigError where it is of another kind of model.
        """
        wants_unused = arguments.pop("return_unused_kwargs", False)
        source = Source.take(name, arguments)
        unknown = cls.unknown(source, arguments) if wants_unused else set()
        unused = {key: arguments.pop(key) for key in unknown}
        config = cls.from_source(source, **arguments)
        return (config, unused) if wants_unused else config

    @classmethod
    def from_source(cls, source: Source, **overrides: Any) -> Wav2Vec2ConformerConfig:
        """As `from_pretrained`, of a source."""
        values = _read(source.require("config.json"), cls.model_type)
        return cls.from_dict(values, **{"_name_or_path": str(source.name), **overrides})

    @classmethod
    def unknown(cls, source: Source, names: Iterable[str]) -> set[str]:
        """Those of the names that are neither fields nor keys of the source's `config.json`."""
        known = {*cls.names(), *_read(source.require("config.json"), cls.model_type)}
        return set(names) - known

    @classmethod
    def names(cls) -> list[str]:
        """The names of all values that can be given, keys of a file that this class doesn't know aside."""
        return [entry.name for entry in fields(cls) if entry.name != "extra"] + ["num_labels", "torch_dtype"]

    def save_pretrained(self, folder: str | os.PathLike[str], push_to_hub: bool = False, **arguments: Any) -> None:
        """Writes `config.json` into `folder`, made if missing; with `push_to_hub` uploads it as well."""
        self.to_json_file(Path(folder) / "config.json")
        if push_to_hub:
            self.push_to_hub(arguments.pop("repo_id", Path(folder).name), **arguments)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Upload configuration",
        token: str | bool | None = None,
        private: bool | None = None,
    ) -> str:
        """Uploads `config.json` to a Hub repository and returns the commit's address."""
        return push_folder(self.save_pretrained, repo_id, commit_message=commit_message, token=token, private=private)

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> Wav2Vec2ConformerConfig:
        """A named shape: "rel-pos-large" and "rope-large" as released, "base" and "tiny"."""
        if name not in PRESETS:
            raise ConfigError(f"There is no preset '{name}': choose {', '.join(PRESETS)}.")
        return cls.from_dict(PRESETS[name], **overrides)

    @property
    def torch_dtype(self) -> str | None:
        """The older Hugging Face name for `dtype`."""
        return self.dtype

    def update(self, values: Mapping[str, Any]) -> None:
        """Sets the given values and checks the whole again; on a contradiction nothing is changed."""
        self.__dict__.update(self.copy(**values).__dict__)

    def copy(self, **overrides: Any) -> Wav2Vec2ConformerConfig:
        """A configuration of the same values, functions included; keyword arguments override them."""
        values = self.to_dict()
        for name in ("hidden_act", "feat_extract_activation"):
            values[name] = getattr(self, name)
        return self.from_dict(values, **{"name_or_path": self.name_or_path, **overrides})

    def __setattr__(self, name: str, value: Any) -> None:
        # What this class doesn't know is kept where the file's other unknown keys are, and so written back.
        if name.startswith("_") or name == "extra" or hasattr(type(self), name):
            self._check_field(name, value)
            super().__setattr__(name, value)
        else:
            self.extra[name] = value

    def __getattr__(self, name: str) -> Any:
        # Called only when ordinary lookup fails: the keys this class doesn't know.
        extra = self.__dict__.get("extra", {})
        if name in extra:
            return extra[name]
        if name == "_name_or_path":
            return self.name_or_path
        raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'")

    def __str__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string(use_diff=True)}"


_LARGE: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "hidden_act": "swish",
    "feat_extract_norm": "layer",
    "conv_bias": True,
    "codevector_dim": 768,
    "proj_codevector_dim": 768,
}
PRESETS: dict[str, dict[str, Any]] = {
    "rel-pos-large": {**_LARGE, "position_embeddings_type": "relative"},
    "rope-large": {**_LARGE, "position_embeddings_type": "rotary"},
    "base": {"hidden_act": "swish", "feat_extract_norm": "layer", "conv_bias": True},
    "tiny": {
        "hidden_size": 192,
        "num_hidden_layers": 8,
        "num_attention_heads": 4,
        "intermediate_size": 768,
        "hidden_act": "swish",
        "feat_extract_norm": "layer",
        "conv_bias": True,
        # As a filterbank of 25 ms every 10 ms, then two convolutions: a frame every 30 ms.
        "conv_dim": (256, 256, 256),
        "conv_kernel": (400, 3, 3),
        "conv_stride": (160, 1, 3),
        "conv_depthwise_kernel_size": 15,
        "num_conv_pos_embeddings": 16,
        "position_embeddings_type": "rotary",
        "hidden_dropout": 0.0,
        "activation_dropout": 0.0,
        "attention_dropout": 0.0,
        "conformer_conv_dropout": 0.0,
        "feat_proj_dropout": 0.0,
        "final_dropout": 0.02,
        "layerdrop": 0.0,
    },
}


def _read(path: Path, model_type: str) -> dict[str, Any]:
    values = read_json(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no configuration: it must be a JSON object.")
    if values.get("model_type", model_type) != model_type:
        raise ConfigError(
            f"{path} is the configuration of a '{values['model_type']}' model, not of a '{model_type}': "
            "wavconformer runs the Wav2Vec2-Conformer family alone."
        )
    return values


def _integers(name: str, values: Any) -> tuple[int, ...]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise ConfigError(f"{name} is {values!r}, but must be a list of integers.")
    for value in values:
        _require_integer(f"An entry of {name}", value, least=1)
    return tuple(values)


def _numbered(id2label: Any) -> dict[int, str]:
    try:
        return {int(index): str(label) for index, label in id2label.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"id2label is {id2label!r}, but must map each class number to its name.") from error


def _named(label2id: Any) -> dict[str, int]:
    try:
        return {str(label): int(index) for label, index in label2id.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"label2id is {label2id!r}, but must map each class name to its number.") from error


def _check_activation(name: str, value: Any) -> None:
    if isinstance(value, str) and value.startswith(_CALLABLE):
        raise ConfigError(
            f"{name} was the Python function {value.removeprefix(_CALLABLE)} when this configuration was saved, and a "
            f"file can't hold a function: pass {name}=… again."
        )
    if not callable(value) and value not in ACTIVATIONS:
        raise ConfigError(f"{name} is {value!r}, but must be callable or one of {', '.join(ACTIVATIONS)}.")


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)


def _require_integer(name: str, value: Any, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} is {value!r}, but must be an integer of at least {least}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _plain(value: Any) -> Any:
    if callable(value):
        return f"{_CALLABLE}{getattr(value, '__module__', '?')}.{getattr(value, '__qualname__', value)}"
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    return copy.deepcopy(value)
