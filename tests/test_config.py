"""The configuration: the oracle's fields and defaults, the same file in both libraries, and clear refusals."""

from __future__ import annotations

import copy
import json
import pickle
import tempfile
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from wavconformer import CheckpointError, ConfigError, Wav2Vec2ConformerConfig
from wavconformer.config import ACTIVATIONS, CTC_REDUCTIONS, FEATURE_NORMS, POSITION_TYPES, PRESETS, PROBLEM_TYPES
from wavconformer.model.activations import FUNCTIONS

transformers.logging.set_verbosity_error()

OURS_ALONE = {"adapter_attn_dim"}
# What the oracle writes into every file; to us these are unknown keys.
THEIRS_ALONE = {"transformers_version", "chunk_size_feed_forward", "is_encoder_decoder", "_name_or_path"}
FIELDS = [entry.name for entry in fields(Wav2Vec2ConformerConfig) if entry.name != "extra"]

# Another valid value for each field.
OTHER_VALUES: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 48,
    "num_hidden_layers": 0,
    "num_attention_heads": 6,
    "intermediate_size": 7,
    "hidden_act": "swish",
    "hidden_dropout": 0.2,
    "activation_dropout": 0.3,
    "attention_dropout": 0.4,
    "feat_proj_dropout": 1.0,
    "feat_quantizer_dropout": 0.5,
    "final_dropout": 0,
    "layerdrop": 0.6,
    "initializer_range": 0.0,
    "layer_norm_eps": 1e-6,
    "feat_extract_norm": "layer",
    "feat_extract_activation": "relu",
    "conv_dim": (8, 9, 10, 11, 12, 13, 14),
    "conv_stride": (2, 2, 2, 2, 2, 2, 3),
    "conv_kernel": (3, 3, 3, 3, 3, 3, 4),
    "conv_bias": True,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 8,
    "apply_spec_augment": False,
    "mask_time_prob": 0.65,
    "mask_time_length": 4,
    "mask_time_min_masks": 0,
    "mask_feature_prob": 0.1,
    "mask_feature_length": 64,
    "mask_feature_min_masks": 3,
    "num_codevectors_per_group": 11,
    "num_codevector_groups": 4,
    "contrastive_logits_temperature": 0.2,
    "num_negatives": 9,
    "codevector_dim": 12,
    "proj_codevector_dim": 13,
    "diversity_loss_weight": 0.0,
    "ctc_loss_reduction": "mean",
    "ctc_zero_infinity": True,
    "use_weighted_layer_sum": True,
    "classifier_proj_size": 14,
    "tdnn_dim": (8, 8, 8, 8, 15),
    "tdnn_kernel": (5, 3, 3, 1, 2),
    "tdnn_dilation": (1, 2, 3, 1, 2),
    "xvector_output_dim": 17,
    "pad_token_id": 3,
    "bos_token_id": None,
    "eos_token_id": 4,
    "add_adapter": True,
    "adapter_kernel_size": 5,
    "adapter_stride": 3,
    "num_adapter_layers": 1,
    "output_hidden_size": 18,
    "adapter_attn_dim": 16,
    "position_embeddings_type": "rotary",
    "rotary_embedding_base": 5000,
    "max_source_positions": 10,
    "conv_depthwise_kernel_size": 15,
    "conformer_conv_dropout": 0.7,
    "architectures": ["Wav2Vec2ConformerForCTC"],
    "dtype": "float16",
    "id2label": {0: "yes", 1: "no", 2: "maybe"},
    "label2id": {"yes": 0, "no": 1},
    "problem_type": "regression",
    "output_hidden_states": True,
    "output_attentions": True,
    "return_dict": False,
}

# In the manner of the released checkpoints' files: old, and full of keys that no class knows any more.
OLD_FILE = {
    "activation_dropout": 0.0,
    "architectures": ["Wav2Vec2ConformerForCTC"],
    "attention_dropout": 0.1,
    "bos_token_id": 1,
    "conv_bias": True,
    "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "do_stable_layer_norm": True,
    "feat_extract_dropout": 0.0,
    "feat_extract_norm": "layer",
    "gradient_checkpointing": False,
    "hidden_act": "swish",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 1024,
    "mask_channel_length": 10,
    "mask_channel_other": 0.0,
    "mask_channel_selection": "static",
    "model_type": "wav2vec2-conformer",
    "num_attention_heads": 16,
    "num_feat_extract_layers": 7,
    "output_hidden_size": 1024,
    "torch_dtype": "float32",
    "transformers_version": "4.19.0.dev0",
    "vocab_size": 32,
    "a_nested_one": {"deep": [1, {"er": None}]},
}


def twin(values: dict[str, Any]) -> transformers.Wav2Vec2ConformerConfig:
    return transformers.Wav2Vec2ConformerConfig(**values)


def comparable(value: Any) -> Any:
    """Tuples and lists alike, and a dtype by its name."""
    if isinstance(value, (list, tuple)):
        return list(value)
    return str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else value


def assert_same_fields(ours: Wav2Vec2ConformerConfig, theirs: Any) -> None:
    for name in [*FIELDS, "num_labels", "num_feat_extract_layers", "inputs_to_logits_ratio", "use_return_dict"]:
        if name not in OURS_ALONE:
            assert comparable(getattr(ours, name)) == comparable(getattr(theirs, name)), name


# --- fields and defaults


def test_every_default_is_the_oracles():
    ours, theirs = Wav2Vec2ConformerConfig(), twin({})
    assert_same_fields(ours, theirs)
    assert theirs.to_dict().keys() - THEIRS_ALONE == {*FIELDS, "model_type", "num_feat_extract_layers"} - OURS_ALONE
    assert ours.conv_kernel == (10, 3, 3, 3, 3, 2, 2)
    assert ours.layer_norm_eps == 1e-5
    assert ours.adapter_attn_dim is None
    assert ours.model_type == theirs.model_type == "wav2vec2-conformer"


def test_the_other_values_cover_every_field():
    assert OTHER_VALUES.keys() == set(FIELDS)
    default = Wav2Vec2ConformerConfig()
    assert [name for name in FIELDS if OTHER_VALUES[name] == getattr(default, name)] == []


@pytest.mark.parametrize("name", FIELDS)
def test_a_keyword_overrides_one_default(name):
    config, default = Wav2Vec2ConformerConfig(**{name: OTHER_VALUES[name]}), Wav2Vec2ConformerConfig()
    assert getattr(config, name) == OTHER_VALUES[name]
    follows = {"id2label": "label2id", "label2id": "id2label", "hidden_size": "output_hidden_size"}.get(name)
    for other in FIELDS:
        if other not in (name, follows):
            assert getattr(config, other) == getattr(default, other), other
    if name not in OURS_ALONE | {"label2id"}:  # the oracle forgets a label2id that comes alone
        assert_same_fields(config, twin({name: OTHER_VALUES[name]}) if name != "id2label" else config)


def test_every_named_activation_has_its_function():
    assert set(ACTIVATIONS) == FUNCTIONS.keys()


@pytest.mark.parametrize(
    ("given_as", "kept_as"), [(torch.float16, "float16"), ("torch.bfloat16", "bfloat16"), ("float32", "float32")]
)
def test_dtype_is_kept_by_name(given_as, kept_as):
    assert Wav2Vec2ConformerConfig(dtype=given_as).dtype == kept_as
    assert Wav2Vec2ConformerConfig(torch_dtype=given_as).dtype == kept_as
    assert Wav2Vec2ConformerConfig(dtype=given_as, torch_dtype="float64").dtype == kept_as


def test_output_hidden_size_follows_hidden_size_unless_set():
    assert Wav2Vec2ConformerConfig(hidden_size=48).output_hidden_size == 48
    assert Wav2Vec2ConformerConfig(hidden_size=48, output_hidden_size=20).output_hidden_size == 20
    read = Wav2Vec2ConformerConfig.from_dict(Wav2Vec2ConformerConfig().to_dict(), hidden_size=48)
    assert read.output_hidden_size == 48
    narrow = Wav2Vec2ConformerConfig(output_hidden_size=20)
    assert Wav2Vec2ConformerConfig.from_dict(narrow.to_dict(), hidden_size=48).output_hidden_size == 20


# --- derived values


def test_the_default_geometry():
    config = Wav2Vec2ConformerConfig()
    assert config.inputs_to_logits_ratio == config.hop_length == 320
    assert config.frame_rate() == 50.0
    assert config.frame_rate(8_000) == 25.0
    assert config.receptive_field == 400
    assert config.num_feat_extract_layers == 7
    assert config.head_size == 64


def test_the_adapter_lowers_the_frame_rate():
    config = Wav2Vec2ConformerConfig(add_adapter=True, adapter_stride=2, num_adapter_layers=3)
    assert config.inputs_to_logits_ratio == 320  # as the oracle defines it
    assert config.hop_length == 320 * 8
    assert config.frame_rate() == 6.25


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 4)), min_size=1, max_size=4))
def test_the_receptive_field_is_the_least_that_makes_a_frame(layers):
    kernels, strides = zip(*layers, strict=True)
    config = Wav2Vec2ConformerConfig(conv_dim=[4] * len(layers), conv_kernel=kernels, conv_stride=strides)

    def frames(samples: int) -> int:
        x = torch.zeros(1, 1, samples)
        for kernel, stride in layers:
            if x.shape[2] < kernel:
                return 0
            x = torch.nn.functional.conv1d(x, torch.zeros(1, 1, kernel), stride=stride)
        return x.shape[2]

    least = config.receptive_field
    assert (frames(least - 1) if least > 1 else 0, frames(least)) == (0, 1)
    assert frames(least + config.hop_length - 1) == 1
    assert frames(least + config.hop_length) == 2


# --- labels


@pytest.mark.parametrize(
    ("given_values", "id2label", "label2id"),
    [
        ({}, {0: "LABEL_0", 1: "LABEL_1"}, {"LABEL_0": 0, "LABEL_1": 1}),
        ({"num_labels": 1}, {0: "LABEL_0"}, {"LABEL_0": 0}),
        ({"num_labels": 3}, {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}, {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, {0: "a", 1: "b", 2: "c"}, {"a": 0, "b": 1, "c": 2}),
        ({"label2id": {"a": 0, "b": 1, "c": 2}}, {0: "a", 1: "b", 2: "c"}, {"a": 0, "b": 1, "c": 2}),
        ({"id2label": {0: "a"}, "label2id": {"A": "0"}}, {0: "a"}, {"A": 0}),
        ({"id2label": {0: "a", 1: "b"}, "num_labels": 2}, {0: "a", 1: "b"}, {"a": 0, "b": 1}),
    ],
)
def test_labels_of_a_new_configuration(given_values, id2label, label2id):
    config = Wav2Vec2ConformerConfig(**given_values)
    assert config.id2label == id2label
    assert config.label2id == label2id
    assert config.num_labels == len(id2label)
    assert Wav2Vec2ConformerConfig.from_dict(config.to_dict()) == config


def test_id2label_decides_over_num_labels_with_a_warning():
    with pytest.warns(UserWarning, match=r"num_labels=5 disagrees with the 2 entries of id2label"):
        config = Wav2Vec2ConformerConfig(num_labels=5, id2label={0: "a", 1: "b"})
    assert config.id2label == {0: "a", 1: "b"}  # the oracle warns as well, and then drops the names


def test_setting_num_labels_renames_unless_it_is_the_same_number():
    for config in (Wav2Vec2ConformerConfig(id2label={0: "a", 1: "b"}), twin({"id2label": {0: "a", 1: "b"}})):
        config.num_labels = 2
        assert config.id2label == {0: "a", 1: "b"}
        config.num_labels = 3
        assert config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
        assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}


def test_overriding_the_labels_of_a_file():
    file = Wav2Vec2ConformerConfig(id2label={0: "a", 1: "b", 2: "c"}).to_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Wav2Vec2ConformerConfig.from_dict(file, num_labels=3).id2label == {0: "a", 1: "b", 2: "c"}
        fewer = Wav2Vec2ConformerConfig.from_dict(file, num_labels=2)
        renamed = Wav2Vec2ConformerConfig.from_dict(file, id2label={0: "x"})
        turned = Wav2Vec2ConformerConfig.from_dict(file, label2id={"x": 0, "y": 1})
    assert fewer.label2id == {"LABEL_0": 0, "LABEL_1": 1}
    assert (renamed.label2id, renamed.num_labels) == ({"x": 0}, 1)
    assert turned.id2label == {0: "x", 1: "y"}


# --- unknown keys


def test_unknown_keys_are_read_as_attributes_and_written_back(tmp_path):
    config = Wav2Vec2ConformerConfig(my_note="kept", nested={"a": [1, 2]})
    assert config.my_note == "kept"
    assert config.to_dict()["nested"] == json.loads(config.to_json_string())["nested"] == {"a": [1, 2]}
    config.save_pretrained(tmp_path)
    assert Wav2Vec2ConformerConfig.from_pretrained(tmp_path).my_note == "kept"
    theirs = transformers.Wav2Vec2ConformerConfig.from_pretrained(tmp_path)
    assert (theirs.my_note, theirs.nested) == ("kept", {"a": [1, 2]})
    theirs.save_pretrained(tmp_path / "theirs")
    again = Wav2Vec2ConformerConfig.from_pretrained(tmp_path / "theirs")
    assert (again.my_note, again.nested) == ("kept", {"a": [1, 2]})
    assert again.transformers_version == transformers.__version__


def test_an_attribute_set_later_is_written_too():
    config = Wav2Vec2ConformerConfig(gradient_checkpointing=False)
    config.gradient_checkpointing = True
    config.another = 7
    config.hidden_dropout = 0.5
    written = json.loads(config.to_json_string())
    assert (written["gradient_checkpointing"], written["another"], written["hidden_dropout"]) == (True, 7, 0.5)


def test_what_is_neither_known_nor_given_is_no_attribute():
    with pytest.raises(AttributeError, match="no attribute 'hiden_size'"):
        _ = Wav2Vec2ConformerConfig().hiden_size


def test_an_old_file_loses_nothing(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(OLD_FILE))
    config = Wav2Vec2ConformerConfig.from_pretrained(tmp_path)
    assert_same_fields(config, transformers.Wav2Vec2ConformerConfig.from_pretrained(tmp_path))
    config.save_pretrained(tmp_path / "again")
    written = json.loads((tmp_path / "again" / "config.json").read_text())
    lost = {key for key, value in OLD_FILE.items() if key not in written or written[key] != value}
    assert lost == {"torch_dtype"}  # which is called dtype now
    assert written["dtype"] == "float32"
    assert config.do_stable_layer_norm is True
    assert config.name_or_path == config._name_or_path == str(tmp_path)
    assert "name_or_path" not in written
    assert "_name_or_path" not in written


# --- dictionaries and files


@st.composite
def values(draw: st.DrawFn) -> dict[str, Any]:
    """Valid values for some of the fields."""
    heads, head_size = draw(st.integers(1, 4)), 2 * draw(st.integers(1, 8))
    convolutions, tdnn = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    sizes = st.integers(1, 9)
    share = st.floats(0, 1).map(lambda x: round(x, 6))
    groups = draw(st.integers(1, 3))
    vocab_size = draw(st.none() | st.integers(1, 99))
    drawn: dict[str, Any] = {
        "vocab_size": vocab_size,
        "pad_token_id": draw(st.none() | st.integers(0, (vocab_size or 99) - 1)),
        "num_attention_heads": heads,
        "hidden_size": heads * head_size,
        "num_conv_pos_embedding_groups": heads,
        "num_hidden_layers": draw(st.integers(0, 5)),
        "conv_dim": draw(st.lists(sizes, min_size=convolutions, max_size=convolutions)),
        "conv_kernel": draw(st.lists(sizes, min_size=convolutions, max_size=convolutions)),
        "conv_stride": draw(st.lists(sizes, min_size=convolutions, max_size=convolutions)),
        "tdnn_dim": draw(st.lists(sizes, min_size=tdnn, max_size=tdnn)),
        "tdnn_kernel": draw(st.lists(sizes, min_size=tdnn, max_size=tdnn)),
        "tdnn_dilation": draw(st.lists(sizes, min_size=tdnn, max_size=tdnn)),
        "num_codevector_groups": groups,
        "codevector_dim": groups * draw(sizes),
        "hidden_act": draw(st.sampled_from(["gelu", "swish", "relu", "gelu_new"])),
        "feat_extract_norm": draw(st.sampled_from(FEATURE_NORMS)),
        "position_embeddings_type": draw(st.sampled_from(POSITION_TYPES)),
        "ctc_loss_reduction": draw(st.sampled_from(["mean", "sum"])),
        "conv_depthwise_kernel_size": 2 * draw(sizes) + 1,
        "hidden_dropout": draw(share),
        "mask_time_prob": draw(share),
        "layerdrop": draw(share),
        "add_adapter": draw(st.booleans()),
        "output_hidden_size": draw(st.none() | sizes),
        "output_attentions": draw(st.booleans()),
        "return_dict": draw(st.booleans()),
        "num_labels": draw(st.integers(2, 5)),
        "problem_type": draw(st.sampled_from(PROBLEM_TYPES)),
        "dtype": draw(st.sampled_from([None, "float16", "bfloat16"])),
        "an_unknown_key": draw(st.none() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)),
    }
    chosen = draw(st.sets(st.sampled_from(["an_unknown_key", "num_labels", "problem_type", "dtype", "layerdrop"])))
    return {key: value for key, value in drawn.items() if key not in chosen}


@settings(max_examples=30, deadline=None)
@given(values())
def test_round_trips_in_both_libraries(drawn):
    config = Wav2Vec2ConformerConfig(**drawn)
    assert Wav2Vec2ConformerConfig.from_dict(config.to_dict()) == config
    assert Wav2Vec2ConformerConfig.from_dict(json.loads(config.to_json_string())) == config
    assert Wav2Vec2ConformerConfig.from_dict(config.to_diff_dict()) == config
    theirs = twin(drawn)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config.save_pretrained(folder)
        assert Wav2Vec2ConformerConfig.from_pretrained(folder) == config
        assert_same_fields(config, transformers.Wav2Vec2ConformerConfig.from_pretrained(folder))
        theirs.save_pretrained(folder)
        read = Wav2Vec2ConformerConfig.from_pretrained(folder)
        assert_same_fields(read, theirs)
        assert_same_fields(read, config)


def test_the_files_text_is_sorted_json_with_every_value():
    text = Wav2Vec2ConformerConfig(adapter_attn_dim=4).to_json_string()
    content = json.loads(text)
    assert list(content) == sorted(content)
    assert text.endswith("}\n")
    left_out = {"id2label", "label2id", "problem_type", "architectures", "dtype"}  # as the oracle leaves them out
    assert content.keys() == {*FIELDS, "model_type", "num_feat_extract_layers"} - left_out


def test_the_difference_to_the_defaults_alone():
    config = Wav2Vec2ConformerConfig(hidden_size=48, my_note="kept")
    assert json.loads(config.to_json_string(use_diff=True)) == {
        "hidden_size": 48,
        "output_hidden_size": 48,
        "model_type": "wav2vec2-conformer",
        "my_note": "kept",
    }
    assert '"hidden_size": 48' in str(config)


def test_one_json_file(tmp_path):
    config = Wav2Vec2ConformerConfig(vocab_size=12)
    config.to_json_file(tmp_path / "deep" / "any.json")
    assert Wav2Vec2ConformerConfig.from_json_file(tmp_path / "deep" / "any.json") == config
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["any.json"]


def test_overrides_of_a_folder(tmp_path):
    Wav2Vec2ConformerConfig(hidden_size=48).save_pretrained(tmp_path)
    config = Wav2Vec2ConformerConfig.from_pretrained(str(tmp_path), hidden_dropout=0.25, my_note=1)
    assert (config.hidden_size, config.hidden_dropout, config.my_note) == (48, 0.25, 1)


def test_a_dictionary_that_was_read_is_left_alone():
    file = {"id2label": {"0": "a", "1": "b"}, "nested": {"a": [1]}, "conv_dim": [1, 2], "conv_kernel": [1, 1]}
    before = copy.deepcopy(file)
    config = Wav2Vec2ConformerConfig.from_dict(file, conv_stride=[1, 1])
    config.nested["a"].append(2)
    config.to_dict()["nested"]["a"].append(3)
    assert file == before
    assert config.nested == {"a": [1, 2]}


def test_copies_are_equal_and_independent():
    config = Wav2Vec2ConformerConfig(hidden_size=48, my_note=[1], hidden_act=torch.tanh, name_or_path="here")
    for other in (copy.deepcopy(config), pickle.loads(pickle.dumps(config)), config.copy()):  # noqa: S301
        assert other == config
        assert other.name_or_path == "here"
        other.my_note.append(2)
        other.hidden_size = 96
        assert (config.my_note, config.hidden_size) == ([1], 48)
        assert other != config
    assert config.copy(hidden_dropout=0.9).hidden_dropout == 0.9


# --- update


def test_update_sets_values_and_checks_the_whole():
    config = Wav2Vec2ConformerConfig(name_or_path="here", my_note=1)
    config.update({"hidden_size": 48, "num_labels": 3, "my_note": 2, "new": 3})
    assert (config.hidden_size, config.output_hidden_size, config.num_labels) == (48, 48, 3)
    assert (config.my_note, config.new, config.name_or_path) == (2, 3, "here")
    before = config.to_dict()
    with pytest.raises(ConfigError, match="hidden_size 50"):
        config.update({"hidden_dropout": 0.5, "hidden_size": 50})
    assert config.to_dict() == before


def test_update_keeps_functions():
    config = Wav2Vec2ConformerConfig(hidden_act=torch.tanh)
    config.update({"hidden_dropout": 0.3, "feat_extract_activation": torch.relu})
    assert config.hidden_act is torch.tanh
    assert config.feat_extract_activation is torch.relu


# --- functions as activations


def negated(x: torch.Tensor) -> torch.Tensor:
    return -x


@pytest.mark.parametrize("name", ["hidden_act", "feat_extract_activation"])
@pytest.mark.parametrize("function", [negated, torch.nn.Softsign(), lambda x: x], ids=["def", "module", "lambda"])
def test_a_function_is_named_in_the_file_and_asked_for_again(tmp_path, name, function):
    config = Wav2Vec2ConformerConfig(**{name: function})
    assert getattr(config, name) is function
    config.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=rf"{name} was the Python function .*: pass {name}=… again"):
        Wav2Vec2ConformerConfig.from_pretrained(tmp_path)
    again = Wav2Vec2ConformerConfig.from_pretrained(tmp_path, **{name: function})
    assert getattr(again, name) is function
    assert again == config


def test_the_error_names_the_function(tmp_path):
    Wav2Vec2ConformerConfig(hidden_act=negated).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"test_config\.negated when this configuration was saved"):
        Wav2Vec2ConformerConfig.from_pretrained(tmp_path)


# --- refusals

AT_LEAST_ONE = [
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
    "classifier_proj_size",
    "xvector_output_dim",
    "adapter_kernel_size",
    "adapter_stride",
    "output_hidden_size",
    "conv_depthwise_kernel_size",
    "max_source_positions",
    "num_negatives",
    "vocab_size",
    "adapter_attn_dim",
]
AT_LEAST_ZERO = ["num_hidden_layers", "num_adapter_layers", "mask_time_min_masks", "mask_feature_min_masks"]
PROBABILITIES = [
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
]
ODD_SIZE = {"hidden_size": 15, "num_attention_heads": 3, "num_conv_pos_embedding_groups": 5}
TUPLES = ["conv_dim", "conv_stride", "conv_kernel", "tdnn_dim", "tdnn_kernel", "tdnn_dilation"]


@pytest.mark.parametrize("value", [0, -3, 2.0, "8", True])
@pytest.mark.parametrize("name", AT_LEAST_ONE)
def test_sizes_are_integers_of_at_least_one(name, value):
    with pytest.raises(ConfigError, match=rf"^{name} is {value!r}, but must be an integer of at least 1\.$"):
        Wav2Vec2ConformerConfig(**{name: value})


@pytest.mark.parametrize("value", [-1, 1.5, None, False])
@pytest.mark.parametrize("name", AT_LEAST_ZERO)
def test_counts_are_integers_of_at_least_zero(name, value):
    with pytest.raises(ConfigError, match=rf"^{name} is {value!r}, but must be an integer of at least 0\.$"):
        Wav2Vec2ConformerConfig(**{name: value})


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), float("inf"), "0.1", None, True])
@pytest.mark.parametrize("name", PROBABILITIES)
def test_probabilities_lie_between_0_and_1(name, value):
    with pytest.raises(ConfigError, match=rf"^{name} is {value!r}, but a probability lies between 0 and 1\.$"):
        Wav2Vec2ConformerConfig(**{name: value})


@pytest.mark.parametrize("value", [0, -1e-5, float("inf"), "small"])
@pytest.mark.parametrize("name", ["layer_norm_eps", "contrastive_logits_temperature", "rotary_embedding_base"])
def test_scales_are_positive(name, value):
    with pytest.raises(ConfigError, match=rf"^{name} is {value!r}, but must be a positive number\.$"):
        Wav2Vec2ConformerConfig(**{name: value})


@pytest.mark.parametrize("value", [7, "512", None, {1: 2}])
@pytest.mark.parametrize("name", TUPLES)
def test_lists_are_lists(name, value):
    with pytest.raises(ConfigError, match=rf"^{name} is .*, but must be a list of integers\.$"):
        Wav2Vec2ConformerConfig(**{name: value})


@pytest.mark.parametrize("value", [0, 1.5, "3", True])
@pytest.mark.parametrize("name", TUPLES)
def test_lists_hold_integers_of_at_least_one(name, value):
    with pytest.raises(ConfigError, match=rf"^An entry of {name} is {value!r}, but must be an integer of at least 1"):
        Wav2Vec2ConformerConfig(**{name: [2, value]})


@pytest.mark.parametrize(
    ("given_values", "message"),
    [
        ({"position_embeddings_type": "absolute"}, r"position_embeddings_type is 'absolute', but must be one of "
         r"'relative', 'rotary', None\."),
        ({"feat_extract_norm": "batch"}, r"feat_extract_norm is 'batch', but must be one of 'group', 'layer'\."),
        ({"ctc_loss_reduction": "max"}, r"ctc_loss_reduction is 'max', but must be one of 'mean', 'sum', 'none'\."),
        ({"problem_type": "ranking"}, r"problem_type is 'ranking', but must be one of 'regression'"),
        ({"hidden_act": "gelo"}, r"hidden_act is 'gelo', but must be callable or one of elu, gelu"),
        ({"hidden_act": None}, r"hidden_act is None, but must be callable or one of"),
        ({"feat_extract_activation": "gelo"}, r"feat_extract_activation is 'gelo', but must be callable"),
        ({"initializer_range": -0.1}, r"initializer_range is -0\.1, but must be a number ≥ 0\."),
        ({"num_labels": 0}, r"num_labels is 0, but a head needs at least one label\."),
        ({"id2label": {}}, r"id2label is empty, but a head needs at least one label\."),
        ({"id2label": {"one": "a"}}, r"id2label is \{'one': 'a'\}, but must map each class number to its name\."),
        ({"id2label": ["a", "b"]}, r"id2label is \['a', 'b'\], but must map each class number to its name\."),
        ({"label2id": {"a": "first"}}, r"label2id is \{'a': 'first'\}, but must map each class name to its number\."),
        ({"problem_type": "single_label_classification", "num_labels": 1}, r"with one label, which is always right"),
        ({"conv_dim": (8, 8)}, r"conv_dim, conv_stride and conv_kernel .* have 2, 7 and 7 entries\."),
        ({"conv_stride": (2, 2)}, r"have 7, 2 and 7 entries\."),
        ({"conv_kernel": (2, 2)}, r"have 7, 7 and 2 entries\."),
        ({"conv_dim": (), "conv_stride": (), "conv_kernel": ()}, r"have 0, 0 and 0 entries\."),
        ({"tdnn_dim": (8, 8)}, r"tdnn_dim, tdnn_kernel and tdnn_dilation .* have 2, 5 and 5 entries\."),
        ({"tdnn_kernel": (8, 8)}, r"have 5, 2 and 5 entries\."),
        ({"tdnn_dilation": (8, 8)}, r"have 5, 5 and 2 entries\."),
        ({"num_attention_heads": 7}, r"hidden_size 768 can't be split evenly over 7 num_attention_heads\."),
        (
            {"hidden_size": 48, "num_attention_heads": 16, "position_embeddings_type": "rotary"},
            r"Rotary positions rotate pairs, but hidden_size 48 over 16 heads gives the odd head size 3\.",
        ),
        (
            ODD_SIZE,
            r"Relative positions are pairs of sine and cosine, but hidden_size 15 is odd\.",
        ),
        ({"conv_depthwise_kernel_size": 30}, r"conv_depthwise_kernel_size is 30, but must be odd"),
        ({"num_conv_pos_embedding_groups": 7}, r"hidden_size 768 .* over 7 num_conv_pos_embedding_groups\."),
        ({"codevector_dim": 9}, r"codevector_dim 9 can't be split evenly over 2 num_codevector_groups\."),
        ({"vocab_size": 32, "pad_token_id": 32}, r"pad_token_id is 32, .* CTC blank .* below the vocab_size 32\."),
        ({"vocab_size": 32, "pad_token_id": -1}, r"pad_token_id is -1, .* CTC blank"),
        ({"vocab_size": 32, "pad_token_id": "<pad>"}, r"pad_token_id is '<pad>', .* CTC blank"),
    ],
)  # fmt: skip
def test_each_contradiction_has_its_own_message(given_values, message):
    with pytest.raises(ConfigError, match=message):
        Wav2Vec2ConformerConfig(**given_values)


@pytest.mark.parametrize(
    "given_values",
    [
        ODD_SIZE | {"position_embeddings_type": None},
        {"hidden_size": 48, "num_attention_heads": 16, "position_embeddings_type": "relative"},
        {"vocab_size": None, "pad_token_id": 99},
        {"vocab_size": 1, "pad_token_id": 0},
        {"vocab_size": 32, "pad_token_id": None},
        {"problem_type": "regression", "num_labels": 1},
        *({"ctc_loss_reduction": reduction} for reduction in CTC_REDUCTIONS),
        *({"hidden_act": name, "feat_extract_activation": name} for name in ACTIVATIONS),
        dict.fromkeys(PROBABILITIES, 0) | {"layerdrop": 1},
    ],
)  # fmt: skip
def test_what_only_looks_wrong_is_taken(given_values):
    config = Wav2Vec2ConformerConfig(**given_values)
    assert {name: getattr(config, name) for name in given_values} == given_values


def test_a_refusal_is_a_value_error_too():
    with pytest.raises(ValueError, match="num_attention_heads"):
        Wav2Vec2ConformerConfig(num_attention_heads=7)


@pytest.mark.parametrize("other", [transformers.Wav2Vec2Config(), transformers.HubertConfig()])
def test_another_familys_configuration_is_refused_by_name(tmp_path, other):
    other.save_pretrained(tmp_path)
    message = rf"config\.json is the configuration of a '{other.model_type}' model, not of a 'wav2vec2-conformer'"
    with pytest.raises(ConfigError, match=message):
        Wav2Vec2ConformerConfig.from_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=message):
        Wav2Vec2ConformerConfig.from_json_file(tmp_path / "config.json")
    with pytest.raises(ConfigError, match=f"is of a '{other.model_type}' model"):
        Wav2Vec2ConformerConfig(model_type=other.model_type)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("[1, 2]", ConfigError, r"config\.json holds no configuration: it must be a JSON object"),
        ('{"hidden_size": 768,', CheckpointError, r"config\.json is not valid JSON: .*line 1 column 21"),
        ("", CheckpointError, r"config\.json is not valid JSON"),
    ],
)
def test_a_file_that_holds_no_configuration(tmp_path, content, error, message):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(error, match=message):
        Wav2Vec2ConformerConfig.from_pretrained(tmp_path)


def test_a_folder_without_a_configuration(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(CheckpointError, match=r"holds no config\.json\. It holds notes\.txt\."):
        Wav2Vec2ConformerConfig.from_pretrained(tmp_path)


# --- presets


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_can_be_overridden(name):
    config = Wav2Vec2ConformerConfig.preset(name, vocab_size=32, hidden_dropout=0.7)
    assert (config.vocab_size, config.hidden_dropout) == (32, 0.7)
    assert config == Wav2Vec2ConformerConfig(**{**PRESETS[name], "vocab_size": 32, "hidden_dropout": 0.7})
    assert config.frame_rate() == pytest.approx(100 / 3 if name == "tiny" else 50)
    assert_same_fields(config, twin({**PRESETS[name], "vocab_size": 32, "hidden_dropout": 0.7}))


def test_the_large_presets_are_the_released_shapes():
    relative, rotary = (Wav2Vec2ConformerConfig.preset(name) for name in ("rel-pos-large", "rope-large"))
    assert relative.position_embeddings_type == "relative"
    assert rotary.position_embeddings_type == "rotary"
    assert relative.copy(position_embeddings_type="rotary") == rotary
    assert (relative.hidden_size, relative.num_hidden_layers, relative.num_attention_heads) == (1024, 24, 16)
    assert (relative.intermediate_size, relative.codevector_dim, relative.proj_codevector_dim) == (4096, 768, 768)
    assert (relative.hidden_act, relative.feat_extract_norm, relative.conv_bias) == ("swish", "layer", True)


def test_the_tiny_preset_is_the_shape_of_the_shipped_checkpoint():
    shipped, preset = Wav2Vec2ConformerConfig.from_pretrained("tiny-en"), Wav2Vec2ConformerConfig.preset("tiny")
    for name in PRESETS["tiny"]:
        assert getattr(preset, name) == getattr(shipped, name), name


def test_an_unknown_preset_lists_those_there_are():
    with pytest.raises(ConfigError, match="no preset 'huge': choose rel-pos-large, rope-large, base, tiny"):
        Wav2Vec2ConformerConfig.preset("huge")
