"""`wavconformer convert`, whole: a small fairseq checkpoint in, a folder that both packages read out."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from checkpoint.fairseq_files import DICTIONARY, VOCABULARY, backbone_settings, save
from wavconformer import Wav2Vec2ConformerForCTC, Wav2Vec2ConformerForPreTraining, Wav2Vec2Processor, cli
from wavconformer.audio import load_audio
from wavconformer.tasks.convert import WRITTEN

Run = Callable[..., tuple[int, str, str]]

MODEL_FILES = {"config.json", "model.safetensors"}
CTC_FILES = MODEL_FILES | {"processor_config.json", "tokenizer_config.json", "vocab.json"}
PRETRAINING_FILES = MODEL_FILES | {"preprocessor_config.json"}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process: exit code, standard output, and standard error on one line."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["wavconformer", *map(str, arguments)])
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # the command sets its own
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, " ".join(captured.err.split())

    return call


@pytest.fixture
def convert(run: Run) -> Run:
    """Runs `wavconformer convert`."""
    return partial(run, "convert")


@pytest.fixture
def waveform() -> torch.Tensor:
    """Noise (1, S)."""
    return torch.randn(1, 4000, generator=torch.Generator().manual_seed(1))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def outputs(model: torch.nn.Module, waveform: torch.Tensor) -> Any:
    with torch.inference_mode():
        return model.eval()(waveform)


@pytest.mark.parametrize("pos_enc_type", ["rel_pos", "rope"])
@pytest.mark.parametrize("mode", ["default", "layer_norm"])
def test_a_ctc_model(tmp_path: Path, convert: Run, waveform: torch.Tensor, pos_enc_type: str, mode: str) -> None:
    out = tmp_path / "new" / "out"
    source = save(tmp_path, "ctc", pos_enc_type, mode=mode)
    assert convert(source, out) == (0, f"Wav2Vec2ConformerForCTC written to {out}\n", "")
    assert names(out) == CTC_FILES
    assert json.loads((out / "vocab.json").read_text()) == VOCABULARY

    ours, info = Wav2Vec2ConformerForCTC.from_pretrained(out, output_loading_info=True)
    theirs, their_info = transformers.Wav2Vec2ConformerForCTC.from_pretrained(out, output_loading_info=True)
    for loaded in (info, their_info):
        assert not any(loaded.values()), loaded
    logits = outputs(theirs, waveform).logits
    assert (logits.std(dim=1) > 0.1).all()  # no constant, which wrong weights could give as well
    torch.testing.assert_close(outputs(ours, waveform).logits, logits, rtol=1e-4, atol=1e-4)
    source_head = torch.load(source, weights_only=False)["model"]["w2v_encoder.proj.weight"]
    assert ours.lm_head.weight.equal(source_head)

    processor, reference = (cls.from_pretrained(out) for cls in (Wav2Vec2Processor, transformers.Wav2Vec2Processor))
    audio = waveform[0].numpy() * 3 + 1
    features = [p(audio, sampling_rate=16_000, return_tensors="np") for p in (processor, reference)]
    np.testing.assert_allclose(features[0].input_values, features[1].input_values, atol=1e-6)
    assert abs(features[0].input_values.mean()) < 1e-5  # normalised, as the settings say
    ids = logits.argmax(-1)
    assert processor.batch_decode(ids) == reference.batch_decode(ids)
    assert processor.tokenizer("EAT OAT").input_ids == [5, 7, 6, 4, 8, 7, 6]


def test_a_pretrained_model(tmp_path: Path, convert: Run, waveform: torch.Tensor) -> None:
    out = tmp_path / "out"
    code, said, complaint = convert(save(tmp_path, "pretraining", "rope"), out)
    assert (code, said, complaint) == (0, f"Wav2Vec2ConformerForPreTraining written to {out}\n", "")
    assert names(out) == PRETRAINING_FILES
    ours = outputs(Wav2Vec2ConformerForPreTraining.from_pretrained(out), waveform)
    theirs = outputs(transformers.Wav2Vec2ConformerForPreTraining.from_pretrained(out), waveform)
    torch.testing.assert_close(ours.projected_states, theirs.projected_states, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.projected_quantized_states, theirs.projected_quantized_states, rtol=1e-4, atol=1e-4)


def test_the_folder_transcribes(tmp_path: Path, run: Run, sample: Path) -> None:
    def talk(content: dict[str, Any]) -> None:
        content["model"]["w2v_encoder.proj.bias"][:4] -= 1000  # letters and spaces, never a special token

    out = tmp_path / "out"
    assert run("convert", save(tmp_path, "ctc", "rope", change=talk), out)[0] == 0
    code, said, complaint = run("transcribe", sample, "--model", out, "--device", "cpu")
    assert (code, complaint) == (0, "")
    model = transformers.Wav2Vec2ConformerForCTC.from_pretrained(out)
    processor = transformers.Wav2Vec2Processor.from_pretrained(out)
    inputs = processor(load_audio(sample), sampling_rate=16_000, return_tensors="pt").input_values
    (text,) = processor.batch_decode(outputs(model, inputs).logits.argmax(-1))
    assert len(text) > 100 and len(set(text)) > 3
    assert said == text + "\n"


@pytest.mark.parametrize(("rate", "normalize"), [(8_000, False), (16_000, True)])
def test_the_processor_has_the_settings_of_the_task(tmp_path: Path, convert: Run, rate: int, normalize: bool) -> None:
    def change(content: dict[str, Any]) -> None:
        content["cfg"]["task"] |= {"sample_rate": rate, "normalize": normalize}

    out = tmp_path / "out"
    assert convert(save(tmp_path, change=change), out)[0] == 0
    extractor = Wav2Vec2Processor.from_pretrained(out).feature_extractor
    assert (extractor.sampling_rate, extractor.do_normalize) == (rate, normalize)
    assert extractor.return_attention_mask is True


def test_a_dictionary_elsewhere(tmp_path: Path, convert: Run) -> None:
    source, out = save(tmp_path, dictionary=None), tmp_path / "out"
    code, said, complaint = convert(source, out)
    assert (code, said) == (1, "")
    assert "no dict.ltr.txt beside it" in complaint
    assert not out.exists()
    (tmp_path / "letters.txt").write_text(DICTIONARY)
    assert convert(source, out, "--dict", tmp_path / "letters.txt")[0] == 0
    assert json.loads((out / "vocab.json").read_text()) == VOCABULARY


def test_settings_for_a_file_without_any(tmp_path: Path, convert: Run) -> None:
    out = tmp_path / "out"
    source = save(tmp_path, change=lambda content: content.update(cfg=None))
    code, said, complaint = convert(source, out)
    assert (code, said) == (1, "")
    assert "can't tell conv_feature_layers, layer_norm_first, normalize" in complaint
    assert "--set name=value" in complaint
    layers = backbone_settings("rel_pos")["conv_feature_layers"]
    given = (f"conv_feature_layers={layers}", "layer_norm_first=true", "normalize=true", "mask_prob=0.3")
    code, _, complaint = convert(source, out, *(part for setting in given for part in ("--set", setting)))
    assert (code, complaint) == (0, "")
    config = json.loads((out / "config.json").read_text())
    assert (config["conv_stride"], config["mask_time_prob"]) == ([5, 2, 2], 0.3)
    assert Wav2Vec2Processor.from_pretrained(out).feature_extractor.do_normalize is True


def test_what_is_lost_is_said(tmp_path: Path, convert: Run) -> None:
    extra = "w2v_encoder.extra.bias"
    source = save(tmp_path, change=lambda content: content["model"].update({extra: torch.ones(1)}))
    code, said, complaint = convert(source, tmp_path / "out", "--set", "mask_selection=poisson")
    assert code == 0
    assert said.startswith("Wav2Vec2ConformerForCTC written")
    assert complaint == (f"Without a place in it: {extra} Without a word in its config.json: mask_selection=poisson")


@pytest.mark.parametrize(
    ("setting", "code", "said"),
    [
        ("normalize", 2, "not NAME=VALUE"),
        ("=true", 2, "not NAME=VALUE"),
        ("normalize=True", 1, "the setting normalize is 'True', not a bool"),
        ("encoder_layers=3", 1, "num_hidden_layers 3 and 2"),
        ("layer_norm_first=false", 1, "layer_norm_first=False"),
    ],
)
def test_a_setting_that_does_not_do(tmp_path: Path, convert: Run, setting: str, code: int, said: str) -> None:
    found, printed, complaint = convert(save(tmp_path), tmp_path / "out", "--set", setting)
    assert (found, printed) == (code, "")
    assert said in complaint
    assert not (tmp_path / "out").exists()


def test_the_folder_of_the_source_itself(tmp_path: Path, convert: Run) -> None:
    source = save(tmp_path)
    before = source.read_bytes()
    (tmp_path / "pytorch_model.bin").write_bytes(b"of an earlier save")
    assert convert(source, tmp_path)[0] == 0
    assert source.read_bytes() == before
    written = names(tmp_path) - {"checkpoint.pt", "dict.ltr.txt"}
    assert written == CTC_FILES
    assert {Path(name).suffix for name in written} <= set(WRITTEN)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model-00001-of-00002.bin", "config.json", "vocab.json"])
@pytest.mark.parametrize("way", ["in the folder", "in a linked folder", "linked from the folder", "linked to it"])
def test_the_source_is_never_written_over(tmp_path: Path, convert: Run, name: str, way: str) -> None:
    made, out, letters = save(tmp_path, dictionary=None), tmp_path / "out", tmp_path / "letters.txt"
    letters.write_text(DICTIONARY)
    out.mkdir()
    before = made.read_bytes()
    source, target = out / name, out
    if way == "linked from the folder":
        source.symlink_to(made)
        source = made
    else:
        made.rename(source)
    if way == "in a linked folder":
        target = tmp_path / "link"
        target.symlink_to(out)
    if way == "linked to it":
        made.symlink_to(source)
        source = made
    code, said, complaint = convert(source, target, "--dict", letters)
    assert (code, said) == (1, "")
    assert "where it could be lost: give another folder" in complaint
    assert source.read_bytes() == before
    assert names(out) == {name}


def test_the_dictionary_is_never_written_over(tmp_path: Path, convert: Run) -> None:
    source, out = save(tmp_path, dictionary=None), tmp_path / "out"
    out.mkdir()
    letters = out / "vocab.json"
    letters.write_text(DICTIONARY)
    code, _, complaint = convert(source, out, "--dict", letters)
    assert code == 1
    assert str(letters) in complaint
    assert letters.read_text() == DICTIONARY
    assert names(out) == {"vocab.json"}


def test_the_source_as_the_folder(tmp_path: Path, convert: Run) -> None:
    source = save(tmp_path)
    before = source.read_bytes()
    code, _, complaint = convert(source, source)
    assert code == 1
    assert "is a file: give a folder" in complaint
    assert source.read_bytes() == before
