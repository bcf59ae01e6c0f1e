"""What `save_pretrained` and `push_to_hub` write: whole, one checkpoint at a time, or nothing."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from model.builders import build
from wavconformer import CheckpointError, Wav2Vec2ConformerConfig, Wav2Vec2ConformerForCTC, Wav2Vec2ConformerModel
from wavconformer.checkpoint import weights
from wavconformer.checkpoint.weights import open_file, parse_size

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read(folder: Path, **arguments: Any) -> Wav2Vec2ConformerForCTC:
    model: Wav2Vec2ConformerForCTC = Wav2Vec2ConformerForCTC.from_pretrained(folder, **arguments)
    return model


def assert_same(model: torch.nn.Module, other: torch.nn.Module) -> None:
    state, expected = model.state_dict(), other.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in expected)


# --- one file


def test_a_folder_holds_configuration_and_weights(tmp_path):
    model = build("ForCTC", my_note=1)
    model.save_pretrained(tmp_path / "deep" / "er")
    assert names(tmp_path / "deep" / "er") == ["config.json", WEIGHTS]
    config = json.loads((tmp_path / "deep" / "er" / "config.json").read_text())
    assert config["architectures"] == ["Wav2Vec2ConformerForCTC"]
    assert (config["dtype"], config["my_note"]) == ("float32", 1)
    assert model.config.architectures is None  # saving changes nothing in the model
    with safe_open(tmp_path / "deep" / "er" / WEIGHTS, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert set(file.keys()) == model.state_dict().keys()
    assert_same(read(tmp_path / "deep" / "er"), model)


def test_the_type_of_the_weights_is_written(tmp_path):
    build("ForCTC").bfloat16().save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    with open_file(tmp_path / WEIGHTS) as tensors:
        assert (tensors["lm_head.weight"].dtype, tensors["lm_head.weight"].shape) == ("BF16", (11, 24))
        assert {tensor.dtype for tensor in tensors.values()} == {"BF16", "I64"}


def test_weights_given_by_the_caller(tmp_path):
    model = build("ForCTC")
    gathered = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    model.save_pretrained(tmp_path, state_dict=gathered)
    assert torch.equal(read(tmp_path).lm_head.bias, model.lm_head.bias + 1)


def test_views_of_one_tensor_are_written_apart(tmp_path):
    model = build("ForCTC")
    shared = torch.randn(24, 11)
    state = {**model.state_dict(), "lm_head.weight": shared.t(), "lm_head.bias": shared[0]}
    model.save_pretrained(tmp_path, state_dict=state)
    loaded = read(tmp_path)
    assert torch.equal(loaded.lm_head.weight, shared.t())
    assert torch.equal(loaded.lm_head.bias, shared[0])


def test_only_the_main_process_writes(tmp_path):
    build("ForCTC").save_pretrained(tmp_path / "a", is_main_process=False)
    assert not (tmp_path / "a").exists()


def test_pickles_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="writes safetensors alone: pickled weights can run code"):
        build("ForCTC").save_pretrained(tmp_path / "a", safe_serialization=False)
    assert not (tmp_path / "a").exists()


def test_a_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(CheckpointError, match=r"'.*a' is a file: give a folder to save to"):
        build("ForCTC").save_pretrained(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "mine"


@pytest.mark.skipif(os.name == "nt", reason="no umask")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_permissions_follow_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        build("ForCTC").save_pretrained(tmp_path, max_shard_size="20KB")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {0o666 & ~mask}


# --- shards


@pytest.mark.parametrize("size", ["20KB", 20_000, "0.02 MB"])
def test_shards_are_no_larger_than_asked(tmp_path, size):
    model = build("ForCTC")
    model.save_pretrained(tmp_path, max_shard_size=size)
    index = json.loads((tmp_path / INDEX).read_text())
    shards = sorted(set(index["weight_map"].values()))
    assert len(shards) > 2
    assert shards == [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    assert names(tmp_path) == ["config.json", *shards, INDEX]
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in model.state_dict().values())
    for shard in shards:
        tensors = load_file(tmp_path / shard)
        assert {name for name, place in index["weight_map"].items() if place == shard} == tensors.keys()
        assert sum(tensor.nbytes for tensor in tensors.values()) <= 20_000 or len(tensors) == 1
    assert_same(read(tmp_path), model)


def test_a_shard_holds_one_tensor_at_least(tmp_path):
    model = build("ForCTC")
    model.save_pretrained(tmp_path, max_shard_size=1)
    assert len(list(tmp_path.glob("*.safetensors"))) == len(model.state_dict())
    assert_same(read(tmp_path), model)


@pytest.mark.parametrize(
    ("size", "number"),
    [
        (7, 7),
        ("7", 7),
        ("2KB", 2_000),
        ("2kib", 2_048),
        ("1.5 GB", 1_500_000_000),
        ("3MiB", 3 * 2**20),
        ("1TB", 10**12),
    ],
)
def test_sizes(size, number):
    assert parse_size(size) == number


@pytest.mark.parametrize("size", ["", "big", "5 parsecs", "-5GB", 0, "0MB", "1e3", "GB"])
def test_what_is_no_size(tmp_path, size):
    with pytest.raises(ValueError, match="is no size of a file: give bytes, or a number and one of KB, MB, GB"):
        parse_size(size)
    with pytest.raises(ValueError, match="is no size of a file"):
        build("Model").save_pretrained(tmp_path, max_shard_size=size)
    assert names(tmp_path) == []


# --- one checkpoint at a time


@pytest.mark.parametrize("first", ["5GB", "20KB", "8KB"])
@pytest.mark.parametrize("second", ["5GB", "20KB", "8KB"])
def test_a_later_save_leaves_nothing_of_an_earlier_one(tmp_path, first, second):
    build("ForCTC", seed=1).save_pretrained(tmp_path, max_shard_size=first)
    model = build("ForCTC", seed=2)
    model.save_pretrained(tmp_path, max_shard_size=second)
    model.save_pretrained(tmp_path / "fresh", max_shard_size=second)
    assert names(tmp_path) == sorted([*names(tmp_path / "fresh"), "fresh"])
    assert_same(read(tmp_path), model)


def test_only_weights_of_that_name_are_removed(tmp_path):
    stale = [
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "pytorch_model-00001-of-00002.bin",
        "model-00001-of-00002.safetensors",
        INDEX,
    ]
    others = ["vocab.json", "adapter.fra.safetensors", "optimizer.bin", "model-best.safetensors", "training_args.bin"]
    for name in [*stale, *others]:
        (tmp_path / name).write_text("{}")
    build("ForCTC").save_pretrained(tmp_path)
    assert names(tmp_path) == sorted([*others, "config.json", WEIGHTS])


class FullDisk:
    """Writes files until the one that no longer fits, of which a part stays."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fitting: int) -> None:
        self.fitting = fitting
        self.write = weights.save_file
        monkeypatch.setattr(weights, "save_file", self)

    def __call__(self, tensors: Any, path: Path, metadata: Any) -> None:
        self.write(tensors, path, metadata)
        if self.fitting == 0:
            path.write_bytes(path.read_bytes()[:100])
            raise OSError("No space left on device")
        self.fitting -= 1


@pytest.mark.parametrize("earlier", ["5GB", "20KB"])
@pytest.mark.parametrize(("size", "fitting"), [("5GB", 0), ("20KB", 0), ("20KB", 2)])
def test_an_error_while_writing_leaves_the_earlier_checkpoint(tmp_path, monkeypatch, earlier, size, fitting):
    model = build("ForCTC", seed=1)
    model.save_pretrained(tmp_path, max_shard_size=earlier)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    FullDisk(monkeypatch, fitting)
    with pytest.raises(OSError, match="No space left"):
        build("ForCTC", seed=2, intermediate_size=44).save_pretrained(tmp_path, max_shard_size=size)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files  # no .part left either
    assert_same(read(tmp_path), model)


def test_an_error_while_writing_the_configuration_leaves_the_earlier_checkpoint(tmp_path, monkeypatch):
    model = build("ForCTC", seed=1)
    model.save_pretrained(tmp_path)

    def fails(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("wavconformer.checkpoint.pretrained.write_json", fails)
    with pytest.raises(OSError, match="No space left"):
        build("ForCTC", seed=2).save_pretrained(tmp_path)
    assert names(tmp_path) == ["config.json", WEIGHTS]
    assert_same(read(tmp_path), model)


def test_an_unusable_configuration_leaves_the_earlier_checkpoint(tmp_path):
    model = build("ForCTC", seed=1)
    model.save_pretrained(tmp_path)
    other = build("ForCTC", seed=2)
    other.config.unwritable = object()
    with pytest.raises(TypeError):
        other.save_pretrained(tmp_path)
    assert names(tmp_path) == ["config.json", WEIGHTS]
    assert_same(read(tmp_path), model)


# --- the Hub


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is asked of the Hub: the repository's name, its files, the message, the token, whether private."""
    asked: list[Any] = []

    class Hub:
        def __init__(self, token: str | bool | None = None) -> None:
            self.token = token

        def create_repo(self, repo_id: str, private: bool | None, exist_ok: bool) -> SimpleNamespace:
            assert exist_ok
            self.private = private
            return SimpleNamespace(repo_id=repo_id if "/" in repo_id else f"me/{repo_id}")

        def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> str:
            files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
            asked.append((repo_id, files, commit_message, self.token, self.private))
            return f"https://hub/{repo_id}/commit/1"

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    return asked


def test_a_model_goes_to_the_hub_as_it_would_be_saved(tmp_path, uploads):
    model = build("ForCTC")
    model.save_pretrained(tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    address = model.push_to_hub("owner/speech", commit_message="Say", token="secret", private=True)
    assert address == "https://hub/owner/speech/commit/1"
    assert uploads == [("owner/speech", files, "Say", "secret", True)]


def test_a_model_goes_to_the_hub_in_shards(tmp_path, uploads):
    model = build("ForCTC")
    model.push_to_hub("speech", max_shard_size="20KB")
    [(repo_id, files, message, token, private)] = uploads
    assert (repo_id, message, token, private) == ("me/speech", "Upload model", None, None)
    assert INDEX in files
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert_same(read(tmp_path), model)


def test_saving_may_upload_too(tmp_path, uploads):
    model = build("ForCTC")
    model.save_pretrained(tmp_path / "speech", push_to_hub=True)
    model.save_pretrained(tmp_path / "speech", push_to_hub=True, repo_id="owner/other", commit_message="Say")
    assert [(repo_id, message) for repo_id, _, message, _, _ in uploads] == [
        ("me/speech", "Upload model"),
        ("owner/other", "Say"),
    ]
    assert all(files.keys() == {"config.json", WEIGHTS} for _, files, _, _, _ in uploads)
    assert names(tmp_path / "speech") == ["config.json", WEIGHTS]


def test_a_configuration_goes_to_the_hub(tmp_path, uploads):
    config = Wav2Vec2ConformerConfig(hidden_size=48)
    config.push_to_hub("owner/speech")
    config.save_pretrained(tmp_path / "speech", push_to_hub=True)
    files = {"config.json": config.to_json_string().encode()}
    assert uploads == [
        ("owner/speech", files, "Upload configuration", None, None),
        ("me/speech", files, "Upload configuration", None, None),
    ]


def test_a_bare_model_round_trips(tmp_path):
    model = build("Model", add_adapter=True, mask_time_prob=0.1)
    model.save_pretrained(tmp_path)
    assert_same(Wav2Vec2ConformerModel.from_pretrained(tmp_path), model)
