"""Language adapters as files: the small part of a model that changes with the language."""

from __future__ import annotations

import os
from pathlib import Path

from torch import Tensor

from wavconformer.checkpoint.loading import PREFIX
from wavconformer.checkpoint.weights import open_file, save_tensors
from wavconformer.errors import CheckpointError, ConfigError
from wavconformer.files import Source
from wavconformer.model.heads import ForCTC
from wavconformer.model.layers import Linear

HEAD = "lm_head."


def adapter_state(model: ForCTC) -> dict[str, Tensor]:
    """The weights that belong to a language: all language adapters and the CTC head, by their names in the model."""
    return {
        name: tensor
        for name, tensor in model.state_dict().items()
        if ".adapter_layer." in name or name.startswith(HEAD)
    }


def save_adapter(model: ForCTC, folder: str | os.PathLike[str], language: str) -> Path:
    """Writes adapter.<language>.safetensors and returns its path; ValueError where the model has no adapters."""
    _require_adapters(model)
    path = Path(folder) / f"adapter.{checked_language(language)}.safetensors"
    save_tensors(adapter_state(model), path)
    return path


def load_adapter(model: ForCTC, source: Source, language: str, use_safetensors: bool | None = None) -> None:
    """Reads adapter.<language>.safetensors, or .bin, into the model; the CTC head takes that language's size.

    Raises ValueError where the model has no adapters; CheckpointError where the file is missing, which names the
    languages that are there, or doesn't hold this model's adapters. The model is then as it was before.
    """
    _require_adapters(model)
    path = _find(source, language, use_safetensors)
    expected = adapter_state(model)
    with open_file(path) as tensors:
        found = {
            name if name in expected or not name.startswith("encoder.") else PREFIX + name: tensor.read()
            for name, tensor in tensors.items()
        }
    head = model.lm_head
    size = len(found.get("lm_head.weight", head.weight))  # the language's own vocabulary
    shapes = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    shapes |= {"lm_head.weight": (size, head.in_features), "lm_head.bias": (size,)}
    wrong = sorted(expected.keys() ^ found.keys()) + [
        f"{name} {tuple(tensor.shape)} for {shapes[name]}"
        for name, tensor in found.items()
        if name in shapes and tuple(tensor.shape) != shapes[name]
    ]
    if wrong:
        raise CheckpointError(f"{path} doesn't hold this model's language adapters: {', '.join(wrong[:5])}.")
    if size != head.out_features:
        model.lm_head = Linear(head.in_features, size, device=head.weight.device, dtype=head.weight.dtype)
        model.config.vocab_size = size
    model.load_state_dict(found, strict=False)
    model.target_lang = language


def _find(source: Source, language: str, use_safetensors: bool | None) -> Path:
    suffixes = {None: (".safetensors", ".bin"), True: (".safetensors",), False: (".bin",)}[use_safetensors]
    for suffix in suffixes:
        if (path := source.find(f"adapter.{checked_language(language)}{suffix}")) is not None:
            return path
    known = ""
    if source.folder is not None:
        languages = sorted({path.name.split(".")[1] for path in source.folder.glob("adapter.*.*")})
        known = f" It has adapters for: {', '.join(languages)}." if languages else " It has no adapters at all."
    raise CheckpointError(f"{source} has no adapter for the language '{language}'.{known}")


def checked_language(language: str) -> str:
    """The name itself, which is part of a file's name; ConfigError for one that can't be."""
    if not language or not all(letter.isalnum() or letter in "-_" for letter in language):
        raise ConfigError(f"'{language}' is no name of a language: use letters, digits, '-' and '_', such as 'fra'.")
    return language


def _require_adapters(model: ForCTC) -> None:
    if model.config.adapter_attn_dim is None:
        raise ValueError("This model has no language adapters: adapter_attn_dim isn't set in its configuration.")
