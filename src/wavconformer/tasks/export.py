"""A checkpoint as a graph for another engine, proven equal before it is handed over."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wavconformer.auto import AutoProcessor, feature_extractor, model_class
from wavconformer.checkpoint.models import MAIN_OUTPUT
from wavconformer.checkpoint.onnx_export import require_onnx, round_graph, write_graph
from wavconformer.checkpoint.onnx_graph import DATA, GRAPH, OnnxModel
from wavconformer.checkpoint.pretrained import PreTrained
from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.decoding.processor_with_lm import ALPHABET_FILE, LM_FOLDER, language_model_folder
from wavconformer.errors import CheckpointError
from wavconformer.files import Source, staged, write_json
from wavconformer.processing import Wav2Vec2FeatureExtractor, Wav2Vec2Processor
from wavconformer.tasks.check import noise

# Largest difference from PyTorch, of the largest value of the output, that a graph may have.
TOLERANCE = 1e-3
# The same for int8, as the root of the mean square: rounding to 8 bits is of the order of 1 % in each layer.
INT8_TOLERANCE = 0.2
# Seconds of the recordings of each batch that it is proven with, none of them that which it was made with.
PROOF = ((1.3,), (0.8, 2.1, 1.7), (0.5, 0.45))


@dataclass(frozen=True)
class Exported:
    """What was written.

    folder: holds model.onnx, config.json and the processor's files. output: the name of the graph's result.
    difference: the largest from PyTorch, as a part of the largest value where that is below 1; for int8 the root of the
    mean square, as a part of the output's own. megabytes: of the graph.
    """

    folder: Path
    output: str
    difference: float
    megabytes: float


def export(
    name: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    to: str = "onnx",
    quantization: str | None = None,
    **source: Any,
) -> Exported:
    """Writes the graph of a checkpoint's eval forward, of any batch size and length, with its processor beside it.

    name: folder, Hub repository, or a checkpoint that ships with the package. quantization: "int8" for matrix
    products of 8 bits. source: as `from_pretrained` takes it.

    The graph takes `input_values` (B, S), float32, and `attention_mask` (B, S), int64, and gives the model's main
    output: logits, last_hidden_state, embeddings or, of the pretraining model, projected_states. It is run beside
    PyTorch before the folder is written. Raises CheckpointError where the two differ, ValueError for another format.
    """
    if to != "onnx" or quantization not in (None, "int8"):
        raise ValueError(f"to={to!r}, quantization={quantization!r}: only 'onnx' can be written, unrounded or 'int8'.")
    require_onnx()
    if Path(folder).is_file():
        raise CheckpointError(f"'{folder}' is a file: give a folder to write the graph to.")
    where = Source.take(name, dict(source))
    config = Wav2Vec2ConformerConfig.from_source(where)
    model = model_class(config, where).from_pretrained(name, **source)
    extractor = feature_extractor(where, **source)
    with staged(Path(folder)) as unfinished:
        write_json(unfinished / "config.json", {**model.config.to_dict(), "architectures": [type(model).__name__]})
        if where.find("vocab.json") is None:
            extractor.save_pretrained(unfinished)
        elif (language_model := language_model_folder(where)) is not None:
            # The language model as it is: a binary can be copied where it can't be read.
            Wav2Vec2Processor.from_pretrained(name, **source).save_pretrained(unfinished)
            shutil.copytree(language_model, unfinished / LM_FOLDER)
            alphabet = language_model.with_name(ALPHABET_FILE)
            if alphabet.is_file():
                shutil.copyfile(alphabet, unfinished / ALPHABET_FILE)
        else:
            AutoProcessor.from_pretrained(name, **source).save_pretrained(unfinished)
        graph = unfinished / GRAPH
        if quantization is None:
            write_graph(model, graph)
        else:
            plain = unfinished / f"plain-{GRAPH}"
            write_graph(model, plain)
            round_graph(plain, graph)
            for left in unfinished.glob(f"plain-{GRAPH}*"):
                left.unlink()
        difference = _prove(model, OnnxModel(graph, model.config), extractor, rounded=quantization is not None)
        written = [*unfinished.glob(f"{GRAPH}*")]
        size = sum(path.stat().st_size for path in written)
    if DATA not in [path.name for path in written]:
        (Path(folder) / DATA).unlink(missing_ok=True)  # of a larger graph that was here before
    return Exported(Path(folder), MAIN_OUTPUT[type(model).__name__], difference, size / 2**20)


def _prove(model: PreTrained, graph: OnnxModel, extractor: Wav2Vec2FeatureExtractor, *, rounded: bool) -> float:
    """The largest difference over the batches of the proof; CheckpointError where it is too large, or no number."""
    limit = INT8_TOLERANCE if rounded else TOLERANCE
    rate, worst = extractor.sampling_rate, 0.0
    for seconds in PROOF:
        inputs = extractor(
            [noise(length) for length in seconds],
            sampling_rate=rate,
            padding=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            expected = model(**inputs)[graph.output].numpy()
        found = graph(*(inputs[key].numpy() for key in ("input_values", "attention_mask")))
        if found.shape != expected.shape:
            raise CheckpointError(f"The graph gives {found.shape} where PyTorch gives {expected.shape}.")
        if rounded:
            real = np.abs(expected) < 1e30  # padded frames are certain of the blank
            apart = np.sqrt(np.mean((found - expected)[real] ** 2) / np.mean(expected[real] ** 2))
        else:
            apart = np.abs(found - expected).max() / min(np.abs(expected).max(), 1.0)
        if not apart <= limit:
            advice = (
                "These weights don't bear rounding to 8 bits: export them without." if rounded else "Please report it."
            )
            raise CheckpointError(f"The graph differs from PyTorch by {apart:.2g}: it was not written. {advice}")
        worst = max(worst, float(apart))
    return worst
