"""A model as an ONNX graph, run by ONNX Runtime; PyTorch isn't needed for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.errors import CheckpointError, WavConformerError
from wavconformer.files import Source, first_line

GRAPH = "model.onnx"
DATA = "model.onnx.data"  # the weights beside it, where one file can't hold them
MISSING = "ONNX needs more packages: pip install 'wavconformer[onnx]'."


class OnnxModel:
    """A graph that `wavconformer export` wrote. Its results are arrays.

    config: of the model it was made of. architecture: that model's class. output: the name of its one result.
    """

    def __init__(self, path: Path, config: Wav2Vec2ConformerConfig, threads: int | None = None) -> None:
        """threads: of the CPU; all cores by default. Raises CheckpointError for what is no such graph."""
        runtime = _runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except _failures() as error:
            raise CheckpointError(f"{path} is no graph that ONNX Runtime can run: {first_line(error)}.") from error
        inputs = [entry.name for entry in self._session.get_inputs()]
        if inputs != ["input_values", "attention_mask"]:
            raise CheckpointError(
                f"{path} takes {', '.join(inputs)}, not input_values and attention_mask: make it with "
                "`wavconformer export`."
            )
        self.config = config
        self.output = str(self._session.get_outputs()[0].name)
        self.architecture = (config.architectures or ["Wav2Vec2ConformerModel"])[0]

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], *, threads: int | None = None, **source: Any) -> OnnxModel:
        """Reads the graph of a folder or Hub repository; `source`: as `wavconformer.files.Source` takes it."""
        where = Source.take(name, source)
        path = where.find(GRAPH)
        if path is None:
            raise CheckpointError(f"{where} holds no {GRAPH}: make one with `wavconformer export {name} --to onnx`.")
        where.find(DATA)  # of a repository: to be downloaded beside it
        return cls(path, Wav2Vec2ConformerConfig.from_source(where), threads)

    def __call__(
        self, input_values: NDArray[np.float32], attention_mask: NDArray[np.integer] | None = None
    ) -> NDArray[np.float32]:
        """(B, S) waveforms and their mask → the result, as logits (B, T, V).

        Raises ValueError where the shapes differ, WavConformerError where ONNX Runtime fails.
        """
        if attention_mask is None:
            attention_mask = np.ones(input_values.shape, np.int64)
        if input_values.ndim != 2 or attention_mask.shape != input_values.shape:
            raise ValueError(
                f"input_values has the shape {input_values.shape} and attention_mask {attention_mask.shape}: both must "
                "be (batch, samples)."
            )
        feed = {"input_values": input_values.astype(np.float32), "attention_mask": attention_mask.astype(np.int64)}
        try:
            result: NDArray[np.float32] = self._session.run([self.output], feed)[0]
        except _failures() as error:
            raise WavConformerError(f"ONNX Runtime could not run the graph: {first_line(error)}.") from error
        return result


def wants_onnx(engine: str | None, source: Source) -> bool:
    """Whether a graph is to be run: where `engine` says so, or says nothing and a folder here holds nothing else.

    Raises ValueError for an engine that there isn't.
    """
    if engine not in (None, "torch", "onnx"):
        raise ValueError(f"engine is {engine!r}, but must be 'torch' or 'onnx'.")
    if engine is None and source.folder is not None:
        has_weights = any(any(source.folder.glob(names)) for names in ("*.safetensors*", "pytorch_model*"))
        return source.find(GRAPH) is not None and not has_weights
    return engine == "onnx"


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise WavConformerError(MISSING) from error
    return onnxruntime


def _failures() -> tuple[type[Exception], ...]:
    """The kinds of error that ONNX Runtime raises; they have no base and no public home."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return tuple(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))
