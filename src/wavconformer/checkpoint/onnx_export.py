"""Writing a model as an ONNX graph of any batch size and length."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wavconformer.checkpoint.models import MAIN_OUTPUT
from wavconformer.checkpoint.onnx_graph import MISSING
from wavconformer.checkpoint.pretrained import PreTrained
from wavconformer.errors import WavConformerError
from wavconformer.model.quantization import has_vnni, is_int8


class _OneResult(nn.Module):
    """The model as a function of waveforms and mask with one tensor as its result."""

    def __init__(self, model: PreTrained, output: str) -> None:
        super().__init__()
        self.model = model
        self.output = output

    def forward(self, input_values: Tensor, attention_mask: Tensor) -> Tensor:
        result: Tensor = self.model(input_values, attention_mask=attention_mask, return_dict=True)[self.output]
        return result


def write_graph(model: PreTrained, path: Path) -> None:
    """Writes the eval forward of a float32 model on the CPU, from waveforms (B, S) and their mask to its main output.

    Raises WavConformerError where packages are missing, ValueError for an int8 model.
    """
    require_onnx()
    if is_int8(model):
        raise ValueError(
            "This model is int8 already, in PyTorch's way: export the unrounded checkpoint with --quantization int8."
        )
    output = MAIN_OUTPUT[type(model).__name__]
    # Two rows of unequal length, so that no size is taken for a constant.
    samples = 16_000
    mask = (torch.arange(samples) < torch.tensor([[samples], [samples * 3 // 4]])).long()
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with torch.no_grad(), _quiet():
        program: Any = torch.onnx.export(
            _OneResult(model.eval(), output),
            (torch.randn(2, samples), mask),
            dynamo=True,
            dynamic_shapes=(dynamic, dynamic),
            input_names=["input_values", "attention_mask"],
            output_names=[output],
            verbose=False,
        )
        program.save(str(path))


def round_graph(path: Path, rounded: Path) -> None:
    """Writes the graph at `path` with int8 matrix products, each weight by its output channel, to `rounded`."""
    require_onnx()
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    big = onnx.load(str(path), load_external_data=False)
    with _quiet():
        quantize_dynamic(
            str(path),
            str(rounded),
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=not has_vnni(),
            weight_type=QuantType.QInt8,
            use_external_data_format=any(entry.data_location for entry in big.graph.initializer),
        )


def require_onnx() -> None:
    """Raises WavConformerError where a package of the extra `onnx` is missing."""
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")):
        raise WavConformerError(MISSING)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's talk of its steps, on screen and in the log; its errors are raised as ever."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
