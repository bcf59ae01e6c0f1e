"""A graph for ONNX Runtime: of every model, of any size, proven; and the engine that runs it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import wavconformer
from model.builders import CLASSES, NORMS, POSITIONS, build, noise, pad
from wavconformer import CheckpointError, WavConformerError
from wavconformer.checkpoint import onnx_export, onnx_graph
from wavconformer.checkpoint.models import MAIN_OUTPUT
from wavconformer.checkpoint.onnx_graph import OnnxModel
from wavconformer.files import ASSETS
from wavconformer.lm.kenlm import MAGIC
from wavconformer.tasks import export as exporting
from wavconformer.tasks.export import export

# Lengths and batch sizes that the graph was not made with.
UNSEEN = ((9_000,), (20_000, 7_000, 12_345), (33_333, 6_000))
# Exporting takes its time for each layer.
SHALLOW = {"num_hidden_layers": 1, "conv_dim": (8, 14), "conv_kernel": (10, 8), "conv_stride": (5, 8)}
# Each class once, each norm and each position scheme more than once.
ONE_OF_EACH = [(name, POSITIONS[number % 3], NORMS[number % 2], (10, 8)) for number, name in enumerate(CLASSES)]
# Windows that don't overlap: the number of frames is then a plain quotient, of which the exporter infers less.
APART = ("ForSequenceClassification", "relative", "layer", (5, 8))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs") / "tiny"
    return export("tiny-en", folder)


def test_a_language_model_that_cannot_be_read_here_is_copied(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kenlm", None)
    build("ForCTC", **SHALLOW, vocab_size=32).save_pretrained(tmp_path / "model")
    for name in ("vocab.json", "tokenizer_config.json", "processor_config.json"):
        shutil.copy(ASSETS / "tiny-en" / name, tmp_path / "model")
    (tmp_path / "model" / "alphabet.json").write_text("{}")
    (tmp_path / "model" / "language_model").mkdir()
    (tmp_path / "model" / "language_model" / "lm.bin").write_bytes(MAGIC)
    export(tmp_path / "model", tmp_path / "graph")
    assert (tmp_path / "graph" / "language_model" / "lm.bin").read_bytes() == MAGIC
    assert (tmp_path / "graph" / "alphabet.json").read_text() == "{}"


@pytest.mark.parametrize(("name", "positions", "norm", "kernel"), [*ONE_OF_EACH, APART])
def test_graphs_of_all_models_agree_at_unseen_sizes(name, positions, norm, kernel, tmp_path):
    shape = {**SHALLOW, "position_embeddings_type": positions, "feat_extract_norm": norm, "conv_kernel": kernel}
    model = build(name, **shape)
    model.save_pretrained(tmp_path / "model")
    made = export(tmp_path / "model", tmp_path / "graph")
    assert made.output == MAIN_OUTPUT[type(model).__name__]
    assert made.difference <= 1e-3
    graph = OnnxModel.from_pretrained(tmp_path / "graph")
    assert graph.architecture == type(model).__name__
    for lengths in UNSEEN:
        values, mask = pad([noise(length, seed=length) for length in lengths])
        with torch.inference_mode():
            expected = model(values, attention_mask=mask)[made.output].numpy()
        found = graph(values.numpy(), mask.numpy())
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-3


def test_the_folder_is_whole(exported):
    names = {path.name for path in exported.folder.iterdir()}
    files = {"model.onnx", "config.json", "processor_config.json", "tokenizer_config.json", "vocab.json"}
    assert names == {*files, "language_model"}
    own = ASSETS / "tiny-en" / "language_model"
    copied = {path.name: path.read_bytes() for path in (exported.folder / "language_model").iterdir()}
    assert copied == {path.name: path.read_bytes() for path in own.iterdir()}
    assert exported.megabytes == pytest.approx((exported.folder / "model.onnx").stat().st_size / 2**20)


def test_the_engine_reads_what_pytorch_reads(exported, transcriber, sample_texts):
    engine = wavconformer.load_model(exported.folder)  # known by what the folder holds
    assert isinstance(engine.model, OnnxModel)
    for path in sample_texts:
        assert engine(path) == transcriber(path)
    assert [*engine.many(sample_texts)] == [*transcriber.many(sample_texts)]


def test_the_engine_needs_no_torch(exported, sample):
    code = (
        "import sys, wavconformer\n"
        f"print(wavconformer.load_model({str(exported.folder)!r}, engine='onnx', threads=1)({str(sample)!r}).text)\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "SET A TIMER FOR TWENTY THREE SECONDS\n", done.stderr


def test_int8_is_smaller_and_reads_the_same(exported, tmp_path, sample):
    made = export("tiny-en", tmp_path / "graph", quantization="int8")
    assert made.megabytes < 0.6 * exported.megabytes
    assert 0 < made.difference < 0.1
    assert {path.name for path in made.folder.iterdir()} == {path.name for path in exported.folder.iterdir()}
    assert wavconformer.load_model(made.folder)(sample).text == "SET A TIMER FOR TWENTY THREE SECONDS"


def test_a_graph_that_differs_is_not_written(tmp_path, monkeypatch):
    build("Model", **SHALLOW).save_pretrained(tmp_path / "model")
    monkeypatch.setattr(exporting, "TOLERANCE", 0.0)
    (tmp_path / "graph").mkdir()
    with pytest.raises(CheckpointError, match=r"differs from PyTorch by .*: it was not written"):
        export(tmp_path / "model", tmp_path / "graph")
    assert not [*(tmp_path / "graph").iterdir()]


@pytest.mark.parametrize("rounded", [False, True])
def test_a_graph_that_gives_no_numbers_is_refused(exported, monkeypatch, rounded):
    run = OnnxModel.__call__
    monkeypatch.setattr(OnnxModel, "__call__", lambda self, *inputs: run(self, *inputs) * np.nan)
    model = wavconformer.Wav2Vec2ConformerForCTC.from_pretrained("tiny-en")
    graph, extractor = OnnxModel.from_pretrained(exported.folder), wavconformer.Wav2Vec2FeatureExtractor()
    with pytest.raises(CheckpointError, match="differs from PyTorch by nan: it was not written"):
        exporting._prove(model, graph, extractor, rounded=rounded)


def test_what_can_not_be_exported(tmp_path):
    with pytest.raises(ValueError, match="only 'onnx' can be written"):
        export("tiny-en", tmp_path, to="tflite")
    with pytest.raises(ValueError, match="only 'onnx' can be written, unrounded or 'int8'"):
        export("tiny-en", tmp_path, quantization="int4")
    model = wavconformer.Wav2Vec2ConformerForCTC.from_pretrained("tiny-en", quantization="int8")
    with pytest.raises(ValueError, match="This model is int8 already"):
        onnx_export.write_graph(model, tmp_path / "graph")


@pytest.mark.parametrize("reader", [onnx_export.require_onnx, onnx_graph._runtime])
def test_missing_packages_are_named(monkeypatch, reader):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(onnx_export.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WavConformerError, match=r"pip install 'wavconformer\[onnx\]'"):
        reader()


def test_broken_and_foreign_graphs(exported, tmp_path):
    import onnx

    for path in filter(Path.is_file, exported.folder.iterdir()):
        (tmp_path / path.name).write_bytes(path.read_bytes()[: 100_000 if path.suffix == ".onnx" else None])
    with pytest.raises(CheckpointError, match="is no graph that ONNX Runtime can run"):
        OnnxModel.from_pretrained(tmp_path)
    entry = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    other = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "other", [entry], [result])
    foreign = onnx.helper.make_model(other, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(foreign, str(tmp_path / "model.onnx"))
    with pytest.raises(CheckpointError, match="takes x, not input_values and attention_mask"):
        OnnxModel.from_pretrained(tmp_path)
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(CheckpointError, match=r"holds no model\.onnx: make one with `wavconformer export"):
        OnnxModel.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"has a config.json but no weights"):
        wavconformer.load_model(tmp_path)


def test_wrong_input_for_a_graph(exported):
    graph = OnnxModel.from_pretrained(exported.folder)
    with pytest.raises(ValueError, match=r"both must be \(batch, samples\)"):
        graph(np.zeros(16_000, np.float32))
    with pytest.raises(ValueError, match=r"attention_mask \(1, 9\)"):
        graph(np.zeros((1, 16_000), np.float32), np.ones((1, 9), np.int64))
    with pytest.raises(WavConformerError, match="ONNX Runtime could not run the graph"):
        graph(np.zeros((1, 10), np.float32))


@pytest.mark.parametrize(
    "arguments", [{"device": "meta"}, {"quantization": "int8"}, {"dtype": "float16"}, {"target_lang": "eng"}]
)
def test_what_a_graph_is_no_longer_asked(exported, arguments):
    with pytest.raises(ValueError, match="runs a graph as it was written"):
        wavconformer.load_model(exported.folder, engine="onnx", **arguments)


def test_engines(exported, tmp_path):
    with pytest.raises(ValueError, match="engine is 'tensorrt', but must be 'torch' or 'onnx'"):
        wavconformer.load_model(engine="tensorrt")
    with pytest.raises(CheckpointError, match=r"holds no model\.onnx"):
        wavconformer.load_model(engine="onnx")
    shutil.copytree(exported.folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["Wav2Vec2ConformerModel"]}))
    with pytest.raises(CheckpointError, match="is a graph of a Wav2Vec2ConformerModel: it can't transcribe"):
        wavconformer.load_model(tmp_path)
