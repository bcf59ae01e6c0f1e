"""A checkpoint of another toolkit, as a folder that wavconformer and `transformers` read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from wavconformer.checkpoint.fairseq import read_fairseq
from wavconformer.checkpoint.loading import load_tensors
from wavconformer.checkpoint.models import Wav2Vec2ConformerForCTC, Wav2Vec2ConformerForPreTraining
from wavconformer.checkpoint.weights import loaded
from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.files import write_json
from wavconformer.processing import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor


@dataclass(frozen=True)
class Converted:
    """What was made: its folder, its class, and the names in the old file that have no place in the new ones."""

    folder: Path
    architecture: str
    left_over: tuple[str, ...]


def convert_fairseq(
    path: str | os.PathLike[str], folder: str | os.PathLike[str], dictionary: str | os.PathLike[str] | None = None
) -> Converted:
    """Writes a fairseq wav2vec2-conformer checkpoint as a folder: configuration, weights and processor.

    dictionary: the dict.ltr.txt of a fine-tuned checkpoint; the one beside it by default.

    fairseq isn't needed, and nothing that the file holds is run. Raises CheckpointError where it is no such file.
    """
    read = read_fairseq(Path(path), None if dictionary is None else Path(dictionary))
    config = Wav2Vec2ConformerConfig.from_dict(read.config)
    cls = Wav2Vec2ConformerForCTC if read.task == "ctc" else Wav2Vec2ConformerForPreTraining
    with torch.device("meta"):
        model = cls(config)
    load_tensors(model, loaded(read.state_dict), place=f"'{path}'", dtype=torch.float32)
    out = Path(folder)
    model.save_pretrained(out)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=read.do_normalize, return_attention_mask=True)
    if read.vocabulary is None:
        extractor.save_pretrained(out)
    else:
        write_json(out / "vocab.json", read.vocabulary)
        tokenizer = Wav2Vec2CTCTokenizer(out / "vocab.json")
        Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(out)
    return Converted(out, cls.__name__, read.left_over)
