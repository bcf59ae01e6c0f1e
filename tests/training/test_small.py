"""A language's adapter, and low-rank matrices: little is trained, little is saved, and the whole can be had."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.training.synthetic import STILL, TEXTS, make_corpus, recipe_of

import wavconformer
from wavconformer import CheckpointError, ConfigError
from wavconformer.model.layers import Linear
from wavconformer.training.finetune import finetune
from wavconformer.training.loop import Loop, Task
from wavconformer.training.lora import LoraLinear
from wavconformer.training.merge import load_merged, merge
from wavconformer.training.metrics import read_metrics
from wavconformer.training.recipe import Lora
from wavconformer.training.starting import start

LORA = Lora(rank=2, alpha=4.0, targets=("linear_q", "linear_v"))


@pytest.fixture(scope="module")
def base(tones, tmp_path_factory) -> Path:
    """A checkpoint that knows a little of A, B and C."""
    return finetune(recipe_of(tones, tmp_path_factory.mktemp("base"), config=STILL, max_steps=30)).model


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Path:
    """The same with another letter more."""
    return make_corpus(tmp_path_factory.mktemp("other"), tuple(text.replace("C", "D") + "C" for text in TEXTS))


def last_losses(folder: Path) -> tuple[float, float]:
    lines = [line["loss"] for line in read_metrics(folder) if line["kind"] == "train"]
    return lines[0], lines[-1]


def run(base: Path, corpus: Path, folder: Path, kind: str, **settings):
    small = {"adapter": "new"} if kind == "adapter" else {"lora": LORA}
    given = {"max_steps": 30, "save_every": 10, "lr": 1e-2, "config": STILL} | small | settings
    return recipe_of(corpus, folder, init=str(base), **given)


@pytest.mark.parametrize("kind", ["adapter", "lora"])
def test_only_small_weights_are_trained_and_saved(base, other, tmp_path, kind):
    loop = Loop(run(base, other, tmp_path / "run", kind), Task())
    before = {name: value.clone() for name, value in loop.model.state_dict().items()}
    outcome = loop.run()
    marks = {"adapter": ("adapter_layer.", "lm_head."), "lora": ("lora_A", "lora_B", "lm_head.")}[kind]
    after = loop.model.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed and all(any(mark in name for mark in marks) for name in changed)
    first, last = last_losses(tmp_path / "run")
    assert last < 0.7 * first
    for folder in (outcome.model, tmp_path / "run" / "checkpoint-000030"):
        files = {path.name for path in folder.iterdir()}
        assert "model.safetensors" not in files
        assert ("adapter.new.safetensors" if kind == "adapter" else "adapter_model.safetensors") in files
        assert sum(path.stat().st_size for path in folder.glob("*.safetensors")) < 100_000
    assert (base / "model.safetensors").stat().st_size > 150_000
    assert json.loads((outcome.model / "base.json").read_text())["base"] == str(base)

    with pytest.raises(CheckpointError, match="no whole weights: `wavconformer merge FOLDER OUTPUT`"):
        wavconformer.load_model(outcome.model, device="cpu")
    merged = merge(outcome.model, tmp_path / "merged")
    whole = wavconformer.Wav2Vec2ConformerForCTC.from_pretrained(merged)
    loop.model.eval()
    inputs = {key: value for key, value in next(iter(loop.batches)).inputs.items() if key != "labels"}
    with torch.no_grad():
        torch.testing.assert_close(whole(**inputs).logits, loop.model(**inputs).logits, rtol=1e-4, atol=1e-4)
    assert wavconformer.load_model(merged, device="cpu").processor.tokenizer.get_vocab()["D"] > 0


@pytest.mark.parametrize("kind", ["adapter", "lora"])
def test_small_weights_are_taken_up_again(base, other, tmp_path, kind, monkeypatch):
    finetune(run(base, other, tmp_path / "whole", kind, max_steps=8, ema=0.5))

    class Halt(Task):
        def before_update(self, loop, step):
            if step == 6:
                raise KeyboardInterrupt
            return {}

    recipe = run(base, other, tmp_path / "broken", kind, max_steps=8, save_every=4, ema=0.5)
    with pytest.raises(KeyboardInterrupt):
        Loop(recipe, Halt()).run()
    finetune(recipe, resume=True)
    name = "adapter.new.safetensors" if kind == "adapter" else "adapter_model.safetensors"
    one, again = (load_file(tmp_path / run / "model" / name) for run in ("whole", "broken"))
    assert one.keys() == again.keys()
    assert all(torch.equal(one[key], again[key]) for key in one)


def test_low_rank_matrices_change_nothing_at_first_and_add_up():
    torch.manual_seed(0)
    layer = Linear(6, 4)
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 5, 6)
    adapted = LoraLinear(layer, Lora(rank=3, alpha=6.0))
    assert torch.equal(adapted(x), layer(x))
    torch.nn.init.normal_(adapted.lora_B)
    torch.testing.assert_close(adapted(x), torch.nn.functional.linear(x, adapted.weight, layer.bias))
    assert adapted.scale == 2.0 and not layer.weight.requires_grad


def test_the_file_is_named_as_peft_names_it(base, other, tmp_path):
    outcome = finetune(run(base, other, tmp_path, "lora", max_steps=1))
    names = set(load_file(outcome.model / "adapter_model.safetensors"))
    place = "base_model.model.wav2vec2_conformer.encoder.layers.0.self_attn.linear_q"
    assert {f"{place}.lora_A.weight", f"{place}.lora_B.weight", "base_model.model.lm_head.weight"} <= names
    config = json.loads((outcome.model / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["modules_to_save"]) == ("LORA", 2, ["lm_head"])


def test_what_cannot_be_meant(base, other, tmp_path):
    with pytest.raises(ConfigError, match=r"name it in model\.init"):
        finetune(recipe_of(other, tmp_path, lora=LORA))
    with pytest.raises(ConfigError, match=r"linear_x.* there are .*linear_k"):
        finetune(run(base, other, tmp_path, "lora", lora=Lora(rank=1, targets=("linear_x",))))
    with pytest.raises(ConfigError, match=r"lora\.targets is empty"):
        finetune(run(base, other, tmp_path, "lora", lora=Lora(rank=1, targets=())))
    with pytest.raises(ConfigError, match=r"lora\.rank is 999.*rank \d+ at most"):
        finetune(run(base, other, tmp_path, "lora", lora=Lora(rank=999)))
    with pytest.raises(ConfigError, match="for the task ctc, not sequence"):
        finetune(run(base, other, tmp_path, "adapter", task="sequence"))
    with pytest.raises(ConfigError, match=r"'\.\./x' is no name of a language"):  # before it trains
        start(run(base, other, tmp_path, "adapter", adapter="../x"))
    with pytest.raises(ConfigError, match=r"hidden_siz is no field .* Did you mean model\.config\.hidden_size\?"):
        start(run(base, other, tmp_path, "adapter", config={"hidden_siz": 8}))
    with pytest.raises(CheckpointError, match=r"base\.json"):
        load_merged(base)


def test_a_new_vocabulary_gets_a_new_head_and_an_old_one_keeps_it(base, tones, other, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        same = Loop(recipe_of(tones, tmp_path / "a", init=str(base)), Task()).model
        new = Loop(recipe_of(other, tmp_path / "b", init=str(base)), Task()).model
    head = load_file(base / "model.safetensors")["lm_head.weight"]
    assert torch.equal(same.lm_head.weight, head)
    assert len(new.lm_head.weight) == len(head) + 1
    with pytest.raises(CheckpointError, match=r"model\.config doesn't fit"):
        Loop(recipe_of(tones, tmp_path / "c", init=str(base), config={"intermediate_size": 32}), Task())
    with pytest.raises(ConfigError, match=r"model\.config\.hidden_sice is no field"):
        Loop(recipe_of(tones, tmp_path / "d", config={"hidden_sice": 32}), Task())
    with pytest.raises(ConfigError, match=r"vocab_size is 99, but the vocabulary has \d+ tokens"):
        Loop(recipe_of(tones, tmp_path / "e", config={"vocab_size": 99}), Task())
