"""A checkpoint of another toolkit, as a folder that wavconformer and `transformers` read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wavconformer.checkpoint.fairseq import read_fairseq
from wavconformer.checkpoint.loading import load_tensors, report
from wavconformer.checkpoint.models import Wav2Vec2ConformerForCTC, Wav2Vec2ConformerForPreTraining
from wavconformer.checkpoint.weights import loaded
from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.errors import CheckpointError
from wavconformer.processing import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor

# How the files of a folder end that a conversion writes, or clears away as weights of an earlier save.
WRITTEN = (".json", ".safetensors", ".bin")


@dataclass(frozen=True)
class Converted:
    """What was made.

    folder: where it is. architecture: the name of its class.
    left_over: names of weights in the old file that have no place in the new ones.
    lost_settings: settings, as "name=value", that shaped the training and have no word in the configuration.
    """

    folder: Path
    architecture: str
    left_over: tuple[str, ...]
    lost_settings: tuple[str, ...]


def convert_fairseq(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    dictionary: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Converted:
    """Writes a fairseq wav2vec2-conformer checkpoint as a folder: configuration, weights and processor.

    dictionary: the dict.ltr.txt of a fine-tuned checkpoint; the one beside it by default.
    settings: fairseq settings by name, which stand over the file's own, as `read_fairseq` takes them.

    fairseq isn't needed, and nothing that the file holds is run. Raises CheckpointError where it is no such file,
    and where the checkpoint or the dictionary stands in the folder under a name that could be written to.
    """
    read = read_fairseq(path, dictionary, settings)
    out = Path(folder)
    _refuse_to_write_over([path] if dictionary is None else [path, dictionary], out)
    config = Wav2Vec2ConformerConfig.from_dict(read.config)
    cls = Wav2Vec2ConformerForCTC if read.task == "ctc" else Wav2Vec2ConformerForPreTraining
    with torch.device("meta"):
        model = cls(config)
    place = f"'{path}'"
    report(load_tensors(model, loaded(read.state_dict), place=place, dtype=torch.float32), model, place)
    extractor = Wav2Vec2FeatureExtractor(
        sampling_rate=read.sampling_rate, do_normalize=read.do_normalize, return_attention_mask=True
    )
    processor: Wav2Vec2FeatureExtractor | Wav2Vec2Processor = extractor
    if read.vocabulary is not None:
        processor = Wav2Vec2Processor(extractor, Wav2Vec2CTCTokenizer(read.vocabulary))
    model.save_pretrained(out)
    processor.save_pretrained(out)
    return Converted(out, cls.__name__, read.left_over, read.lost_settings)


def _refuse_to_write_over(sources: list[str | os.PathLike[str]], folder: Path) -> None:
    """A source may lie in the folder, or be linked there, but not where a new file could take its place."""
    for file in folder.iterdir() if folder.is_dir() else ():
        for source in sources:
            if file.suffix.lower() in WRITTEN and file.exists() and file.samefile(source):
                raise CheckpointError(
                    f"'{source}' is '{file}' in the folder to write, where it could be lost: give another folder."
                )
