"""fairseq checkpoints as fairseq writes them: the names, shapes and settings of its own modules, made small."""

from __future__ import annotations

import argparse
import collections
import math
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

HIDDEN, FEED_FORWARD, HEADS, LAYERS, CHANNELS, KERNEL = 16, 24, 2, 2, 12, 5
FINAL, GROUPS, ENTRIES, ROWS = 8, 2, 3, 9
DICTIONARY = "| 94802\nE 51860\nT 38431\nA 33152\nO 31495\n"
VOCABULARY = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "E": 5, "T": 6, "A": 7, "O": 8}
POSITIONS = {"rel_pos": "relative", "rope": "rotary"}


def backbone_shapes(
    pos_enc_type: str, mode: str = "layer_norm", attn_type: str = "espnet"
) -> dict[str, tuple[int, ...]]:
    """The weights of fairseq's Wav2Vec2Model without its pretraining parts, by name."""

    def linear(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}

    def norm(name: str, size: int = HIDDEN) -> dict[str, tuple[int, ...]]:
        return linear(name, size)

    shapes: dict[str, tuple[int, ...]] = {"mask_emb": (HIDDEN,)}
    for i, (channels, kernel) in enumerate([(1, 10), (CHANNELS, 3), (CHANNELS, 3)]):
        convolution = f"feature_extractor.conv_layers.{i}"
        shapes[f"{convolution}.0.weight"] = (CHANNELS, channels, kernel)
        if mode == "layer_norm":
            shapes[f"{convolution}.0.bias"] = (CHANNELS,)
            shapes |= norm(f"{convolution}.2.1", CHANNELS)
        elif i == 0:
            shapes |= norm(f"{convolution}.2", CHANNELS)
    shapes |= linear("post_extract_proj", HIDDEN, CHANNELS) | norm("layer_norm", CHANNELS) | norm("encoder.layer_norm")
    shapes |= {
        "encoder.pos_conv.0.bias": (HIDDEN,),
        "encoder.pos_conv.0.weight_g": (1, 1, 6),
        "encoder.pos_conv.0.weight_v": (HIDDEN, HIDDEN // 4, 6),
    }
    for i in range(LAYERS):
        layer = f"encoder.layers.{i}"
        for ffn in ("ffn1", "ffn2"):
            shapes |= norm(f"{layer}.{ffn}.layer_norm")
            shapes |= linear(f"{layer}.{ffn}.w_1", FEED_FORWARD, HIDDEN)
            shapes |= linear(f"{layer}.{ffn}.w_2", HIDDEN, FEED_FORWARD)
        for part in ("q", "k", "v", "out"):
            name = f"linear_{part}" if attn_type == "espnet" else f"{part}_proj"
            shapes |= linear(f"{layer}.self_attn.{name}", HIDDEN, HIDDEN)
        if attn_type == "espnet" and pos_enc_type == "rel_pos":
            shapes[f"{layer}.self_attn.linear_pos.weight"] = (HIDDEN, HIDDEN)
            shapes |= {f"{layer}.self_attn.pos_bias_{x}": (HEADS, HIDDEN // HEADS) for x in "uv"}
        if attn_type == "espnet" and pos_enc_type == "rope":
            shapes[f"{layer}.self_attn.rotary_emb.inv_freq"] = (HIDDEN // HEADS // 2,)
        for name in ("self_attn_layer_norm", "final_layer_norm", "conv_module.layer_norm", "conv_module.batch_norm"):
            shapes |= norm(f"{layer}.{name}")
        shapes |= {
            f"{layer}.conv_module.pointwise_conv1.weight": (2 * HIDDEN, HIDDEN, 1),
            f"{layer}.conv_module.depthwise_conv.weight": (HIDDEN, 1, KERNEL),
            f"{layer}.conv_module.pointwise_conv2.weight": (HIDDEN, HIDDEN, 1),
            f"{layer}.conv_module.batch_norm.running_mean": (HIDDEN,),
            f"{layer}.conv_module.batch_norm.running_var": (HIDDEN,),
            f"{layer}.conv_module.batch_norm.num_batches_tracked": (),
        }
    return shapes


def weights(
    task: str, pos_enc_type: str, mode: str = "layer_norm", attn_type: str = "espnet"
) -> dict[str, torch.Tensor]:
    shapes = backbone_shapes(pos_enc_type, mode, attn_type)
    if task == "ctc":
        shapes = {f"w2v_encoder.w2v_model.{name}": shape for name, shape in shapes.items()}
        shapes |= {"w2v_encoder.proj.weight": (ROWS, HIDDEN), "w2v_encoder.proj.bias": (ROWS,)}
    else:
        shapes |= {
            "quantizer.vars": (1, GROUPS * ENTRIES, FINAL // GROUPS),
            "quantizer.weight_proj.weight": (GROUPS * ENTRIES, CHANNELS),
            "quantizer.weight_proj.bias": (GROUPS * ENTRIES,),
            "project_q.weight": (FINAL, FINAL),
            "project_q.bias": (FINAL,),
            "final_proj.weight": (FINAL, HIDDEN),
            "final_proj.bias": (FINAL,),
        }
    generator = torch.Generator().manual_seed(0)
    return {name: tensor(name, shape, generator) for name, shape in shapes.items()}


def tensor(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Values of a size that lets the audio, and not the biases, decide what comes out of the model."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    if name.endswith("inv_freq"):
        return 1 / 10_000 ** (torch.arange(0, HIDDEN // HEADS, 2) / (HIDDEN // HEADS))
    values = torch.randn(shape, generator=generator)
    if name.endswith("running_var"):
        return values.abs() + 0.5
    if name.endswith((".bias", "running_mean")):
        return values * 0.1
    if name.endswith(".weight"):
        return 1 + values * 0.1 if len(shape) == 1 else values / math.prod(shape[1:]) ** 0.5
    return values


def backbone_settings(pos_enc_type: str, mode: str = "layer_norm", attn_type: str = "espnet") -> dict[str, Any]:
    return {
        "_name": "wav2vec2",
        "extractor_mode": mode,
        "encoder_layers": LAYERS,
        "encoder_embed_dim": HIDDEN,
        "encoder_ffn_embed_dim": FEED_FORWARD,
        "encoder_attention_heads": HEADS,
        "activation_fn": "gelu",
        "layer_type": "conformer",
        "attn_type": attn_type,
        "pos_enc_type": pos_enc_type,
        "layer_norm_first": True,
        "conv_feature_layers": f"[({CHANNELS}, 10, 5)] + [({CHANNELS},3,2)] * 2",
        "conv_bias": mode == "layer_norm",
        "depthwise_conv_kernel_size": KERNEL,
        "conv_pos": 6,
        "conv_pos_groups": 4,
        "dropout": 0.15,
        "attention_dropout": 0.25,
        "activation_dropout": 0.35,
        "dropout_input": 0.05,
        "dropout_features": 0.08,
        "encoder_layerdrop": 0.02,
        "mask_prob": 0.6,
        "mask_length": 9,
        "mask_channel_prob": 0.1,
        "mask_channel_length": 4,
        "quantize_targets": True,
        "final_dim": FINAL,
        "latent_vars": ENTRIES,
        "latent_groups": GROUPS,
        "latent_dim": 0,
        "latent_temp": [2.0, 0.1, 0.999995],
        "logit_temp": 0.2,
        "num_negatives": 50,
    }


def tuned_settings() -> dict[str, Any]:
    return {
        "_name": "wav2vec_ctc",
        "w2v_path": "/somewhere/pretrained.pt",
        "apply_mask": True,
        "dropout": 0.01,
        "attention_dropout": 0.02,
        "activation_dropout": 0.1,
        "final_dropout": 0.03,
        "layerdrop": 0.11,
        "mask_prob": 0.5,
        "mask_length": 10,
        "mask_channel_prob": 0.4,
        "mask_channel_length": 64,
        "normalize": True,
        "blank_weight": 0,
    }


def sections(task: str, backbone: dict[str, Any], wrap: Callable[[dict[str, Any]], Any] = dict) -> dict[str, Any]:
    """The settings as newer files have them; `wrap` is what the pretrained model's are kept in."""
    criterion = {"_name": "wav2vec", "infonce": True, "loss_weights": [0.1, 0], "log_keys": []}
    pretraining = {"model": backbone, "task": {"normalize": True, "sample_rate": 16_000}, "criterion": criterion}
    if task == "pretraining":
        return pretraining
    return {
        "model": tuned_settings() | {"w2v_args": wrap(pretraining)},
        "task": {"_name": "audio_finetuning", "normalize": True, "sample_rate": 16_000, "labels": "ltr"},
        "criterion": {"_name": "ctc", "zero_infinity": True},
    }


def namespace(task: str, backbone: dict[str, Any]) -> argparse.Namespace:
    """The settings as older files have them: all in one, text where the command line had text."""
    flat = {**backbone, "normalize": True, "sample_rate": 16_000, "infonce": True, "loss_weights": "[0.1, 0]"}
    pretraining = argparse.Namespace(**flat, criterion="wav2vec", arch="wav2vec2", task="audio_pretraining")
    if task == "pretraining":
        return pretraining
    tuned = tuned_settings() | {"criterion": "ctc", "zero_infinity": True, "labels": "ltr", "arch": "wav2vec_ctc"}
    return argparse.Namespace(**tuned, w2v_args=pretraining, task="audio_pretraining")


FOREIGN = ("fairseq", "omegaconf", "fake_typing")


@contextmanager
def training_machine() -> Iterator[None]:
    """Inside the block classes of other packages can be made and pickled; outside there is no such package."""
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] in FOREIGN]:
            del sys.modules[name]


def foreign(path: str) -> type:
    """A class under the module path that it had where the checkpoint was trained."""
    module, _, name = path.rpartition(".")
    for end in range(1, module.count(".") + 2):
        part = ".".join(module.split(".")[:end])
        sys.modules.setdefault(part, types.ModuleType(part))
    if not hasattr(sys.modules[module], name):
        setattr(sys.modules[module], name, type(name, (), {"__module__": module}))
    found: type = getattr(sys.modules[module], name)
    return found


class Payload:
    """Pickles as a call of `function`: how an enum is pickled, and how an attacker has his way."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


def filled(kind: type, **attributes: Any) -> Any:
    thing = kind()
    thing.__dict__.update(attributes)
    return thing


def omegaconf_container(values: dict[str, Any]) -> Any:
    """A DictConfig as it is pickled: nodes with metadata and parents in `_content`, values in `_val`."""
    container = filled(foreign("omegaconf.dictconfig.DictConfig"), _parent=None, _flags_cache=None)
    metadata = filled(foreign("omegaconf.base.ContainerMetadata"), key_type=foreign("fake_typing.Any"), optional=True)
    metadata.resolver_cache = collections.defaultdict(foreign("fake_typing.Any"), {"env": {"HOME": "/"}})
    content: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            content[key] = omegaconf_container(value)
        elif isinstance(value, list):
            nodes = [filled(foreign("omegaconf.nodes.AnyNode"), _val=item, _parent=container) for item in value]
            content[key] = filled(foreign("omegaconf.listconfig.ListConfig"), _content=nodes, _parent=container)
        else:
            content[key] = filled(foreign("omegaconf.nodes.AnyNode"), _val=value, _parent=container)
    container.__dict__.update(_metadata=metadata, _content=content)
    return container


def save(
    folder: Path,
    task: str = "ctc",
    pos_enc_type: str = "rel_pos",
    *,
    mode: str = "layer_norm",
    attn_type: str = "espnet",
    style: str = "cfg",
    dictionary: str | None = DICTIONARY,
    change: Callable[[dict[str, Any]], Any] = lambda content: None,
    backbone: dict[str, Any] | None = None,
) -> Path:
    """Writes a checkpoint and its dictionary; `backbone` stands over its settings, `change` changes its content."""
    model = backbone_settings(pos_enc_type, mode, attn_type) | (backbone or {})
    content: dict[str, Any] = {
        "args": None,
        "cfg": None,
        "model": weights(task, pos_enc_type, mode, attn_type),
        "optimizer_history": [{"num_updates": 3}],
        "extra_state": {"best": np.float64(3.5), "epoch": np.int64(2)},
        "last_optimizer_state": None,
    }
    path = folder / "checkpoint.pt"
    if dictionary is not None and task == "ctc":
        (folder / "dict.ltr.txt").write_text(dictionary, encoding="utf-8")
    with training_machine():
        if style == "cfg":
            content["cfg"] = sections(task, model)
        elif style == "mixed":
            content["cfg"] = sections(task, model, wrap=lambda values: argparse.Namespace(**values))
        elif style == "namespace":
            content["args"] = namespace(task, model)
        else:
            content["cfg"] = omegaconf_container(sections(task, model))
        change(content)
        torch.save(content, path)
    return path


def changed(**settings: Any) -> Callable[[dict[str, Any]], None]:
    """Puts settings of the fine-tuned (or only) model into the content, None taking one away."""

    def change(content: dict[str, Any]) -> None:
        content["cfg"]["model"] |= settings

    return change


def without(*names: str) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for name in names:
            del content["model"][name]

    return change
