"""fairseq checkpoints: weights, settings and dictionary in Hugging Face terms; nothing in a file is run."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from checkpoint.fairseq_files import (
    CHANNELS,
    DICTIONARY,
    ENTRIES,
    FEED_FORWARD,
    FINAL,
    GROUPS,
    HEADS,
    HIDDEN,
    KERNEL,
    LAYERS,
    POSITIONS,
    ROWS,
    VOCABULARY,
    Payload,
    backbone_settings,
    changed,
    filled,
    foreign,
    save,
    sections,
    training_machine,
    weights,
    without,
)
from wavconformer.checkpoint.fairseq import FairseqCheckpoint, read_fairseq
from wavconformer.errors import CheckpointError


def renamed(name: str) -> str:
    """Our key for a weight of fairseq, by substitution: an account independent of the package's table."""
    if name.startswith("w2v_encoder.proj."):
        return name.replace("w2v_encoder.proj", "lm_head")
    name = name.removeprefix("w2v_encoder.w2v_model.")
    heads = {"quantizer.vars": "quantizer.codevectors", "final_proj": "project_hid"}
    if name.startswith(("quantizer.", "project_q.", "final_proj.")):
        return re.sub(r"^(quantizer\.vars|final_proj)", lambda found: heads[found[0]], name)
    for pattern, ours in (
        (r"^mask_emb$", "masked_spec_embed"),
        (r"^layer_norm\.", "feature_projection.layer_norm."),
        (r"^post_extract_proj\.", "feature_projection.projection."),
        (r"(conv_layers\.\d+)\.0\.", r"\1.conv."),
        (r"(conv_layers\.\d+)\.2(\.1)?\.", r"\1.layer_norm."),
        (r"pos_conv\.0\.weight_g", "pos_conv_embed.conv.parametrizations.weight.original0"),
        (r"pos_conv\.0\.weight_v", "pos_conv_embed.conv.parametrizations.weight.original1"),
        (r"pos_conv\.0\.", "pos_conv_embed.conv."),
        (r"(ffn[12])\.layer_norm", r"\1_layer_norm"),
        (r"\.w_1\.", ".intermediate_dense."),
        (r"\.w_2\.", ".output_dense."),
        (r"self_attn\.(q|k|v|out)_proj", r"self_attn.linear_\1"),
        (r"layers\.\d+\.self_attn\.rotary_emb", "embed_positions"),
    ):
        name = re.sub(pattern, ours, name)
    return "wav2vec2_conformer." + name


def oracle(checkpoint: FairseqCheckpoint) -> torch.nn.Module:
    config = transformers.Wav2Vec2ConformerConfig(**checkpoint.config)
    if checkpoint.task == "ctc":
        return transformers.Wav2Vec2ConformerForCTC(config)
    return transformers.Wav2Vec2ConformerForPreTraining(config)


# ---------------------------------------------------------------------------------------- the weights


@pytest.mark.parametrize("task", ["ctc", "pretraining"])
@pytest.mark.parametrize("pos_enc_type", POSITIONS)
@pytest.mark.parametrize("mode", ["default", "layer_norm"])
@pytest.mark.parametrize("style", ["cfg", "mixed", "namespace", "omegaconf"])
def test_every_weight_finds_its_place(tmp_path: Path, task: str, pos_enc_type: str, mode: str, style: str) -> None:
    checkpoint = read_fairseq(save(tmp_path, task, pos_enc_type, mode=mode, style=style))
    model = oracle(checkpoint)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert {name: tensor.shape for name, tensor in checkpoint.state_dict.items()} == shapes
    model.load_state_dict(checkpoint.state_dict, strict=True)
    source = weights(task, pos_enc_type, mode)
    for name, tensor in source.items():
        torch.testing.assert_close(checkpoint.state_dict[renamed(name)], tensor, rtol=0, atol=0)
    assert checkpoint.left_over == ()
    assert checkpoint.task == task
    assert checkpoint.config["position_embeddings_type"] == POSITIONS[pos_enc_type]
    assert checkpoint.config["feat_extract_norm"] == ("group" if mode == "default" else "layer")
    assert checkpoint.vocabulary == (VOCABULARY if task == "ctc" else None)


def test_rope_without_espnet_is_attention_without_positions(tmp_path: Path) -> None:
    checkpoint = read_fairseq(save(tmp_path, "ctc", "rope", attn_type=""))
    assert checkpoint.config["position_embeddings_type"] is None
    assert checkpoint.config["num_attention_heads"] == HEADS
    oracle(checkpoint).load_state_dict(checkpoint.state_dict, strict=True)
    for name, tensor in weights("ctc", "rope", attn_type="").items():
        assert checkpoint.state_dict[renamed(name)].equal(tensor), name


def test_a_shorter_prefix_is_understood(tmp_path: Path) -> None:
    def strip(content: dict[str, Any]) -> None:
        content["model"] = {name.removeprefix("w2v_encoder."): tensor for name, tensor in content["model"].items()}

    checkpoint = read_fairseq(save(tmp_path, change=strip))
    for name, tensor in weights("ctc", "rel_pos").items():
        assert checkpoint.state_dict[renamed(name)].equal(tensor), name


def test_equal_sizes_have_an_identity_projection(tmp_path: Path) -> None:
    def widen(content: dict[str, Any]) -> None:
        model = content["model"]
        for name in [name for name in model if "post_extract_proj" in name]:
            del model[name]
        for name in [name for name in model if "feature_extractor" in name or ".w2v_model.layer_norm" in name]:
            shape = [HIDDEN if size == CHANNELS else size for size in model[name].shape]
            model[name] = torch.randn(shape)

    convolutions = f"[({HIDDEN}, 10, 5)] + [({HIDDEN},3,2)] * 2"
    checkpoint = read_fairseq(save(tmp_path, change=widen, backbone={"conv_feature_layers": convolutions}))
    projection = "wav2vec2_conformer.feature_projection.projection"
    assert checkpoint.state_dict[f"{projection}.weight"].equal(torch.eye(HIDDEN))
    assert checkpoint.state_dict[f"{projection}.bias"].equal(torch.zeros(HIDDEN))
    oracle(checkpoint).load_state_dict(checkpoint.state_dict, strict=True)


def test_dtype_of_the_file_stays(tmp_path: Path) -> None:
    def halve(content: dict[str, Any]) -> None:
        content["model"] = {name: x.half() if x.is_floating_point() else x for name, x in content["model"].items()}

    state_dict = read_fairseq(save(tmp_path, change=halve)).state_dict
    assert state_dict["lm_head.weight"].dtype == torch.float16
    assert state_dict["lm_head.weight"].equal(weights("ctc", "rel_pos")["w2v_encoder.proj.weight"].half())


def test_what_has_no_place_is_named(tmp_path: Path) -> None:
    extra = {
        "w2v_encoder.w2v_model.encoder.layers.1.adapter_layer.W_a": torch.ones(2),
        "w2v_encoder.extra.bias": torch.ones(1),
    }
    checkpoint = read_fairseq(save(tmp_path, change=lambda content: content["model"].update(extra)))
    assert checkpoint.left_over == tuple(sorted(extra))
    assert set(checkpoint.state_dict) == set(oracle(checkpoint).state_dict())


def test_weights_that_the_forward_never_uses_may_be_absent(tmp_path: Path) -> None:
    prefix = "w2v_encoder.w2v_model.encoder.pos_conv.0"
    path = save(tmp_path, change=without(f"{prefix}.bias", f"{prefix}.weight_g", f"{prefix}.weight_v"))
    checkpoint = read_fairseq(path)
    missing = set(oracle(checkpoint).state_dict()) - set(checkpoint.state_dict)
    assert missing and all("pos_conv_embed" in name for name in missing)
    assert checkpoint.config["num_conv_pos_embeddings"] == 6
    assert checkpoint.config["num_conv_pos_embedding_groups"] == 4


def test_rotary_frequencies_may_be_absent_but_not_differ(tmp_path: Path) -> None:
    names = [f"w2v_encoder.w2v_model.encoder.layers.{i}.self_attn.rotary_emb.inv_freq" for i in range(LAYERS)]
    checkpoint = read_fairseq(save(tmp_path, "ctc", "rope", change=without(*names)))
    assert checkpoint.config["position_embeddings_type"] == "rotary"
    assert checkpoint.config["num_attention_heads"] == HEADS
    assert "wav2vec2_conformer.encoder.embed_positions.inv_freq" not in checkpoint.state_dict

    def differ(content: dict[str, Any]) -> None:
        content["model"][names[1]] += 1

    with pytest.raises(CheckpointError, match="different rotary frequencies"):
        read_fairseq(save(tmp_path, "ctc", "rope", change=differ))


@pytest.mark.parametrize(
    "name",
    [
        "encoder.layers.1.ffn1.w_1.weight",
        "encoder.layers.0.self_attn.linear_pos.weight",
        "encoder.layers.1.conv_module.batch_norm.running_var",
        "encoder.layer_norm.bias",
        "post_extract_proj.weight",
        "mask_emb",
        "project_q.bias",
        "final_proj.weight",
    ],
)
def test_a_missing_weight_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(name.removesuffix(".weight"))):
        read_fairseq(save(tmp_path, "pretraining", change=without(name)))


# --------------------------------------------------------------------------------------- the settings


@pytest.mark.parametrize("style", ["cfg", "mixed", "namespace", "omegaconf"])
def test_settings_of_a_fine_tuned_model(tmp_path: Path, style: str) -> None:
    checkpoint = read_fairseq(save(tmp_path, "ctc", style=style))
    assert checkpoint.config == {
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "intermediate_size": FEED_FORWARD,
        "num_attention_heads": HEADS,
        "hidden_act": "swish",
        "position_embeddings_type": "relative",
        "conv_depthwise_kernel_size": KERNEL,
        "feat_extract_norm": "layer",
        "feat_extract_activation": "gelu",
        "conv_dim": [CHANNELS] * 3,
        "conv_kernel": [10, 3, 3],
        "conv_stride": [5, 2, 2],
        "conv_bias": True,
        "layer_norm_eps": 1e-5,
        "num_conv_pos_embeddings": 6,
        "num_conv_pos_embedding_groups": 4,
        # the Conformer block reads `dropout` alone, whatever the other two say
        "hidden_dropout": 0.01,
        "attention_dropout": 0.01,
        "activation_dropout": 0.01,
        "conformer_conv_dropout": 0.01,
        "feat_proj_dropout": 0.0,
        "feat_quantizer_dropout": 0.08,
        "final_dropout": 0.03,
        "layerdrop": 0.11,
        "apply_spec_augment": True,
        "mask_time_prob": 0.5,
        "mask_time_length": 10,
        "mask_time_min_masks": 2,
        "mask_feature_prob": 0.4,
        "mask_feature_length": 64,
        "mask_feature_min_masks": 0,
        "num_codevectors_per_group": ENTRIES,
        "num_codevector_groups": GROUPS,
        "codevector_dim": FINAL,
        "proj_codevector_dim": FINAL,
        "contrastive_logits_temperature": 0.2,
        "num_negatives": 50,
        "vocab_size": ROWS,
        "ctc_loss_reduction": "sum",
        "ctc_zero_infinity": True,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    assert (checkpoint.do_normalize, checkpoint.sampling_rate, checkpoint.lost_settings) == (True, 16_000, ())


@pytest.mark.parametrize("style", ["cfg", "namespace", "omegaconf"])
def test_settings_of_a_pretrained_model(tmp_path: Path, style: str) -> None:
    tuned = read_fairseq(save(tmp_path, "ctc", style=style)).config
    pretrained = read_fairseq(save(tmp_path, "pretraining", style=style)).config
    assert {key: value for key, value in pretrained.items() if tuned.get(key) != value} == {
        "hidden_dropout": 0.15,
        "attention_dropout": 0.15,
        "activation_dropout": 0.15,
        "conformer_conv_dropout": 0.15,
        "feat_proj_dropout": 0.05,
        "layerdrop": 0.02,
        "mask_time_prob": 0.6,
        "mask_time_length": 9,
        "mask_feature_prob": 0.1,
        "mask_feature_length": 4,
        "diversity_loss_weight": 0.1,
    }
    assert tuned.keys() - pretrained.keys() == {
        "vocab_size",
        "final_dropout",
        "ctc_loss_reduction",
        "ctc_zero_infinity",
        "pad_token_id",
        "bos_token_id",
        "eos_token_id",
    }


def test_fairseq_defaults_stand_for_what_an_older_file_does_not_say(tmp_path: Path) -> None:
    needed = ("layer_norm_first", "conv_feature_layers", "pos_enc_type", "quantize_targets")

    def forget(content: dict[str, Any]) -> None:
        model = content["cfg"]["model"]
        content["cfg"]["model"] = {name: model[name] for name in needed}
        content["cfg"] |= {"task": {}, "criterion": {"loss_weights": None}}

    checkpoint = read_fairseq(save(tmp_path, "pretraining", change=forget))
    config = checkpoint.config
    assert checkpoint.do_normalize is False
    assert checkpoint.sampling_rate == 16_000
    assert (config["hidden_dropout"], config["layerdrop"], config["feat_proj_dropout"]) == (0.1, 0.0, 0.0)
    assert (config["mask_time_prob"], config["mask_time_length"]) == (0.65, 10)
    assert (config["mask_feature_prob"], config["diversity_loss_weight"]) == (0.0, 0.0)
    # told by the weights
    assert (config["num_codevectors_per_group"], config["codevector_dim"]) == (ENTRIES, FINAL)
    oracle(checkpoint).load_state_dict(checkpoint.state_dict, strict=True)


def test_enums_stand_for_their_names(tmp_path: Path) -> None:
    with training_machine():
        choices = foreign("fairseq.dataclass.constants.Choices")
        selection = {"extractor_mode": Payload(choices, "default"), "mask_selection": Payload(choices, "uniform")}
        model = backbone_settings("rel_pos", "default") | selection
        content = {"cfg": sections("pretraining", model), "model": weights("pretraining", "rel_pos", "default")}
        torch.save(content, tmp_path / "enums.pt")
    checkpoint = read_fairseq(tmp_path / "enums.pt")
    assert checkpoint.config["feat_extract_norm"] == "group"
    assert checkpoint.lost_settings == ("mask_selection=uniform",)


def test_settings_without_a_word_are_reported(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["cfg"]["model"] |= {"mask_selection": "poisson", "no_mask_overlap": True, "cross_sample_negatives": 100}
        content["cfg"]["criterion"]["infonce"] = False

    checkpoint = read_fairseq(save(tmp_path, "pretraining", change=change))
    assert set(checkpoint.lost_settings) == {
        "mask_selection=poisson",
        "no_mask_overlap=True",
        "cross_sample_negatives=100",
        "infonce=False",
    }


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("encoder_layers", 3, "num_hidden_layers 3 and 2"),
        ("encoder_embed_dim", 32, "hidden_size 32 and 16"),
        ("encoder_ffn_embed_dim", 64, "intermediate_size 64 and 24"),
        ("encoder_attention_heads", 4, "num_attention_heads 4 and 2"),
        ("depthwise_conv_kernel_size", 31, "conv_depthwise_kernel_size 31 and 5"),
        ("conv_feature_layers", "[(12, 10, 5)] + [(12, 3, 2)] * 3", "conv_kernel"),
        ("conv_feature_layers", "[(12, 10, 5), (24, 3, 2), (12, 3, 2)]", "conv_dim"),
        ("conv_bias", False, "conv_bias False and True"),
        ("extractor_mode", "default", "feat_extract_norm group and layer"),
        ("pos_enc_type", "rope", "those of rel_pos"),
        ("latent_vars", 320, "num_codevectors_per_group 320 and 3"),
        ("latent_groups", 4, "latent_groups=4"),
        ("final_dim", 256, "proj_codevector_dim 256 and 8"),
    ],
)
def test_settings_that_contradict_the_weights(tmp_path: Path, name: str, value: object, said: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(said)):
        read_fairseq(save(tmp_path, "pretraining", backbone={name: value}))


@pytest.mark.parametrize(
    ("task", "name", "value"),
    [
        ("ctc", "layer_norm_first", False),
        ("pretraining", "layer_norm_first", False),
        ("pretraining", "layer_norm_first", None),  # fairseq's default is False
        ("ctc", "quantize_input", True),
        ("pretraining", "target_glu", True),
        ("pretraining", "quantizer_depth", 2),
    ],
)
def test_a_model_that_computes_something_else_is_refused(tmp_path: Path, task: str, name: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=f"{name}=.*would give other results"):
        read_fairseq(save(tmp_path, task, backbone={name: value}))


def test_blank_weight_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"blank_weight=1\.5"):
        read_fairseq(save(tmp_path, change=changed(blank_weight=1.5)))


@pytest.mark.parametrize("attn_type", ["espnet", ""])
def test_absolute_positions_are_refused(tmp_path: Path, attn_type: str) -> None:
    with pytest.raises(CheckpointError, match="pos_enc_type=abs"):
        read_fairseq(save(tmp_path, "pretraining", "abs", attn_type=attn_type))


def test_a_scheme_without_its_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no weights for positions"):
        read_fairseq(save(tmp_path, "pretraining", "abs", backbone={"pos_enc_type": "rel_pos"}))


@pytest.mark.parametrize(
    ("name", "value"), [("dropout", "much"), ("mask_length", 9.5), ("mask_length", True), ("num_negatives", [1])]
)
def test_a_setting_of_the_wrong_type_is_named(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=f"the setting {name} is"):
        read_fairseq(save(tmp_path, "pretraining", backbone={name: value}))


@pytest.mark.parametrize("value", ["[", "{}", "os.system('x')", [], ["a"], 3, "0.1"])
def test_loss_weights_that_are_no_numbers(tmp_path: Path, value: object) -> None:
    def change(content: dict[str, Any]) -> None:
        content["cfg"]["criterion"]["loss_weights"] = value

    if value == []:
        assert read_fairseq(save(tmp_path, "pretraining", change=change)).config["diversity_loss_weight"] == 0.0
    else:
        with pytest.raises(CheckpointError, match="loss_weights"):
            read_fairseq(save(tmp_path, "pretraining", change=change))


def forget_settings(content: dict[str, Any]) -> None:
    content["cfg"] = content["args"] = None


@pytest.mark.parametrize(
    ("task", "pos_enc_type", "attn_type", "names"),
    [
        ("ctc", "rel_pos", "espnet", ["conv_feature_layers", "layer_norm_first", "normalize"]),
        ("ctc", "rope", "espnet", ["conv_feature_layers", "layer_norm_first", "normalize"]),
        (
            "ctc",
            "rope",
            "",
            ["conv_feature_layers", "layer_norm_first", "normalize", "pos_enc_type", "encoder_attention_heads"],
        ),
        (
            "pretraining",
            "rel_pos",
            "espnet",
            ["conv_feature_layers", "layer_norm_first", "normalize", "latent_groups", "quantize_targets"],
        ),
    ],
)
def test_a_file_without_settings(
    tmp_path: Path, task: str, pos_enc_type: str, attn_type: str, names: list[str]
) -> None:
    complete = read_fairseq(save(tmp_path, task, pos_enc_type, attn_type=attn_type))
    bare = save(tmp_path, task, pos_enc_type, attn_type=attn_type, change=forget_settings)
    with pytest.raises(CheckpointError, match=f"can't tell {', '.join(names)}: give them"):
        read_fairseq(bare)
    settings = backbone_settings(pos_enc_type, attn_type=attn_type) | {"normalize": True}
    given = {name: settings[name] for name in names}
    with pytest.raises(CheckpointError, match=f"can't tell {names[-1]}: give them"):
        read_fairseq(bare, settings={name: given[name] for name in names[:-1]})
    checkpoint = read_fairseq(bare, settings=given)
    told = {"hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads", "conv_dim", "conv_stride"}
    told |= {"position_embeddings_type", "feat_extract_norm", "conv_bias", "conv_depthwise_kernel_size"}
    assert {key: checkpoint.config[key] for key in told} == {key: complete.config[key] for key in told}
    assert checkpoint.do_normalize is True
    oracle(checkpoint).load_state_dict(checkpoint.state_dict, strict=True)


def test_a_fine_tuned_file_without_the_pretrained_settings(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="can't tell conv_feature_layers, layer_norm_first"):
        read_fairseq(save(tmp_path, change=changed(w2v_args=None)))


def test_given_settings_stand_over_the_files(tmp_path: Path) -> None:
    path = save(tmp_path, backbone={"layer_norm_first": False})
    assert read_fairseq(path, settings={"layer_norm_first": True, "mask_prob": 0.2}).config["mask_time_prob"] == 0.2


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(strides=st.lists(st.integers(1, 9), min_size=2, max_size=2), spaces=st.sampled_from(["", " ", "  "]))
def test_convolutions_are_read_from_their_expression(tmp_path: Path, strides: list[int], spaces: str) -> None:
    first, rest = strides
    text = f"{spaces}[({CHANNELS},{spaces}10, {first})]{spaces}+[({CHANNELS}, 3,{rest})]{spaces}* 2{spaces}"
    config = read_fairseq(save(tmp_path, "pretraining", backbone={"conv_feature_layers": text})).config
    assert config["conv_stride"] == [first, rest, rest]


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch {marker}')",
        "[(12, 10, 5)] + open('{marker}', 'w')",
        "[(12, 10, 5)] * 1000000000",
        "[(12, 10, 5)] * 100 * 100 * 100 * 100 * 100 * 100",
        "[(12, 10, 5) for _ in (1, 2, 3)]",
        "[(12, 10)] * 3",
        "[(12, 10, True)] * 3",
        "[(12, 10, -5)] * 3",
        "[12, 10, 5]",
        "(12, 10, 5)",
        "[]",
        "",
        "[" * 400,
        "[(12, 10, 5)]" + "+[(12, 10, 5)]" * 400,
        "\0",
    ],
)
def test_an_expression_is_never_run(tmp_path: Path, text: str) -> None:
    marker = tmp_path / "marker"
    path = save(tmp_path, backbone={"conv_feature_layers": text.replace("{marker}", str(marker))})
    with pytest.raises(CheckpointError, match="conv_feature_layers"):
        read_fairseq(path)
    assert not marker.exists()


# ------------------------------------------------------------------------------------- the dictionary


def held_dictionary(symbols: list[str]) -> Callable[[dict[str, Any]], None]:
    """Puts a pickled fairseq Dictionary into the content, as newer fairseq does."""

    def change(content: dict[str, Any]) -> None:
        kind = foreign("fairseq.data.dictionary.Dictionary")
        indices = {symbol: row for row, symbol in enumerate(symbols)}
        held = filled(kind, symbols=symbols, count=[1] * len(symbols), indices=indices, bos_word="<s>", nspecial=4)
        content["task_state"] = {"target_dictionary": held}

    return change


SYMBOLS = ["<s>", "<pad>", "</s>", "<unk>", "|", "É", "T", "A", "O"]


def test_the_dictionary_that_the_file_holds(tmp_path: Path) -> None:
    path = save(tmp_path, dictionary=None, change=held_dictionary(SYMBOLS))
    expected = {"É" if token == "E" else token: row for token, row in VOCABULARY.items()}
    assert read_fairseq(path).vocabulary == expected
    (tmp_path / "dict.ltr.txt").write_text("stale 1\n")  # not the one that the weights were trained with
    assert read_fairseq(path).vocabulary == expected
    given = tmp_path / "given.txt"
    given.write_text(DICTIONARY)
    assert read_fairseq(path, given).vocabulary == VOCABULARY


def test_a_dictionary_with_other_special_tokens(tmp_path: Path) -> None:
    path = save(tmp_path, dictionary=None, change=held_dictionary(["<blank>", *SYMBOLS[1:]]))
    with pytest.raises(CheckpointError, match="begins with"):
        read_fairseq(path)


def test_rows_that_pad_a_dictionary_keep_their_place(tmp_path: Path) -> None:
    vocabulary = read_fairseq(
        save(tmp_path, dictionary="| 9\nA 8\nmadeupword0000 0\nmadeupword0001 0\nB 0\n")
    ).vocabulary
    assert vocabulary is not None
    assert list(vocabulary.values()) == list(range(ROWS))
    assert (vocabulary["madeupword0000"], vocabulary["madeupword0001"], vocabulary["B"]) == (6, 7, 8)


def test_an_overwritten_token_takes_its_last_row(tmp_path: Path) -> None:
    vocabulary = read_fairseq(save(tmp_path, dictionary="| 9\nA 8\nB 7\nA 6 #fairseq:overwrite\nC 5\n")).vocabulary
    assert vocabulary is not None
    assert list(vocabulary.values()) == list(range(ROWS))
    assert (vocabulary["A"], vocabulary["B"], vocabulary["C"], vocabulary["<unused5>"]) == (7, 6, 8, 5)


def test_tokens_are_taken_as_they_are(tmp_path: Path) -> None:
    lines = "\u2581the 9\nx y 8\n\x85 7\n\u2028 6\n#fairseq:overwrite 5\n"
    vocabulary = read_fairseq(save(tmp_path, dictionary=lines)).vocabulary
    assert vocabulary is not None
    assert list(vocabulary)[4:] == ["\u2581the", "x y", "\x85", "\u2028", "#fairseq:overwrite"]


@pytest.mark.parametrize(
    ("dictionary", "said"),
    [
        ("| 1\nA 1\nA 1\nB 1\nC 1\n", "line 3: 'A' is there already"),
        ("| 1\nA\nB 1\nC 1\nD 1\n", "line 2: 'A' is not 'token count'"),
        ("| 1\nA many\nB 1\nC 1\nD 1\n", "line 2: 'A many'"),
        ("| 1\n\nB 1\nC 1\nD 1\n", "line 2"),
        ("", "line 1"),
        ("<s> 1\n| 1\nB 1\nC 1\nD 1\n", "'<s>' is there already"),
        ("<s> 1 #fairseq:overwrite\n| 1\nB 1\nC 1\nD 1\n", "a second row to <s>"),
        ("| 1\nA 1\nB 1\n", "has 7 tokens, the 4 special ones included, but the head of .* has 9 rows"),
    ],
)
def test_a_dictionary_that_does_not_do(tmp_path: Path, dictionary: str, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        read_fairseq(save(tmp_path, dictionary=dictionary))


def test_a_dictionary_in_another_encoding(tmp_path: Path) -> None:
    path = save(tmp_path)
    (tmp_path / "dict.ltr.txt").write_bytes("É 1\n".encode("latin-1"))
    with pytest.raises(CheckpointError, match="not UTF-8"):
        read_fairseq(path)


def test_without_a_dictionary_the_error_says_what_to_give(tmp_path: Path) -> None:
    path = save(tmp_path, dictionary=None)
    with pytest.raises(CheckpointError, match=r"no dict\.ltr\.txt beside it\. Give fairseq's dictionary"):
        read_fairseq(path)
    with pytest.raises(CheckpointError, match="no dictionary file"):
        read_fairseq(path, tmp_path / "nowhere.txt")


@pytest.mark.parametrize(
    ("labels", "name"), [("phn", "dict.phn.txt"), ("../../x", "dict.ltr.txt"), (None, "dict.ltr.txt")]
)
def test_the_dictionary_beside_is_named_after_the_labels(tmp_path: Path, labels: str | None, name: str) -> None:
    def change(content: dict[str, Any]) -> None:
        content["cfg"]["task"]["labels"] = labels

    path = save(tmp_path, dictionary=None, change=change)
    (tmp_path / name).write_text(DICTIONARY)
    assert read_fairseq(path).vocabulary == VOCABULARY


def test_pretraining_takes_no_dictionary(tmp_path: Path) -> None:
    path = save(tmp_path, "pretraining")
    (tmp_path / "dict.ltr.txt").write_text(DICTIONARY)
    assert read_fairseq(path).vocabulary is None
    with pytest.raises(CheckpointError, match="takes no dictionary"):
        read_fairseq(path, tmp_path / "dict.ltr.txt")


# ----------------------------------------------------------------------------------------- the safety


def attacks(marker: Path) -> dict[str, Payload]:
    import os

    return {
        "os.system": Payload(os.system, f"touch {marker}"),
        "subprocess": Payload(subprocess.check_call, ["touch", str(marker)]),
        "exec": Payload(exec, f"open({str(marker)!r}, 'w')"),
        "eval": Payload(eval, f"open({str(marker)!r}, 'w')"),
        "open": Payload(open, str(marker), "w"),
        "import": Payload(__import__, "antigravity"),
        "getattr": Payload(getattr, Path, "touch"),
    }


@pytest.mark.parametrize("attack", ["os.system", "subprocess", "exec", "eval", "open", "import", "getattr"])
@pytest.mark.parametrize("place", ["beside", "setting"])
def test_nothing_in_a_file_is_run(tmp_path: Path, attack: str, place: str) -> None:
    marker = tmp_path / "marker"

    def change(content: dict[str, Any]) -> None:
        target = content if place == "beside" else content["cfg"]["model"]["w2v_args"]["model"]
        target["payload" if place == "beside" else "dropout_features"] = attacks(marker)[attack]

    path = save(tmp_path, change=change)
    before = set(torch.serialization.get_safe_globals())
    if attack == "os.system":
        with pytest.raises(CheckpointError, match=r"wants to use \w+\.system"):
            read_fairseq(path)
    elif place == "beside":
        assert read_fairseq(path).vocabulary == VOCABULARY
    else:  # what a stand-in was called with is data at most
        try:
            assert read_fairseq(path).config["feat_quantizer_dropout"] == 0.0
        except CheckpointError as error:
            assert "dropout_features" in str(error)
    assert not marker.exists()
    assert "antigravity" not in sys.modules
    assert set(torch.serialization.get_safe_globals()) == before


def test_classes_are_neither_imported_nor_called(tmp_path: Path) -> None:
    module = types.ModuleType("a_trap")
    calls: list[str] = []

    class Trap:
        def __new__(cls, *arguments: Any) -> Trap:
            calls.append("new")
            return super().__new__(cls)

        def __setstate__(self, state: Any) -> None:
            calls.append("setstate")

    Trap.__module__, Trap.__qualname__ = "a_trap", "Trap"
    module.Trap = Trap  # type: ignore[attr-defined]
    sys.modules["a_trap"] = module
    try:
        trap = Trap()
        trap.__dict__["attribute"] = 1
        path = save(tmp_path, change=lambda content: content.update(extra=trap))
        calls.clear()
        read_fairseq(path)
        assert calls == []
    finally:
        del sys.modules["a_trap"]
    read_fairseq(path)
    assert "a_trap" not in sys.modules


def test_a_caller_who_allows_namespaces_gets_the_same(tmp_path: Path) -> None:
    path = save(tmp_path, style="namespace")
    config = read_fairseq(path).config
    with torch.serialization.safe_globals([argparse.Namespace]):
        assert read_fairseq(path).config == config


def test_a_setting_that_holds_itself(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        node = filled(foreign("omegaconf.nodes.AnyNode"))
        node._val = node
        content["cfg"]["model"]["dropout"] = node

    assert read_fairseq(save(tmp_path, "pretraining", change=change)).config["hidden_dropout"] == 0.1


# ------------------------------------------------------------------------------------- other files


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no file"):
        read_fairseq(tmp_path / "nowhere.pt")
    with pytest.raises(CheckpointError, match="is a folder"):
        read_fairseq(tmp_path)


def test_a_file_that_may_not_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "file.pt"
    path.touch()
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CheckpointError, match="can't be opened: Permission denied"):
        read_fairseq(path)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"PK", bytes(1000)])
def test_files_that_are_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"file\.pt is not a PyTorch checkpoint"):
        read_fairseq(path)


def test_another_zip_file(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    with pytest.raises(CheckpointError, match="can't be read as a PyTorch checkpoint"):
        read_fairseq(path)


def test_a_truncated_file(tmp_path: Path) -> None:
    path = save(tmp_path)
    content = path.read_bytes()
    for size in (len(content) - 1, len(content) // 2, 100):
        path.write_bytes(content[:size])
        with pytest.raises(CheckpointError, match="cut short"):
            read_fairseq(path)


def test_the_old_format_of_torch(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    content = {"cfg": sections("ctc", backbone_settings("rel_pos")), "model": weights("ctc", "rel_pos")}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"before 1\.6"):
        read_fairseq(path)


def test_hugging_face_files(tmp_path: Path) -> None:
    checkpoint = read_fairseq(save(tmp_path))
    path = tmp_path / "pytorch_model.bin"
    for prefix in ("", "wav2vec2_conformer."):
        torch.save({name.removeprefix(prefix): x for name, x in checkpoint.state_dict.items()}, path)
        with pytest.raises(CheckpointError, match="Hugging Face layout already"):
            read_fairseq(path)
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(CheckpointError, match="safetensors"):
        read_fairseq(tmp_path / "model.safetensors")


@pytest.mark.parametrize("prefix", ["", "w2v_encoder.w2v_model."])
def test_plain_wav2vec2_is_another_model(tmp_path: Path, prefix: str) -> None:
    def change(content: dict[str, Any]) -> None:
        layers = {
            f"{prefix}encoder.layers.{i}.{name}.weight": torch.ones(2, 2) for i in (0, 1) for name in ("fc1", "fc2")
        }
        content["model"] = layers | {"w2v_encoder.proj.weight": torch.ones(2, 2)}

    with pytest.raises(CheckpointError, match=r"plain wav2vec 2\.0"):
        read_fairseq(save(tmp_path, change=change))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "holds a list"),
        ({}, "holds no weights under 'model'"),
        ({"model": {}}, "holds no weights"),
        ({"model": {"a": 1}}, "is no tensor"),
        ({"model": {"decoder.layers.0.fc1.weight": torch.ones(1)}}, "is no wav2vec2-conformer"),
        ({"model": {"encoder.layers.0.weight": torch.ones(1)}}, "lacks encoder.layers.0.conv_module"),
    ],
)
def test_checkpoints_of_something_else(tmp_path: Path, content: object, said: str) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=re.escape(said)):
        read_fairseq(path)


def test_an_encoder_without_any_head(tmp_path: Path) -> None:
    path = save(tmp_path, change=without("w2v_encoder.proj.weight", "w2v_encoder.proj.bias"))
    with pytest.raises(CheckpointError, match="neither a CTC head"):
        read_fairseq(path)


def test_weights_of_odd_shapes(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["model"]["mask_emb"] = torch.ones(2, 2)

    with pytest.raises(CheckpointError, match=r"mask_emb has the shape \(2, 2\)"):
        read_fairseq(save(tmp_path, "pretraining", change=change))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol", "ignore:TypedStorage")
@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_pickle_is_an_error_and_no_crash(tmp_path: Path, data: st.DataObject) -> None:
    good = tmp_path / "good"
    good.mkdir(exist_ok=True)
    path = good / "checkpoint.pt"
    if not path.exists():
        save(good, style="omegaconf")
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in records if name.endswith("data.pkl"))
    pickled = bytearray(records[name])
    for _ in range(data.draw(st.integers(1, 4))):
        pickled[data.draw(st.integers(0, len(pickled) - 1))] = data.draw(st.integers(0, 255))
    records[name] = bytes(pickled)
    damaged = good / "damaged.pt"
    with zipfile.ZipFile(damaged, "w") as archive:
        for record, content in records.items():
            archive.writestr(record, content)
    try:
        read_fairseq(damaged)
    except CheckpointError as error:
        assert "damaged.pt" in str(error) or "dict." in str(error)
