"""Language adapters: saved, loaded, exchanged, and refused where they don't fit."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.builders import build, noise
from wavconformer import CheckpointError, ConfigError, Wav2Vec2ConformerForCTC, Wav2Vec2ConformerModel

BOTTLENECK = 4
PREFIX = "wav2vec2_conformer."
LAYER_1 = f"{PREFIX}encoder.layers.1.adapter_layer"


def build_with_adapters(seed: int = 0, **overrides: Any) -> Any:
    return build("ForCTC", seed=seed, adapter_attn_dim=BOTTLENECK, **overrides)


def language_part(model: Any) -> dict[str, Tensor]:
    """The weights that change with the language."""
    return {
        name: tensor.clone()
        for name, tensor in model.state_dict().items()
        if ".adapter_layer." in name or name.startswith("lm_head.")
    }


def common_part(model: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items() if name not in language_part(model)}


def without_adapters(model: Any) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in model.state_dict().items() if ".adapter_layer." not in name}


def assert_same(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert state.keys() == expected.keys()
    for name in expected:
        assert torch.equal(state[name], expected[name]), name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint in English, with adapters for French (a larger vocabulary) and German."""
    build_with_adapters().save_pretrained(tmp_path)
    build_with_adapters(seed=1, vocab_size=14).save_adapter(tmp_path, "fra")
    build_with_adapters(seed=2).save_adapter(tmp_path, "deu")
    return tmp_path


# --- files


def test_an_adapters_file_holds_adapters_and_head(tmp_path):
    model = build_with_adapters()
    path = model.save_adapter(tmp_path / "deep", "fra")
    assert path == tmp_path / "deep" / "adapter.fra.safetensors"
    assert_same(load_file(path), language_part(model))
    names = {
        f"{PREFIX}encoder.layers.{layer}.adapter_layer.{module}.{kind}"
        for layer in range(2)
        for module in ("norm", "linear_1", "linear_2")
        for kind in ("weight", "bias")
    }
    assert load_file(path).keys() == {*names, "lm_head.weight", "lm_head.bias"}
    assert load_file(path)[f"{PREFIX}encoder.layers.0.adapter_layer.linear_1.weight"].shape == (BOTTLENECK, 24)


def test_the_models_own_language_is_the_default_name(folder):
    model = Wav2Vec2ConformerForCTC.from_pretrained(folder)
    assert model.save_adapter(folder / "a").name == "adapter.eng.safetensors"
    model.load_adapter("fra")
    assert model.save_adapter(folder / "a").name == "adapter.fra.safetensors"


def test_a_checkpoint_with_adapters_round_trips(folder):
    model = build_with_adapters()
    read, info = Wav2Vec2ConformerForCTC.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    assert_same(read.state_dict(), model.state_dict())
    assert read.target_lang == model.target_lang == "eng"
    with torch.no_grad():
        assert torch.equal(read(noise(1, 8_000)).logits, model(noise(1, 8_000)).logits)


# --- loading


def test_another_language_at_loading(folder):
    model = Wav2Vec2ConformerForCTC.from_pretrained(folder, target_lang="fra")
    assert model.target_lang == "fra"
    assert_same(language_part(model), load_file(folder / "adapter.fra.safetensors"))
    assert_same(common_part(model), common_part(build_with_adapters()))
    assert model.config.vocab_size == model.lm_head.out_features == 14
    with torch.no_grad():
        output = model(noise(1, 8_000), labels=torch.tensor([[13, 1]]))
    assert output.logits.shape[-1] == 14
    assert output.loss.isfinite()


def test_another_language_later_and_back(folder):
    model = Wav2Vec2ConformerForCTC.from_pretrained(folder)
    english = language_part(model)
    model.save_adapter(folder)
    model.load_adapter("fra")
    assert model.config.vocab_size == 14
    model.load_adapter("deu")
    assert (model.target_lang, model.config.vocab_size) == ("deu", 11)
    assert_same(language_part(model), load_file(folder / "adapter.deu.safetensors"))
    model.load_adapter("eng")
    assert_same(language_part(model), english)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_default_language_is_the_checkpoints_own_unless_it_has_a_file(folder):
    english = language_part(build_with_adapters())
    assert_same(language_part(Wav2Vec2ConformerForCTC.from_pretrained(folder, target_lang="eng")), english)
    build_with_adapters(seed=3).save_adapter(folder, "eng")
    asked = Wav2Vec2ConformerForCTC.from_pretrained(folder, target_lang="eng")
    assert_same(language_part(asked), load_file(folder / "adapter.eng.safetensors"))
    # Not asked for, the file leaves alone what the checkpoint itself holds.
    assert_same(language_part(Wav2Vec2ConformerForCTC.from_pretrained(folder)), english)


def test_a_language_that_is_set_is_loaded_again_only_if_forced(folder):
    model = Wav2Vec2ConformerForCTC.from_pretrained(folder, target_lang="deu")
    with torch.no_grad():
        model.lm_head.bias.fill_(7.0)
    model.load_adapter("deu", force_load=False)
    assert (model.lm_head.bias == 7.0).all()
    model.load_adapter("deu")
    assert not (model.lm_head.bias == 7.0).any()
    model.load_adapter("fra", force_load=False)
    assert model.target_lang == "fra"


def test_a_bin_file(folder):
    expected = load_file(folder / "adapter.fra.safetensors")
    torch.save(expected, folder / "adapter.fra.bin")
    model = Wav2Vec2ConformerForCTC.from_pretrained(folder)
    model.load_adapter("fra", use_safetensors=False)
    assert_same(language_part(model), expected)
    (folder / "adapter.fra.safetensors").unlink()
    assert_same(language_part(Wav2Vec2ConformerForCTC.from_pretrained(folder, target_lang="fra")), expected)
    with pytest.raises(CheckpointError, match="has no adapter for the language 'fra'"):
        model.load_adapter("fra", use_safetensors=True)


def test_names_without_the_prefix(folder):
    expected = load_file(folder / "adapter.deu.safetensors")
    save_file(
        {name.removeprefix(PREFIX): tensor for name, tensor in expected.items()}, folder / "adapter.deu.safetensors"
    )
    model = Wav2Vec2ConformerForCTC.from_pretrained(folder, target_lang="deu")
    assert_same(language_part(model), expected)


def test_weights_take_the_models_type(folder):
    model = Wav2Vec2ConformerForCTC.from_pretrained(folder, target_lang="fra", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    expected = load_file(folder / "adapter.fra.safetensors")
    assert torch.equal(model.lm_head.weight, expected["lm_head.weight"].bfloat16())


def test_another_place(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "fr"
    other.mkdir()
    shutil.move(folder / "adapter.fra.safetensors", other)
    (folder / "sub").mkdir()
    shutil.copy(other / "adapter.fra.safetensors", folder / "sub")
    model = Wav2Vec2ConformerForCTC.from_pretrained(folder)
    with pytest.raises(CheckpointError, match="no adapter for the language 'fra'"):
        model.load_adapter("fra")
    model.load_adapter("fra", subfolder="sub")
    assert model.target_lang == "fra"


def test_adapters_from_the_hubs_cache(folder, tmp_path_factory):
    cache = tmp_path_factory.mktemp("hub")
    repository = cache / "models--owner--speech"
    shutil.copytree(folder, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    place = {"cache_dir": cache, "local_files_only": True}
    model = Wav2Vec2ConformerForCTC.from_pretrained("owner/speech", target_lang="fra", **place)
    assert_same(language_part(model), load_file(folder / "adapter.fra.safetensors"))
    model.load_adapter("deu")  # remembers where it came from
    assert model.target_lang == "deu"
    with pytest.raises(CheckpointError, match="The repository 'owner/speech' has no adapter for the language 'xho'"):
        model.load_adapter("xho")


# --- new adapters


def test_a_checkpoint_without_adapters_takes_new_ones(tmp_path):
    plain = build("ForCTC")
    plain.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"start from random values: .*adapter_layer"):
        model = Wav2Vec2ConformerForCTC.from_pretrained(tmp_path, adapter_attn_dim=BOTTLENECK)
    assert model.target_lang == "eng"
    assert_same(without_adapters(model), plain.state_dict())


@pytest.mark.parametrize("language", ["eng", "fra"])
def test_new_adapters_that_come_from_a_file_need_no_training(tmp_path, language):
    """So nobody is told that they start from random values."""
    build("ForCTC").save_pretrained(tmp_path)
    adapters = build_with_adapters(seed=5)
    adapters.save_adapter(tmp_path, language)
    given = {} if language == "eng" else {"target_lang": language}  # the default language's file needs no asking
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = Wav2Vec2ConformerForCTC.from_pretrained(tmp_path, adapter_attn_dim=BOTTLENECK, **given)
    assert_same(language_part(model), language_part(adapters))


def test_init_adapter_layers_starts_them_anew_and_nothing_else(folder):
    model = Wav2Vec2ConformerForCTC.from_pretrained(folder)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(0)
    model.init_adapter_layers()
    for name, tensor in model.state_dict().items():
        if ".adapter_layer." not in name:
            assert torch.equal(tensor, before[name]), name
        elif name.endswith("linear_1.weight") or name.endswith("linear_2.weight"):
            assert 0 < tensor.std() < 2 * model.config.initializer_range
            assert not torch.equal(tensor, before[name])
        else:
            expected = torch.ones_like if name.endswith("norm.weight") else torch.zeros_like
            assert torch.equal(tensor, expected(tensor)), name


def test_adapters_train_alone(folder):
    model = Wav2Vec2ConformerForCTC.from_pretrained(folder).train()
    model.freeze_all_but_adapters()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == language_part(model).keys()
    model(noise(1, 8_000), labels=torch.tensor([[1, 2]])).loss.backward()
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == trained


def test_the_bare_model_has_adapters_too(folder):
    model = Wav2Vec2ConformerModel.from_pretrained(folder)
    assert len(model.language_adapters()) == 2
    model.init_adapter_layers()


# --- refusals


def test_without_adapters_in_the_configuration(tmp_path):
    build("ForCTC").save_pretrained(tmp_path)
    model = Wav2Vec2ConformerForCTC.from_pretrained(tmp_path)
    assert model.target_lang is None
    for call in (
        lambda: model.load_adapter("fra"),
        lambda: model.save_adapter(tmp_path, "fra"),
        model.init_adapter_layers,
    ):
        with pytest.raises(ValueError, match=r"no language adapters: .*adapter_attn_dim"):
            call()
    with pytest.raises(ConfigError, match="target_lang is 'fra', but the model has no language adapters"):
        Wav2Vec2ConformerForCTC.from_pretrained(tmp_path, target_lang="fra")


def test_a_model_that_comes_from_nowhere():
    with pytest.raises(ValueError, match="wasn't loaded from anywhere: load it with from_pretrained first"):
        build_with_adapters().load_adapter("fra")


def test_a_missing_language_lists_those_there_are(folder):
    with pytest.raises(
        CheckpointError, match=r"has no adapter for the language 'xho'\. It has adapters for: deu, fra\."
    ):
        Wav2Vec2ConformerForCTC.from_pretrained(folder, target_lang="xho")
    for path in folder.glob("adapter.*"):
        path.unlink()
    with pytest.raises(CheckpointError, match=r"'xho'\. It has no adapters at all\."):
        Wav2Vec2ConformerForCTC.from_pretrained(folder, target_lang="xho")


@pytest.mark.parametrize("name", ["../x", "", "a/b", "a.b", "/etc/passwd", "a b", ".."])
def test_what_is_no_language_is_refused(folder, name):
    model = Wav2Vec2ConformerForCTC.from_pretrained(folder)
    with pytest.raises(ValueError, match="is no name of a language: use letters, digits, '-' and '_'"):
        model.load_adapter(name)
    if name:
        with pytest.raises(ValueError, match="is no name of a language"):
            model.save_adapter(folder / "a" / "b", name)
        with pytest.raises(ValueError, match="is no name of a language"):
            Wav2Vec2ConformerForCTC.from_pretrained(folder, target_lang=name)
    assert not (folder / "a").exists()
    assert model.target_lang == "eng"


@pytest.mark.parametrize("name", ["zho-script_simplified", "cmn", "español", "x1"])
def test_what_is_a_language_is_taken(folder, name):
    model = Wav2Vec2ConformerForCTC.from_pretrained(folder)
    model.save_adapter(folder, name)
    model.load_adapter(name)
    assert model.target_lang == name


def change(name: str, tensor: Tensor) -> Any:
    return lambda tensors: {**tensors, name: tensor}


def lose(lost: str) -> Any:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name != lost}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change(f"{LAYER_1}.linear_1.weight", torch.zeros(5, 24)), r"linear_1\.weight \(5, 24\) for \(4, 24\)"),
        (change("lm_head.weight", torch.zeros(14, 20)), r"lm_head\.weight \(14, 20\) for \(14, 24\)"),
        (change("lm_head.bias", torch.zeros(13)), r"lm_head\.bias \(13,\) for \(14,\)"),
        (change("lm_head.weight", torch.zeros(15, 24)), r"lm_head\.bias \(14,\) for \(15,\)"),
        (change("encoder.layers.2.adapter_layer.norm.bias", torch.zeros(24)), r"encoder\.layers\.2\.adapter_layer"),
        (change("something.else", torch.zeros(1)), r"something\.else"),
        (lambda tensors: {"lm_head.weight": tensors["lm_head.weight"]}, r"lm_head\.bias, wav2vec2"),
        (lose("lm_head.weight"), r"lm_head\.weight"),
    ],
)  # fmt: skip
def test_adapters_of_another_model_leave_this_one_as_it_was(folder, damage, message):
    path = folder / "adapter.fra.safetensors"
    save_file(damage(load_file(path)), path)
    model = Wav2Vec2ConformerForCTC.from_pretrained(folder)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=rf"^{path} doesn't hold this model's language adapters: .*{message}"):
        model.load_adapter("fra")
    assert_same(model.state_dict(), before)
    assert (model.target_lang, model.config.vocab_size, model.lm_head.out_features) == ("eng", 11, 11)


def test_a_broken_file_leaves_the_model_as_it_was(folder):
    path = folder / "adapter.fra.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    model = Wav2Vec2ConformerForCTC.from_pretrained(folder)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
        model.load_adapter("fra")
    assert_same(model.state_dict(), before)
