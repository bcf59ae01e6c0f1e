"""Small weights and the checkpoint that they were trained beside, made one."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from wavconformer.checkpoint import models
from wavconformer.checkpoint.adapters import load_adapter
from wavconformer.checkpoint.pretrained import PreTrained
from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.errors import CheckpointError
from wavconformer.files import Source, read_json
from wavconformer.processing import Wav2Vec2FeatureExtractor, Wav2Vec2Processor
from wavconformer.training.lora import add_lora, from_peft, merge_lora
from wavconformer.training.recipe import Lora
from wavconformer.training.starting import BASE_FILE


def load_merged(folder: str | os.PathLike[str], base: str | os.PathLike[str] | None = None) -> Any:
    """The whole model of a folder with a language's adapter or low-rank matrices, in eval mode.

    base: the checkpoint that these were trained beside; by default the one that the folder names.

    Raises CheckpointError where the folder holds no such weights or they don't fit.
    """
    place = Path(folder)
    if not (place / BASE_FILE).is_file():
        raise CheckpointError(f"'{place}' holds no {BASE_FILE}: it isn't what a run with model.adapter or .lora wrote.")
    said = read_json(place / BASE_FILE)
    config = Wav2Vec2ConformerConfig.from_pretrained(place)
    cls: type[PreTrained] = getattr(models, (config.architectures or ["Wav2Vec2ConformerForCTC"])[0])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*start from random values", category=UserWarning)
        model = cls.from_pretrained(base or said["base"], config=config, ignore_mismatched_sizes=True)
    if said["language"] is not None:
        load_adapter(model, Source(place), said["language"])
        return model
    settings = read_json(place / "adapter_config.json")
    add_lora(model, Lora(rank=settings["r"], alpha=settings["lora_alpha"], targets=tuple(settings["target_modules"])))
    missing, unexpected = model.load_state_dict(from_peft(load_file(place / "adapter_model.safetensors")), strict=False)
    if unexpected or any("lora_" in name for name in missing):
        raise CheckpointError(f"The low-rank matrices in '{place}' don't fit '{base or said['base']}'.")
    merge_lora(model)
    return model.eval()


def merge(
    folder: str | os.PathLike[str], output: str | os.PathLike[str], base: str | os.PathLike[str] | None = None
) -> Path:
    """Writes the whole checkpoint of small weights and their base into a folder, and returns it.

    Arguments and errors as with `load_merged`.
    """
    model = load_merged(folder, base)
    model.save_pretrained(output)
    if Source(folder).find("vocab.json") is not None:
        Wav2Vec2Processor.from_pretrained(folder).save_pretrained(output)
    else:
        Wav2Vec2FeatureExtractor.from_pretrained(folder).save_pretrained(output)
    return Path(output)
