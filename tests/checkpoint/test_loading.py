"""Checkpoints of every age and kind load, with the oracle's outputs; broken ones are refused with a reason."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

import wavconformer
from model.builders import (
    CLASSES,
    POSITIONS,
    WITH_ADAPTER,
    WITH_LAYER_SUM,
    assert_same_outputs,
    build,
    build_pair,
    noise,
    settings,
)
from wavconformer import CheckpointError, Wav2Vec2ConformerConfig
from wavconformer.checkpoint.weights import open_file

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

TASKS = CLASSES[1:]
PREFIX = "wav2vec2_conformer."
WEIGHTS = "model.safetensors"
# Of each class what it has beside the backbone.
HEADS = {
    "ForCTC": {"lm_head.weight", "lm_head.bias"},
    "ForSequenceClassification": {"projector.weight", "projector.bias", "classifier.weight", "classifier.bias"},
    "ForAudioFrameClassification": {"classifier.weight", "classifier.bias"},
    "ForXVector": {
        *(f"{name}.{kind}" for name in ("projector", "feature_extractor", "classifier") for kind in ("weight", "bias")),
        *(f"tdnn.{index}.kernel.{kind}" for index in range(3) for kind in ("weight", "bias")),
        "objective.weight",
    },
    "ForPreTraining": {
        *(f"{name}.{kind}" for name in ("project_q", "project_hid") for kind in ("weight", "bias")),
        *(f"quantizer.{name}" for name in ("weight_proj.weight", "weight_proj.bias", "codevectors")),
    },
}


def ours(name: str) -> Any:
    return getattr(wavconformer, f"Wav2Vec2Conformer{name}")


def theirs(name: str) -> Any:
    return getattr(transformers, f"Wav2Vec2Conformer{name}")


def outputs(model: Any, samples: int = 8_000) -> Any:
    with torch.no_grad():
        return model(noise(2, samples))


def assert_equal_outputs(model: Any, other: Any) -> None:
    assert_same_outputs(outputs(model), outputs(other), tolerance=1e-5)


def assert_same_weights(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert state.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(state[key], tensor), key


def saved(folder: Path, name: str, **overrides: Any) -> Any:
    """A model of ours, saved into the folder."""
    model = build(name, **overrides)
    model.save_pretrained(folder)
    return model


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Changes the tensors of a folder's weight file."""
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, {"format": "pt"})


def without(*parts: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """Leaves out the tensors whose names have one of these parts."""
    return lambda tensors: {key: value for key, value in tensors.items() if not any(part in key for part in parts)}


@pytest.fixture
def silent() -> Any:
    """No warning is given."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# --- the same folder in both libraries

VARIANTS = [
    *((name, position, {}) for name in CLASSES for position in POSITIONS),
    *((name, "rotary", {"feat_extract_norm": "layer", "conv_bias": True, "hidden_act": "swish"}) for name in CLASSES),
    *((name, "relative", {"add_adapter": True}) for name in WITH_ADAPTER),
    ("ForCTC", "relative", {"add_adapter": True, "output_hidden_size": 18}),
    *((name, "relative", {"use_weighted_layer_sum": True}) for name in WITH_LAYER_SUM),
    *((name, "relative", {"mask_time_prob": 0.2}) for name in ("Model", "ForCTC")),
]


@pytest.mark.parametrize(("name", "position", "overrides"), VARIANTS)
def test_the_oracles_folder_in_ours_and_ours_in_the_oracle(tmp_path, silent, name, position, overrides):
    model, oracle = build_pair(name, position_embeddings_type=position, **overrides)
    oracle.save_pretrained(tmp_path / "theirs")
    read, info = ours(name).from_pretrained(tmp_path / "theirs", output_loading_info=True)
    assert info == {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": [], "error_msgs": []}
    assert_equal_outputs(read, oracle)
    assert not any(tensor.is_meta for tensor in read.state_dict().values())

    model.save_pretrained(tmp_path / "ours")
    again, info = theirs(name).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert_equal_outputs(model, again.eval())
    assert_same_weights(again.state_dict(), model.state_dict())
    assert again.config.architectures == [f"Wav2Vec2Conformer{name}"]


def test_a_model_is_read_in_eval_mode_and_trainable(tmp_path):
    saved(tmp_path, "ForCTC")
    model = ours("ForCTC").from_pretrained(tmp_path)
    assert not any(module.training for module in model.modules())
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in model.parameters())
    assert model.config.name_or_path == str(tmp_path)


@pytest.mark.parametrize(("name", "parameters"), [("rel-pos-large", 618_591_904), ("rope-large", 593_376_928)])
def test_the_large_shapes_have_the_published_sizes(name, parameters):
    with torch.device("meta"):
        model = ours("ForCTC")(Wav2Vec2ConformerConfig.preset(name, vocab_size=32))
    assert model.num_parameters() == parameters


# --- older and other weight files


def old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names that PyTorch gave a normed weight before 2.0."""
    conv = "pos_conv_embed.conv."
    return {
        name.replace(f"{conv}parametrizations.weight.original0", f"{conv}weight_g").replace(
            f"{conv}parametrizations.weight.original1", f"{conv}weight_v"
        ): tensor
        for name, tensor in state.items()
    }


def as_bin(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict, **arguments: Any) -> Path:
    """Puts the folder's weights into pytorch_model.bin."""
    torch.save(change(load_file(folder / WEIGHTS)), folder / "pytorch_model.bin", **arguments)
    (folder / WEIGHTS).unlink()
    return folder / "pytorch_model.bin"


@pytest.mark.parametrize("name", ["Model", "ForCTC"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older than zip"])
def test_an_old_bin_with_old_names(tmp_path, silent, name, zipped):
    model = saved(tmp_path, name)
    path = as_bin(tmp_path, old_names, _use_new_zipfile_serialization=zipped)
    assert any(key.endswith("weight_g") for key in torch.load(path, weights_only=True))
    read, info = ours(name).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert_same_weights(read.state_dict(), model.state_dict())
    assert_equal_outputs(read, model)


def test_old_names_in_safetensors(tmp_path, silent):
    model = saved(tmp_path, "ForCTC")
    rewrite(tmp_path, old_names)
    assert_same_weights(ours("ForCTC").from_pretrained(tmp_path).state_dict(), model.state_dict())


def test_shards_that_the_oracle_wrote(tmp_path, silent):
    _, oracle = build_pair("ForCTC")
    oracle.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 2
    read, info = ours("ForCTC").from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert_equal_outputs(read, oracle)


def in_shards(folder: Path, count: int = 3) -> None:
    """Splits the folder's weights into pytorch_model-….bin with an index."""
    state = old_names(load_file(folder / WEIGHTS))
    names = [f"pytorch_model-{number:05d}-of-{count:05d}.bin" for number in range(1, count + 1)]
    weight_map = {key: names[index % count] for index, key in enumerate(state)}
    for name in names:
        torch.save({key: state[key] for key in state if weight_map[key] == name}, folder / name)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (folder / WEIGHTS).unlink()


def test_shards_of_bin_files(tmp_path, silent):
    model = saved(tmp_path, "ForXVector")
    in_shards(tmp_path)
    read, info = ours("ForXVector").from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert_same_weights(read.state_dict(), model.state_dict())


def test_safetensors_come_first_unless_asked_otherwise(tmp_path):
    model = saved(tmp_path, "ForCTC")
    torch.save(
        {key: torch.zeros_like(value) for key, value in model.state_dict().items()}, tmp_path / "pytorch_model.bin"
    )
    cls = ours("ForCTC")
    assert cls.from_pretrained(tmp_path).lm_head.weight.any()
    assert cls.from_pretrained(tmp_path, use_safetensors=True).lm_head.weight.any()
    assert not cls.from_pretrained(tmp_path, use_safetensors=False).lm_head.weight.any()
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"has a config\.json but no weights: expected model\.safetensors, or"):
        cls.from_pretrained(tmp_path, use_safetensors=True)


@pytest.mark.parametrize("bin_file", [False, True], ids=["safetensors", "bin"])
def test_training_a_loaded_model_never_writes_to_its_file(tmp_path, bin_file):
    saved(tmp_path, "ForCTC")
    path = as_bin(tmp_path) if bin_file else tmp_path / WEIGHTS
    before = path.read_bytes()
    model = ours("ForCTC").from_pretrained(tmp_path)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert path.read_bytes() == before
    # And a loaded model may be saved over the very file that it is mapped from.
    expected = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    model.save_pretrained(tmp_path)
    assert_same_weights(model.state_dict(), expected)
    assert_same_weights(ours("ForCTC").from_pretrained(tmp_path).state_dict(), expected)


# --- backbone and task models


@pytest.mark.parametrize("name", TASKS)
def test_the_backbone_of_a_task_model(tmp_path, silent, name):
    model = saved(tmp_path, name)
    read, info = ours("Model").from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] == info["mismatched_keys"] == []
    assert set(info["unexpected_keys"]) == HEADS[name]
    assert_same_weights(read.state_dict(), model.base_model.state_dict())
    assert_equal_outputs(read, model.base_model)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_model_on_a_backbone_starts_its_head_with_one_warning(tmp_path, name):
    # What the pretraining model masks with is in the backbone.
    backbone = saved(tmp_path, "Model", mask_time_prob=settings(name)["mask_time_prob"])
    with pytest.warns(UserWarning, match="start from random values") as caught:
        model, info = ours(name).from_pretrained(tmp_path, output_loading_info=True)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    message = str(caught[0].message)
    assert f"these parts of Wav2Vec2Conformer{name}" in message
    assert "Train the model before you use it." in message
    listed = [key for key in HEADS[name] if key in message]
    assert len(listed) == min(len(HEADS[name]), 8)
    assert set(info["missing_keys"]) == HEADS[name]
    assert info["unexpected_keys"] == info["mismatched_keys"] == []
    assert_same_weights(model.base_model.state_dict(), backbone.state_dict())


def test_the_speaker_models_embedding_is_not_the_backbones(tmp_path):
    """Without the prefix the x-vector's `feature_extractor.weight` looks like the feature encoder's."""
    model = saved(tmp_path, "ForXVector", feat_extract_norm="layer", conv_bias=True)
    read, info = ours("Model").from_pretrained(tmp_path, output_loading_info=True)
    assert {"feature_extractor.weight", "feature_extractor.bias"} <= set(info["unexpected_keys"])
    encoder = "feature_extractor.conv_layers.0.conv.weight"
    assert torch.equal(read.state_dict()[encoder], model.state_dict()[PREFIX + encoder])
    read.save_pretrained(tmp_path / "backbone")
    with pytest.warns(UserWarning, match="parts of Wav2Vec2ConformerForXVector"):
        again = ours("ForXVector").from_pretrained(tmp_path / "backbone")
    assert_same_weights(again.base_model.state_dict(), model.base_model.state_dict())
    assert again.feature_extractor.weight.shape == model.feature_extractor.weight.shape


def test_a_heads_weight_never_takes_a_backbones_place(tmp_path):
    """Whatever a task model calls its own weights, and wherever they stand in the file."""
    model = saved(tmp_path, "ForCTC")
    as_bin(tmp_path, lambda tensors: {**tensors, "encoder.layer_norm.weight": torch.zeros(24)})
    with pytest.warns(UserWarning, match=r"has weights that .* doesn't: .*encoder\.layer_norm\.weight"):
        read, info = ours("Model").from_pretrained(tmp_path, output_loading_info=True)
    assert "encoder.layer_norm.weight" in info["unexpected_keys"]
    assert_same_weights(read.state_dict(), model.base_model.state_dict())


def test_from_one_task_to_another(tmp_path):
    model = saved(tmp_path, "ForPreTraining", mask_time_prob=0.2)
    with pytest.warns(UserWarning, match=r"lm_head\.weight, lm_head\.bias.* Not used: project_hid\.bias, ") as caught:
        read, info = ours("ForCTC").from_pretrained(tmp_path, output_loading_info=True)
    assert len(caught) == 1
    assert set(info["missing_keys"]) == HEADS["ForCTC"]
    assert set(info["unexpected_keys"]) == HEADS["ForPreTraining"]
    assert_same_weights(read.base_model.state_dict(), model.base_model.state_dict())


def test_a_backbones_weights_that_the_model_has_not_are_told(tmp_path):
    saved(tmp_path, "ForCTC")
    with pytest.warns(UserWarning, match=r"has weights that Wav2Vec2ConformerForCTC doesn't: .*encoder\.layers\.1\."):
        ours("ForCTC").from_pretrained(tmp_path, num_hidden_layers=1)


# --- types and devices


def test_half_precision_files_are_read_as_float32(tmp_path, silent):
    model = build("ForCTC")
    expected = {
        key: tensor.half().float() if tensor.is_floating_point() else tensor
        for key, tensor in model.state_dict().items()
    }
    model.half().save_pretrained(tmp_path)
    assert {tensor.dtype for tensor in load_file(tmp_path / WEIGHTS).values()} == {torch.float16, torch.int64}
    read = ours("ForCTC").from_pretrained(tmp_path)
    assert read.dtype == torch.float32
    assert_same_weights(read.state_dict(), expected)


def test_frequencies_are_exact_whatever_the_types(tmp_path):
    model = saved(tmp_path, "Model", position_embeddings_type="rotary", rotary_embedding_base=500)
    exact = model.encoder.embed_positions.inv_freq
    assert torch.allclose(exact, 500 ** -(torch.arange(4) / 4))
    rewrite(tmp_path, lambda tensors: {name: tensor.half() for name, tensor in tensors.items()})
    for dtype in (torch.float32, torch.float16):
        read = ours("Model").from_pretrained(tmp_path, dtype=dtype)
        assert read.dtype == dtype
        assert torch.equal(read.encoder.embed_positions.inv_freq, exact)


@pytest.mark.parametrize("name", ["ForCTC", "ForXVector", "ForPreTraining"])
@pytest.mark.parametrize(
    ("argument", "dtype"),
    [
        ({}, torch.float32),
        ({"dtype": None}, torch.float32),
        ({"dtype": "auto"}, torch.bfloat16),
        ({"dtype": "float16"}, torch.float16),
        ({"dtype": torch.float64}, torch.float64),
        ({"torch_dtype": torch.float16}, torch.float16),
        ({"torch_dtype": "auto"}, torch.bfloat16),
    ],
)
def test_the_type_that_was_asked_for(tmp_path, name, argument, dtype):
    build(name).bfloat16().save_pretrained(tmp_path)
    model = ours(name).from_pretrained(tmp_path, **argument)
    kinds = {tensor.dtype for tensor in model.state_dict().values() if tensor.is_floating_point()}
    assert kinds == {dtype}
    assert (
        model.state_dict()[f"{PREFIX}encoder.layers.0.conv_module.batch_norm.num_batches_tracked"].dtype == torch.long
    )


def test_the_files_own_type_where_the_configuration_names_none(tmp_path):
    build("ForCTC").half().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["dtype"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert ours("ForCTC").from_pretrained(tmp_path, dtype="auto").dtype == torch.float16
    assert ours("ForCTC").from_pretrained(tmp_path).dtype == torch.float32


def test_new_parts_have_the_type_too(tmp_path):
    saved(tmp_path, "Model")
    with pytest.warns(UserWarning, match="lm_head"):
        model = ours("ForCTC").from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert model.lm_head.weight.dtype == torch.bfloat16
    assert model.lm_head.weight.std() > 0


@pytest.mark.parametrize("dtype", [torch.int32, "int8", "single precision", "float33"])
def test_what_is_no_floating_type_is_refused(tmp_path, dtype):
    saved(tmp_path, "Model")
    with pytest.raises(ValueError, match="but must be a floating type such as torch"):
        ours("Model").from_pretrained(tmp_path, dtype=dtype)


@pytest.mark.parametrize(
    "argument",
    [{"device": "meta"}, {"device": torch.device("meta")}, {"device_map": "meta"}, {"device_map": {"": "meta"}}],
)
def test_the_device_that_was_asked_for(tmp_path, argument):
    saved(tmp_path, "ForCTC")
    model = ours("ForCTC").from_pretrained(tmp_path, **argument)
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}


def test_any_device_there_is(tmp_path):
    saved(tmp_path, "ForCTC")
    kinds = {"cuda"} if torch.cuda.is_available() else {"mps"} if torch.backends.mps.is_available() else {"cpu"}
    assert {ours("ForCTC").from_pretrained(tmp_path, device_map="auto").device.type} == kinds
    with pytest.raises(ValueError, match="device_map may name one device for the whole model"):
        ours("ForCTC").from_pretrained(tmp_path, device_map={"lm_head": 0, "wav2vec2_conformer": 1})


# --- configuration


def test_keywords_override_the_configuration(tmp_path, silent):
    saved(tmp_path, "ForCTC", my_note=1)
    model = ours("ForCTC").from_pretrained(
        tmp_path, hidden_dropout=0.75, ctc_zero_infinity=True, my_note=2, attn_implementation="sdpa"
    )
    assert model.config.hidden_dropout == model.base_model.encoder.dropout == 0.75
    assert model.config.ctc_zero_infinity
    assert model.config.my_note == 2
    assert "attn_implementation" not in model.config.to_dict()


def test_a_configuration_in_place_of_the_files(tmp_path, silent):
    saved(tmp_path / "a", "ForCTC")
    config = Wav2Vec2ConformerConfig.from_pretrained(tmp_path / "a", hidden_dropout=0.5, hidden_act=torch.tanh)
    model = ours("ForCTC").from_pretrained(tmp_path / "a", config=config, final_dropout=0.25)
    assert (model.config.hidden_dropout, model.config.final_dropout, config.final_dropout) == (0.5, 0.25, 0.0)
    assert model.config.hidden_act is torch.tanh
    Wav2Vec2ConformerConfig.from_pretrained(tmp_path / "a", layerdrop=0.5).save_pretrained(tmp_path / "b")
    assert ours("ForCTC").from_pretrained(tmp_path / "a", config=tmp_path / "b").config.layerdrop == 0.5


def test_a_function_as_activation_is_given_again(tmp_path):
    model = saved(tmp_path, "ForCTC", hidden_act=torch.tanh, feat_extract_activation=torch.sin)
    with pytest.raises(wavconformer.ConfigError, match="hidden_act was the Python function"):
        ours("ForCTC").from_pretrained(tmp_path)
    read = ours("ForCTC").from_pretrained(tmp_path, hidden_act=torch.tanh, feat_extract_activation=torch.sin)
    assert_equal_outputs(read, model)
    assert model.config.hidden_act is torch.tanh  # saving took nothing away


# --- shapes that differ


def test_a_shape_that_differs_is_refused_by_name(tmp_path):
    saved(tmp_path, "ForCTC")
    message = r"lm_head\.weight is \(11, 24\) in the file, \(13, 24\) in the model, lm_head\.bias is \(11,\)"
    with pytest.raises(CheckpointError, match=message) as caught:
        ours("ForCTC").from_pretrained(tmp_path, vocab_size=13)
    assert f"The folder '{tmp_path}' doesn't fit Wav2Vec2ConformerForCTC" in str(caught.value)
    assert "ignore_mismatched_sizes=True" in str(caught.value)


def test_shapes_that_differ_start_anew_where_that_is_wanted(tmp_path):
    model = saved(tmp_path, "ForSequenceClassification")
    with pytest.warns(UserWarning, match=r"has no weights of this shape for .*classifier\.weight") as caught:
        read, info = ours("ForSequenceClassification").from_pretrained(
            tmp_path, num_labels=3, ignore_mismatched_sizes=True, output_loading_info=True
        )
    assert len(caught) == 1
    assert info["mismatched_keys"] == [("classifier.weight", (5, 9), (3, 9)), ("classifier.bias", (5,), (3,))]
    assert info["missing_keys"] == info["unexpected_keys"] == []
    assert 0 < read.classifier.weight.std() < 1
    assert not read.classifier.bias.any()
    kept = without("classifier.")
    assert_same_weights(kept(read.state_dict()), kept(model.state_dict()))


# --- what is missing


@pytest.mark.parametrize(
    "lost",
    [
        "encoder.layers.1.self_attn.linear_q.weight",
        "encoder.layers.0.conv_module.batch_norm.running_mean",
        "encoder.layer_norm.bias",
        "feature_projection.projection.weight",
        "feature_extractor.conv_layers.0.conv.weight",
    ],
)
@pytest.mark.parametrize("name", ["Model", "ForCTC", "ForXVector"])
def test_a_backbone_that_lacks_weights_is_refused_by_name(tmp_path, name, lost):
    saved(tmp_path, name)
    rewrite(tmp_path, without(lost))
    prefix = "" if name == "Model" else PREFIX
    with pytest.raises(CheckpointError) as caught:
        ours(name).from_pretrained(tmp_path)
    assert f"lacks weights of the model itself: {prefix}{lost}." in str(caught.value)


def test_many_missing_weights_are_counted(tmp_path):
    saved(tmp_path, "ForCTC")
    rewrite(tmp_path, without("encoder.layers.0."))
    with pytest.raises(CheckpointError, match=r"encoder\.layers\.0\..* and \d+ more\. It is incomplete, or its config"):
        ours("ForCTC").from_pretrained(tmp_path)


def test_the_weights_of_another_model_are_refused(tmp_path):
    saved(tmp_path, "ForCTC")
    save_file({"bert.embeddings.weight": torch.zeros(2)}, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match="lacks weights of the model itself"):
        ours("ForCTC").from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["Model", "ForCTC"])
@pytest.mark.parametrize("lost", ["inv_freq", "pos_conv_embed", "num_batches_tracked", "original0"])
def test_harmless_absences_go_without_a_word(tmp_path, silent, name, lost):
    model = saved(tmp_path, name, position_embeddings_type="rotary")
    rewrite(tmp_path, without(lost))
    read, info = ours(name).from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"]
    assert all(lost in key for key in info["missing_keys"])
    assert_equal_outputs(read, model)
    assert not any(tensor.is_meta or not tensor.isfinite().all() for tensor in read.state_dict().values())
    assert_same_weights(without(lost)(read.state_dict()), without(lost)(model.state_dict()))
    kinds = {key: tensor.dtype for key, tensor in model.state_dict().items()}
    assert {key: tensor.dtype for key, tensor in read.state_dict().items()} == kinds


def test_a_mask_embedding_is_needed_only_for_masking(tmp_path, silent):
    saved(tmp_path, "ForCTC")  # both probabilities 0: the file has none
    _, info = ours("ForCTC").from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model, info = ours("ForCTC").from_pretrained(tmp_path, mask_time_prob=0.1, output_loading_info=True)
    assert [f"{PREFIX}masked_spec_embed" in str(warning.message) for warning in caught] == [True]
    assert info["missing_keys"] == [f"{PREFIX}masked_spec_embed"]
    assert 0 < model.base_model.masked_spec_embed.std() < 1
    model.save_pretrained(tmp_path)
    _, info = ours("ForCTC").from_pretrained(tmp_path, mask_time_prob=0, output_loading_info=True)
    assert not any(info.values())


@pytest.mark.parametrize(
    ("overrides", "part", "count"),
    [({"add_adapter": True}, "adapter.layers.", 4), ({"adapter_attn_dim": 4}, ".adapter_layer.", 12)],
)
def test_adapters_may_be_new(tmp_path, overrides, part, count):
    model = saved(tmp_path, "ForCTC")
    with pytest.warns(UserWarning, match=rf"start from random values: .*{part}") as caught:
        read, info = ours("ForCTC").from_pretrained(tmp_path, output_loading_info=True, **overrides)
    assert len(caught) == 1
    assert len(info["missing_keys"]) == count
    assert all(part in key for key in info["missing_keys"])
    assert outputs(read).logits.isfinite().all()
    assert_same_weights(without(part)(read.state_dict()), without(part)(model.state_dict()))


# --- how new weights start


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("name", TASKS)
def test_new_weights_start_as_in_a_new_model(tmp_path, name, position):
    common = {"position_embeddings_type": position, "mask_time_prob": 0.2}
    extra: dict[str, Any] = {"adapter_attn_dim": 8, "add_adapter": name in WITH_ADAPTER}
    if name in WITH_LAYER_SUM:
        extra["use_weighted_layer_sum"] = True
    backbone = saved(tmp_path, "Model", **common)
    with pytest.warns(UserWarning, match="start from random values"):
        model, info = ours(name).from_pretrained(
            tmp_path, output_loading_info=True, **settings(name, **common, **extra)
        )
    fresh = ours(name)(model.config).state_dict()
    state = model.state_dict()
    assert not any(tensor.is_meta for tensor in [*state.values(), *model.buffers()])
    missing = set(info["missing_keys"])
    assert HEADS[name] <= missing
    for key, tensor in state.items():
        if key not in missing:
            assert torch.equal(tensor, backbone.state_dict()[key.removeprefix(PREFIX)]), key
            continue
        assert tensor.isfinite().all(), key
        # The same spread as the class's own start, and the same constants where that has constants.
        spread = fresh[key].float().std(correction=0)
        if spread == 0:
            assert torch.equal(tensor, fresh[key]), key
        else:
            assert 0.5 * spread < tensor.std(correction=0) < 2 * spread, key
            assert not torch.equal(tensor, fresh[key]), key


def test_the_neighbours_of_a_new_weight_stay(tmp_path):
    model = saved(tmp_path, "ForPreTraining")
    lost = ("project_q.bias", "quantizer.codevectors", "masked_spec_embed")
    rewrite(tmp_path, without(*lost))
    with pytest.warns(UserWarning, match=r"project_q\.bias"):
        read = ours("ForPreTraining").from_pretrained(tmp_path)
    assert_same_weights(without(*lost)(read.state_dict()), without(*lost)(model.state_dict()))
    for key in lost:
        [started] = [tensor for name, tensor in read.state_dict().items() if key in name]
        assert started.std() > 0


# --- broken files


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[:-100], lambda data: data[:50], lambda data: b"version https://git-lfs.github"],
    ids=["empty", "truncated", "header alone", "a pointer of git-lfs"],
)  # fmt: skip
@pytest.mark.parametrize("bin_file", [False, True], ids=["safetensors", "bin"])
def test_broken_weights_are_named(tmp_path, damage, bin_file):
    saved(tmp_path, "Model")
    path = as_bin(tmp_path) if bin_file else tmp_path / WEIGHTS
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=f"^{path} .*copy or download it again") as caught:
        ours("Model").from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_bin_is_read_or_refused(tmp_path, data):
    """A pickle is a program: damaged, it fails in any way. No way may reach the user as it is."""
    path = tmp_path / "pytorch_model.bin"
    tensors = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2, dtype=torch.half)}
    torch.save(tensors, path, _use_new_zipfile_serialization=data.draw(st.booleans()))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, min(len(content), 700) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, on odd bytes
        try:
            with open_file(path) as read:
                assert all(isinstance(tensor.read(), Tensor) for tensor in read.values())
        except CheckpointError as error:
            assert str(path) in str(error)


class Code:
    """Runs a command where it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("nested", [True, False])
def test_a_pickle_that_would_run_code_does_not(tmp_path, zipped, nested):
    saved(tmp_path, "Model")
    trace = tmp_path / "ran"
    path = as_bin(
        tmp_path,
        lambda tensors: {**tensors, "code": Code(f"touch {trace}")} if nested else Code(f"touch {trace}"),
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(CheckpointError, match="holds more than tensors, which wavconformer doesn't run"):
        ours("Model").from_pretrained(tmp_path)
    assert not trace.exists()
    pickle_only = pickle.dumps(Code(f"touch {trace}"))
    path.write_bytes(pickle_only)
    with pytest.raises(CheckpointError):
        ours("Model").from_pretrained(tmp_path)
    assert not trace.exists()


@pytest.mark.parametrize("content", [[1, 2], {"model": {"a": torch.zeros(1)}}, torch.zeros(2), {"step": 7}])
def test_a_bin_of_something_else_is_refused(tmp_path, content):
    saved(tmp_path, "Model")
    as_bin(tmp_path, lambda _: content)
    with pytest.raises(CheckpointError, match="holds more than tensors by name; for a fairseq checkpoint use"):
        ours("Model").from_pretrained(tmp_path)


# --- broken folders


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("[]", r"index\.json is no index of shards: it lacks a weight_map of names\."),
        ("{}", r"index\.json is no index of shards"),
        ('{"weight_map": {"a": 1}}', r"index\.json is no index of shards"),
        ('{"weight_map": ', r"index\.json is not valid JSON"),
        ('{"weight_map": {"a": "model-00001-of-00001.safetensors"}}', r"holds no model-00001-of-00001\.safetensors"),
        ('{"weight_map": {"a": "../model.safetensors"}}', r"names a shard outside its folder, '\.\./model\.safe"),
        ('{"weight_map": {"a": "/etc/passwd"}}', r"names a shard outside its folder, '/etc/passwd'"),
        ('{"weight_map": {"a": "sub/model.safetensors"}}', r"names a shard outside its folder"),
        ('{"weight_map": {"a": ".."}}', r"holds no \.\."),
    ],
)  # fmt: skip
def test_an_index_that_can_not_be_used(tmp_path, index, message):
    saved(tmp_path / "a", "Model")
    shutil.move(tmp_path / "a" / WEIGHTS, tmp_path / WEIGHTS)  # there, but outside
    (tmp_path / "a" / f"{WEIGHTS}.index.json").write_text(index)
    with pytest.raises(CheckpointError, match=message):
        ours("Model").from_pretrained(tmp_path / "a")


def test_a_folder_without_weights(tmp_path):
    Wav2Vec2ConformerConfig(**settings("Model")).save_pretrained(tmp_path)
    message = r"has a config\.json but no weights: expected model\.safetensors or pytorch_model\.bin, or their shards"
    with pytest.raises(CheckpointError, match=message):
        ours("Model").from_pretrained(tmp_path)


def test_a_folder_without_a_configuration(tmp_path):
    saved(tmp_path, "Model")
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"holds no config\.json\. It holds model\.safetensors\."):
        ours("Model").from_pretrained(tmp_path)


def test_an_empty_folder(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no config\.json\. It is empty\."):
        ours("Model").from_pretrained(tmp_path)


def test_a_file_in_place_of_a_folder(tmp_path):
    saved(tmp_path, "Model")
    with pytest.raises(CheckpointError, match=r"is a file: give the folder that holds config\.json and the weights"):
        ours("Model").from_pretrained(tmp_path / WEIGHTS)


def test_a_configuration_that_is_not_of_these_weights(tmp_path):
    saved(tmp_path, "Model")
    with pytest.raises(
        CheckpointError, match=r"doesn't fit Wav2Vec2ConformerModel: .* is \(40, 24\) in the file, \(44, 24\)"
    ):
        ours("Model").from_pretrained(tmp_path, intermediate_size=44)
    with pytest.raises(CheckpointError, match=r"lacks weights of the model itself: encoder\.layers\.2\."):
        ours("Model").from_pretrained(tmp_path, num_hidden_layers=3)


def test_another_familys_checkpoint(tmp_path):
    transformers.Wav2Vec2Config(num_hidden_layers=1).save_pretrained(tmp_path)
    with pytest.raises(wavconformer.ConfigError, match="of a 'wav2vec2' model, not of a 'wav2vec2-conformer'"):
        ours("Model").from_pretrained(tmp_path)


# --- the Hub


def cached(cache: Path, folder: Path) -> None:
    """Lays a folder out as huggingface_hub's cache of the repository owner/speech."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = cache / "models--owner--speech"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)


@pytest.mark.parametrize("layout", ["whole", "shards", "bin"])
def test_a_cached_repository_loads_without_network(tmp_path, silent, layout):
    model = build("ForCTC")
    model.save_pretrained(tmp_path / "a", max_shard_size="20KB" if layout == "shards" else "5GB")
    if layout == "bin":
        as_bin(tmp_path / "a")
    cached(tmp_path / "hub", tmp_path / "a")
    read = ours("ForCTC").from_pretrained("owner/speech", cache_dir=tmp_path / "hub", local_files_only=True)
    assert_same_weights(read.state_dict(), model.state_dict())
    assert read.config.name_or_path == "owner/speech"


def test_an_unknown_repository_without_network(tmp_path):
    with pytest.raises(CheckpointError, match=r"^'owner/none' is no folder here, and its file config") as caught:
        ours("Model").from_pretrained("owner/none", cache_dir=tmp_path, local_files_only=True)
    shown = "".join(traceback.format_exception(caught.value))
    assert "huggingface_hub" not in shown


def test_an_unknown_repository_where_the_environment_says_offline(tmp_path):
    program = f"""
from wavconformer import CheckpointError, Wav2Vec2ConformerModel
try:
    Wav2Vec2ConformerModel.from_pretrained("owner/none", cache_dir={str(tmp_path)!r})
except CheckpointError as error:
    print(error)
"""
    finished = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("'owner/none' is no folder here")
    assert "Traceback" not in finished.stderr


# --- memory

MEASURE = """
import re, sys
from pathlib import Path
import torch
from wavconformer import Wav2Vec2ConformerForCTC

def kilobytes(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

Wav2Vec2ConformerForCTC.from_pretrained(sys.argv[1])  # what a first load brings into memory whatever its size
before = kilobytes("VmRSS")
model = Wav2Vec2ConformerForCTC.from_pretrained(sys.argv[2])
total = sum(parameter.flatten()[::512].sum() for parameter in model.parameters())  # touches every page
assert total.isfinite()
print((kilobytes("VmHWM") - before) * 1024)
"""


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A checkpoint of about 200 MB."""
    folder = tmp_path_factory.mktemp("big")
    config = settings("ForCTC", hidden_size=1024, num_attention_heads=4, intermediate_size=4096, num_hidden_layers=2)
    ours("ForCTC")(Wav2Vec2ConformerConfig(**config)).save_pretrained(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("kind", ["safetensors", "bin", "half"])
def test_the_peak_of_memory_is_about_one_copy(tmp_path, big, kind):
    """One copy of the weights as they are in memory; of a file in half precision that file comes on top."""
    size = (big / WEIGHTS).stat().st_size
    assert 150e6 < size < 250e6
    saved(tmp_path / "small", "ForCTC")
    folder = tmp_path / "big"
    shutil.copytree(big, folder)
    if kind == "bin":
        as_bin(folder)
    elif kind == "half":
        rewrite(folder, lambda tensors: {name: tensor.half() for name, tensor in tensors.items()})
    finished = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "small"), str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    shutil.rmtree(folder)
    assert finished.returncode == 0, finished.stderr
    assert int(finished.stdout) < (1.6 if kind == "half" else 1.2) * size
