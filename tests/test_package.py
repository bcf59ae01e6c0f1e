"""The package's face: light to import, every public name where it says, the Auto classes."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import wavconformer
from wavconformer import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForAudioFrameClassification,
    AutoModelForAudioXVector,
    AutoModelForCTC,
    AutoModelForPreTraining,
    AutoProcessor,
    AutoTokenizer,
    CheckpointError,
    ConfigError,
    Wav2Vec2ConformerConfig,
)
from wavconformer.files import ASSETS

STUB = Path(wavconformer.__file__).with_suffix(".pyi")
# What a one-word change of an import of `transformers` must find.
HUGGING_FACE_NAMES = [
    "Wav2Vec2ConformerConfig",
    "Wav2Vec2ConformerModel",
    "Wav2Vec2ConformerPreTrainedModel",
    "Wav2Vec2ConformerForCTC",
    "Wav2Vec2ConformerForSequenceClassification",
    "Wav2Vec2ConformerForAudioFrameClassification",
    "Wav2Vec2ConformerForXVector",
    "Wav2Vec2ConformerForPreTraining",
    "Wav2Vec2FeatureExtractor",
    "Wav2Vec2CTCTokenizer",
    "Wav2Vec2Processor",
    "AutoConfig",
    "AutoFeatureExtractor",
    "AutoTokenizer",
    "AutoProcessor",
    "AutoModel",
    "AutoModelForCTC",
    "AutoModelForPreTraining",
    "AutoModelForAudioClassification",
    "AutoModelForAudioFrameClassification",
    "AutoModelForAudioXVector",
]
MODEL_OF_AUTO: dict[Any, str] = {
    AutoModel: "Model",
    AutoModelForCTC: "ForCTC",
    AutoModelForPreTraining: "ForPreTraining",
    AutoModelForAudioClassification: "ForSequenceClassification",
    AutoModelForAudioFrameClassification: "ForAudioFrameClassification",
    AutoModelForAudioXVector: "ForXVector",
}


def run(program: str) -> str:
    """What a fresh interpreter prints."""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


# --- imports


@pytest.mark.parametrize(
    "module",
    [
        "wavconformer",
        "wavconformer.config",
        "wavconformer.files",
        "wavconformer.errors",
        "wavconformer.processing",
        "wavconformer.audio",
        "wavconformer.cli",
    ],
)
def test_importing_does_not_import_torch(module):
    assert run(f"import sys, {module}; print({{'torch', 'transformers'}} & set(sys.modules))") == "set()"


def test_classes_without_weights_are_made_without_torch():
    program = """
import sys, wavconformer
wavconformer.Wav2Vec2ConformerConfig(hidden_size=48).to_json_string()
wavconformer.Wav2Vec2FeatureExtractor()([0.0, 1.0] * 200, sampling_rate=16_000)
wavconformer.Wav2Vec2CTCTokenizer.from_pretrained("tiny-en")("HELLO")
wavconformer.ConfigError, dir(wavconformer)
print("torch" in sys.modules)
"""
    assert run(program) == "False"


def test_a_model_brings_torch_and_nothing_of_the_oracle():
    program = "import sys; from wavconformer import Wav2Vec2ConformerForCTC; print('transformers' in sys.modules)"
    assert run(f"{program}; print('torch' in sys.modules)").split() == ["False", "True"]


# --- names


def stub_names() -> dict[str, tuple[str, str]]:
    """Of each name that the stub imports, its module and its name there."""
    return {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in ast.parse(STUB.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("name", stub_names())
def test_every_name_of_the_stub_resolves(name):
    module, attribute = stub_names()[name]
    assert getattr(wavconformer, name) is getattr(importlib.import_module(module), attribute)
    assert name in dir(wavconformer)


def test_the_hugging_face_names_are_all_there():
    assert set(HUGGING_FACE_NAMES) <= stub_names().keys()


def test_the_pretraining_draws_go_by_both_names():
    from wavconformer import _compute_mask_indices, _sample_negative_indices

    assert _compute_mask_indices is wavconformer.compute_mask_indices
    assert _sample_negative_indices is wavconformer.sample_negative_indices


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'wavconformer' has no attribute 'Wav2Vec2Model'$"):
        _ = wavconformer.Wav2Vec2Model
    with pytest.raises(ImportError, match="Wav2Vec2Model"):
        from wavconformer import Wav2Vec2Model  # noqa: F401


def test_the_errors_are_one_family():
    for name in ("AudioError", "CheckpointError", "ConfigError", "DataError"):
        assert issubclass(getattr(wavconformer, name), wavconformer.WavConformerError)
    assert issubclass(ConfigError, ValueError)


def test_the_version_is_that_of_the_project_file():
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{wavconformer.__version__}"\n' in project


def test_the_version_is_that_of_the_installed_package():
    try:
        installed = importlib.metadata.version("wavconformer")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("runs from the source tree")
    assert wavconformer.__version__ == installed


# --- Auto classes


@pytest.fixture(scope="module")
def tiny() -> Wav2Vec2ConformerConfig:
    return AutoConfig.from_pretrained("tiny-en", num_hidden_layers=1)


@pytest.mark.parametrize("auto", MODEL_OF_AUTO, ids=lambda auto: auto.__name__)
def test_an_auto_class_makes_reads_and_names_its_model(auto, tiny, tmp_path):
    model_class = getattr(wavconformer, f"Wav2Vec2Conformer{MODEL_OF_AUTO[auto]}")
    model = auto.from_config(tiny)
    assert type(model) is model_class
    model.save_pretrained(tmp_path)
    read, info = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert type(read) is model_class
    assert not any(info.values())
    with pytest.raises(TypeError, match=rf"{auto.__name__} is not made directly: use {auto.__name__}\.from_pretrained"):
        auto()


def test_auto_configuration_features_tokens():
    assert type(AutoConfig.from_pretrained("tiny-en")) is Wav2Vec2ConformerConfig
    assert type(AutoFeatureExtractor.from_pretrained("tiny-en")) is wavconformer.Wav2Vec2FeatureExtractor
    assert type(AutoTokenizer.from_pretrained("tiny-en")) is wavconformer.Wav2Vec2CTCTokenizer


def test_auto_processor_is_as_whole_as_the_checkpoint(tmp_path):
    processor = AutoProcessor.from_pretrained("tiny-en")
    assert type(processor) is wavconformer.Wav2Vec2Processor
    processor.feature_extractor.save_pretrained(tmp_path)
    assert type(AutoProcessor.from_pretrained(tmp_path)) is wavconformer.Wav2Vec2FeatureExtractor
    processor.save_pretrained(tmp_path / "deep" / "er")
    read = AutoProcessor.from_pretrained(tmp_path / "deep", subfolder="er")
    assert type(read) is wavconformer.Wav2Vec2Processor
    with pytest.raises(CheckpointError, match="There is no folder"):
        AutoProcessor.from_pretrained(tmp_path / "none")


def test_another_familys_checkpoint_is_refused_by_every_auto_class(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2"}')
    for auto in (AutoConfig, *MODEL_OF_AUTO):
        with pytest.raises(ConfigError, match="'wav2vec2' model, not of a 'wav2vec2-conformer'"):
            auto.from_pretrained(tmp_path)


def test_what_ships_is_whole():
    assert {path.name for path in (ASSETS / "tiny-en").iterdir()} >= {
        "config.json",
        "model.safetensors",
        "vocab.json",
        "tokenizer_config.json",
        "processor_config.json",
    }
