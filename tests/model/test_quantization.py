"""int8: near to full precision, the same in any company, refused where it can't be."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch
from torch.nn import functional as F

import wavconformer
from wavconformer import CheckpointError, Wav2Vec2ConformerForCTC
from wavconformer.model import quantization
from wavconformer.model.layers import Linear, StridedConv
from wavconformer.model.quantization import Int8Layer, quantize

from .builders import CLASSES, build, noise, pad, task_arguments

MAIN = {"Model": "last_hidden_state", "ForXVector": "embeddings", "ForPreTraining": "projected_states"}


@pytest.fixture(autouse=True)
def _small_layers_too(monkeypatch):
    monkeypatch.setattr(quantization, "LEAST_WEIGHTS", 100)


@pytest.fixture(scope="module")
def rounded_tiny():
    return Wav2Vec2ConformerForCTC.from_pretrained("tiny-en", quantization="int8")


def layers(model):
    return [module for module in model.modules() if isinstance(module, Int8Layer)]


def rounded(layer):
    result = Int8Layer.shaped_like(layer)
    result.take(layer)
    return result.eval()


@torch.no_grad()
@pytest.mark.parametrize("kernel", [None, 1, 2, 3])
def test_a_layer_is_near_what_it_was(kernel):
    layer = Linear(64, 96) if kernel is None else StridedConv(64, 96, kernel, stride=2)
    for parameter in layer.parameters():
        parameter.copy_(noise(*parameter.shape))
    x = noise(2, 41, 64) * torch.rand(2, 41, 1) * 10
    expected, found = layer(x), rounded(layer)(x)
    assert found.shape == expected.shape
    error = (found - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert 1e-4 < error < (0.015 if quantization.has_vnni() else 0.03)


@torch.no_grad()
def test_a_row_is_rounded_by_itself():
    """Beside a row a thousand times as loud, and one of silence, it gives what it gives alone."""
    layer = Linear(64, 32)
    for parameter in layer.parameters():
        parameter.copy_(noise(*parameter.shape))
    small, layer = noise(1, 64), rounded(layer)
    batch = layer(torch.cat([1000 * noise(1, 64, seed=1), small, torch.zeros(1, 64)]))
    torch.testing.assert_close(batch[1:2], layer(small), atol=0, rtol=0)
    torch.testing.assert_close(batch[2], layer.bias)


@torch.no_grad()
def test_an_output_without_weights_stays_at_its_bias():
    layer = Linear(16, 8)
    layer.weight.zero_()
    layer.bias.copy_(torch.arange(8.0))
    torch.testing.assert_close(rounded(layer)(noise(3, 16)), torch.arange(8.0).expand(3, 8))


@torch.no_grad()
@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("name", CLASSES)
def test_models_run_and_padding_leaves_no_trace(name, norm):
    model = build(name, feat_extract_norm=norm)
    heads = {key for key, _ in model.named_parameters() if key.startswith(("lm_head", "classifier", "project_"))}
    quantize(model)
    assert len(layers(model)) > 20
    assert all(model.get_parameter(key).is_floating_point() for key in heads)
    short, long = noise(6_000, seed=1), noise(9_000, seed=2)
    values, mask = pad([short, long])
    batch = model(values, attention_mask=mask)[MAIN.get(name, "logits")][0]
    alone = model(short[None])[MAIN.get(name, "logits")][0]
    if alone.ndim == 2:
        batch = batch[: len(alone)]
    torch.testing.assert_close(batch, alone, atol=1e-4, rtol=1e-4)


def test_the_adapter_of_convolutions_is_rounded_and_that_of_languages_is_not():
    model = build("ForCTC", add_adapter=True, adapter_attn_dim=16)
    quantize(model)
    names = {name for name, module in model.named_modules() if isinstance(module, Int8Layer)}
    assert "wav2vec2_conformer.adapter.layers.0.conv" in names
    assert not any("adapter_layer" in name for name in names)
    assert isinstance(model.lm_head, Linear)


@torch.no_grad()
def test_the_shipped_model_reads_as_before(rounded_tiny, monkeypatch):
    model = Wav2Vec2ConformerForCTC.from_pretrained("tiny-en")
    audio = wavconformer.load_audio(wavconformer.files.samples()[0])
    inputs = wavconformer.AutoProcessor.from_pretrained("tiny-en")(audio, sampling_rate=16_000, return_tensors="pt")
    full, small = (m(inputs.input_values).logits for m in (model, rounded_tiny))
    assert (full.argmax(-1) == small.argmax(-1)).float().mean() > 0.98
    assert F.cosine_similarity(full.flatten(), small.flatten(), dim=0) > 0.999
    assert rounded_tiny.get_memory_footprint() < 0.3 * model.get_memory_footprint()
    assert rounded_tiny.num_parameters() == model.num_parameters()


@torch.no_grad()
def test_a_folder_of_rounded_weights(rounded_tiny, tmp_path):
    rounded_tiny.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.int8.safetensors"]
    for arguments in ({}, {"quantization": "int8"}):
        again = Wav2Vec2ConformerForCTC.from_pretrained(tmp_path, **arguments)
        assert len(layers(again)) == len(layers(rounded_tiny))
        assert torch.equal(again(noise(1, 9_000)).logits, rounded_tiny(noise(1, 9_000)).logits)
    # Saving full precision over it leaves one checkpoint, not two.
    Wav2Vec2ConformerForCTC.from_pretrained("tiny-en").save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert not layers(Wav2Vec2ConformerForCTC.from_pretrained(tmp_path))


def test_rounded_weights_in_shards(rounded_tiny, tmp_path):
    rounded_tiny.save_pretrained(tmp_path, max_shard_size="3MB")
    assert (tmp_path / "model.int8-00001-of-00003.safetensors").exists()
    again = Wav2Vec2ConformerForCTC.from_pretrained(tmp_path)
    assert torch.equal(again.state_dict()[FIRST], rounded_tiny.state_dict()[FIRST])


FIRST = "wav2vec2_conformer.encoder.layers.0.ffn1.intermediate_dense.weight"


def test_transformers_does_not_take_it_for_plain_weights(rounded_tiny, tmp_path):
    import transformers

    rounded_tiny.save_pretrained(tmp_path)
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        transformers.Wav2Vec2ConformerForCTC.from_pretrained(tmp_path)


@torch.no_grad()
def test_copies_and_changed_weights(rounded_tiny):
    model = copy.deepcopy(rounded_tiny)
    expected = rounded_tiny(noise(1, 6_000)).logits
    for other in (model, pickle.loads(pickle.dumps(rounded_tiny))):  # noqa: S301
        assert torch.equal(other(noise(1, 6_000)).logits, expected)
    for layer in layers(model):
        layer.weight.zero_()
    assert not torch.equal(model(noise(1, 6_000)).logits, expected)


def test_it_runs_where_it_was_loaded_for_inference_alone(rounded_tiny):
    with torch.inference_mode():
        model = Wav2Vec2ConformerForCTC.from_pretrained("tiny-en", quantization="int8")
        found, expected = (m(noise(1, 6_000)).logits.flatten() for m in (model, rounded_tiny))
    assert F.cosine_similarity(found, expected, dim=0) > 0.999


@torch.no_grad()
def test_other_floating_types_around_it(rounded_tiny, tmp_path):
    expected = rounded_tiny(noise(1, 6_000)).logits
    with torch.autocast("cpu", torch.bfloat16):
        mixed = rounded_tiny(noise(1, 6_000)).logits
    for logits in (mixed, copy.deepcopy(rounded_tiny).bfloat16()(noise(1, 6_000)).logits):
        assert F.cosine_similarity(logits.float().flatten(), expected.flatten(), dim=0) > 0.99
    Wav2Vec2ConformerForCTC.from_pretrained("tiny-en", dtype=torch.float16).save_pretrained(tmp_path)
    model = Wav2Vec2ConformerForCTC.from_pretrained(tmp_path, quantization="int8", dtype="auto")
    assert model.dtype is torch.float32
    assert model(noise(1, 6_000)).logits.isfinite().all()


def test_the_weights_decide_what_is_int8_not_the_configuration(rounded_tiny, tmp_path):
    rounded_tiny.save_pretrained(tmp_path / "small")
    config = wavconformer.Wav2Vec2ConformerConfig.from_pretrained(tmp_path / "small")
    model = Wav2Vec2ConformerForCTC.from_pretrained("tiny-en", config=config)
    assert not layers(model)
    model.save_pretrained(tmp_path / "full")
    assert (tmp_path / "full" / "model.safetensors").exists()
    assert "quantization_config" not in json.loads((tmp_path / "full" / "config.json").read_text())
    assert layers(Wav2Vec2ConformerForCTC.from_pretrained("tiny-en", config=config, quantization="int8"))


def test_check_takes_it_for_whole(rounded_tiny, tmp_path):
    from wavconformer.tasks.check import check

    rounded_tiny.save_pretrained(tmp_path)
    wavconformer.AutoProcessor.from_pretrained("tiny-en").save_pretrained(tmp_path)
    findings = {finding.name: finding.passed for finding in check(tmp_path)}
    assert findings["padding"]
    assert findings["transformers"] is None
    assert False not in findings.values()


def test_training_is_refused(rounded_tiny):
    model = copy.deepcopy(rounded_tiny).train()
    arguments = task_arguments("ForCTC", model, 1, 6_000)
    with pytest.raises(ValueError, match="can't be trained: load the checkpoint without quantization"):
        model(noise(1, 6_000), **arguments)
    with pytest.raises(ValueError, match="can't be trained"):
        rounded_tiny(noise(1, 6_000).requires_grad_())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantization": "int4"}, "quantization is 'int4', but must be 'int8' or None"),
        ({"quantization": "int8", "device": "meta"}, "int8 runs on a CPU, not on 'meta'"),
        ({"quantization": "int8", "dtype": torch.float16}, "dtype is torch.float16"),
    ],
)
def test_what_can_not_be_asked_for(arguments, message):
    with pytest.raises(ValueError, match=message):
        Wav2Vec2ConformerForCTC.from_pretrained("tiny-en", **arguments)


def test_another_processor_is_told(monkeypatch):
    monkeypatch.setattr(type(torch.backends.quantized), "supported_engines", ["qnnpack"])
    with pytest.raises(ValueError, match="has no fbgemm kernels, as on processors that aren't x86"):
        Wav2Vec2ConformerForCTC.from_pretrained("tiny-en", quantization="int8")


def test_weights_rounded_by_another_are_refused(tmp_path):
    Wav2Vec2ConformerForCTC.from_pretrained("tiny-en").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(CheckpointError, match="quantized by 'gptq', which can't be read here"):
        Wav2Vec2ConformerForCTC.from_pretrained(tmp_path)


@torch.no_grad()
def test_seven_bits_where_eight_would_overflow(monkeypatch):
    layer = Linear(64, 32)
    for parameter in layer.parameters():
        parameter.copy_(noise(*parameter.shape))
    x, layer8 = noise(50, 64), rounded(layer)
    fine = (layer8(x) - layer(x)).square().mean()
    monkeypatch.setattr(quantization, "_levels", lambda: 63)
    coarse = (layer8(x) - layer(x)).square().mean()
    assert fine <= coarse < 0.001 * layer(x).square().mean()
