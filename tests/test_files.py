"""Where files come from, and that they are written whole or not at all."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError

from wavconformer import CheckpointError
from wavconformer.files import (
    ASSETS,
    SOURCE_ARGUMENTS,
    Source,
    atomic,
    push_folder,
    read_json,
    samples,
    staged,
    write_json,
    write_text,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A Hub cache with one snapshot of "owner/speech", laid out as huggingface_hub lays it out."""
    repository = tmp_path / "hub" / "models--owner--speech"
    snapshot = repository / "snapshots" / COMMIT
    (snapshot / "sub").mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "sub" / "config.json").write_text('{"sub": 1}')
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return tmp_path / "hub"


def offline(cache: Path, **arguments: Any) -> Source:
    return Source("owner/speech", cache_dir=cache, local_files_only=True, **arguments)


# --- what a name means


def test_take_separates_the_source_arguments_from_the_others():
    arguments = dict.fromkeys(SOURCE_ARGUMENTS) | {"revision": "v1", "subfolder": "a", "hidden_size": 7}
    source = Source.take("owner/speech", arguments)
    assert source == Source("owner/speech", revision="v1", subfolder="a")
    assert arguments == {"hidden_size": 7}


def test_an_empty_name_is_refused():
    with pytest.raises(CheckpointError, match="name is empty"):
        Source.take("", {})


def test_files_of_a_folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "config.json").touch()
    (tmp_path / "sub" / "vocab.json").touch()
    for name in (tmp_path, str(tmp_path)):
        assert Source(name).find("config.json") == tmp_path / "config.json"
        assert Source(name).find("vocab.json") is None
        assert Source(name).find("sub") is None  # a folder is no file
        assert Source(name, subfolder="sub").find("vocab.json") == tmp_path / "sub" / "vocab.json"


def test_a_missing_file_is_named_beside_those_that_are_there(tmp_path):
    with pytest.raises(CheckpointError, match=rf"^The folder '{tmp_path}' holds no a\.json\. It is empty\.$"):
        Source(tmp_path).require("a.json")
    for number in range(9):
        (tmp_path / f"{number}.txt").touch()
    with pytest.raises(CheckpointError, match=r"It holds 0\.txt, 1\.txt, .*, 7\.txt, …\.$"):
        Source(tmp_path).require("a.json")
    with pytest.raises(CheckpointError, match=rf"^The folder '{tmp_path}/none' holds no a\.json\.$"):
        Source(tmp_path, subfolder="none").require("a.json")


def test_the_shipped_checkpoint_goes_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Source("tiny-en").require("config.json") == ASSETS / "tiny-en" / "config.json"
    (tmp_path / "tiny-en").mkdir()  # the user's own folder comes first
    assert Source("tiny-en").find("config.json") is None
    assert Source("samples").folder is None  # ships too, but is no checkpoint
    assert samples() == sorted((ASSETS / "samples").glob("*.flac")) != []


@pytest.mark.parametrize("name", ["/no/such/folder", "./speech", "../speech", "~/speech", "a/b/c", "a\\b"])
def test_a_path_that_is_no_folder_is_not_looked_for_on_the_hub(name, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", None)
    with pytest.raises(CheckpointError, match="There is no folder"):
        Source(name).find("config.json")


def test_a_file_in_place_of_a_folder(tmp_path):
    file = tmp_path / "model.safetensors"
    file.touch()
    with pytest.raises(CheckpointError, match=rf"'{file}' is a file: give the folder that holds config\.json"):
        Source(file).find("config.json")


# --- the Hub


def test_a_cached_snapshot_is_found_without_network(cache):
    assert offline(cache).require("config.json").read_text() == "{}"
    assert offline(cache, subfolder="sub").require("config.json").read_text() == '{"sub": 1}'
    assert offline(cache, revision=COMMIT).require("config.json").read_text() == "{}"


def test_a_cached_snapshot_lacks_what_it_lacks(cache):
    assert offline(cache).find("vocab.json") is None
    assert offline(cache, subfolder="sub").find("vocab.json") is None
    with pytest.raises(CheckpointError, match=r"^The repository 'owner/speech' holds no vocab\.json\.$"):
        offline(cache).require("vocab.json")


def test_what_is_not_in_the_cache_is_unreachable_offline(cache):
    for source in (offline(cache, revision="v2"), offline(cache / "elsewhere")):
        with pytest.raises(CheckpointError, match=r"'owner/speech' is no folder here, and its file config\.json is"):
            source.find("config.json")


def test_the_hub_is_asked_with_all_arguments(tmp_path, monkeypatch):
    calls: list[Any] = []

    def download(*names: str, **arguments: Any) -> str:
        calls.append((names, arguments))
        return str(tmp_path / "config.json")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    arguments = {
        "revision": "v1",
        "cache_dir": tmp_path,
        "token": "secret",
        "local_files_only": False,
        "force_download": True,
        "subfolder": "sub",
    }
    assert Source.take("owner/speech", dict(arguments)).find("config.json") == tmp_path / "config.json"
    assert calls == [(("owner/speech", "config.json"), arguments)]


def raising(error: Exception) -> Callable[..., str]:
    def download(*_: Any, **__: Any) -> str:
        raise error

    return download


class Broken(huggingface_hub.errors.HTTPError):
    """A connection that breaks while a file is on its way, as the HTTP library reports it."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (LocalEntryNotFoundError("long\nstory"), "neither in the cache nor could the Hugging Face Hub be reached"),
        (Broken("the peer hung up.\n\nmore"), "Hub doesn't give it: the peer hung up. Check the name, the revision"),
        (HFValidationError("Repo id is odd"), "Hub doesn't give it: Repo id is odd. Check"),
        (ConnectionError(), "Hub doesn't give it: ConnectionError. Check"),
    ],
)
def test_what_the_hub_refuses_is_one_line_of_ours(monkeypatch, error, message):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", raising(error))
    with pytest.raises(CheckpointError) as caught:
        Source("owner/none").find("config.json")
    assert message in str(caught.value)
    assert "'owner/none' is no folder here" in str(caught.value)
    assert "\n" not in str(caught.value)
    # The traceback, if it comes to that, shows nothing of the Hub's client.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_file_that_the_repository_has_not(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", raising(EntryNotFoundError("404")))
    assert Source("owner/speech").find("vocab.json") is None


# --- JSON


def test_json_is_sorted_and_keeps_letters(tmp_path):
    write_json(tmp_path / "a.json", {"b": "ü", "a": [1]})
    assert (tmp_path / "a.json").read_bytes() == '{\n  "a": [\n    1\n  ],\n  "b": "ü"\n}\n'.encode()
    assert read_json(tmp_path / "a.json") == {"a": [1], "b": "ü"}


@pytest.mark.parametrize("content", [b"", b'{"a": 1,}', b'{"a": "\xff"}'])
def test_broken_json_is_named(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.json is not valid JSON: "):
        read_json(tmp_path / "a.json")


# --- writing


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.skipif(os.name == "nt", reason="no umask")
def test_permissions_follow_the_umask(tmp_path, umask):
    write_text(tmp_path / "a.txt", "a")
    with staged(tmp_path) as unfinished:
        write_text(unfinished / "b.txt", "b")
    for name in ("a.txt", "b.txt"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~umask
    assert os.umask(umask) == umask  # left as it was


def test_atomic_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b" / "text"
    for text in ("old", "new"):
        with atomic(path) as temporary:
            assert temporary.parent == path.parent
            temporary.write_text(text)
    assert path.read_text() == "new"
    assert [entry.name for entry in path.parent.iterdir()] == ["text"]


def test_atomic_leaves_the_old_where_writing_fails(tmp_path):
    path = tmp_path / "text"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"), atomic(path) as temporary:
        temporary.write_text("ne")
        raise OSError("disk full")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["text"]


def test_staged_files_take_their_places_together(tmp_path):
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    for name in ("a", "kept"):
        (folder / name).write_text("old")
    with staged(folder) as unfinished:
        write_text(unfinished / "a", "new")
        write_text(unfinished / "b", "new")
        assert (folder / "a").read_text() == "old"
        assert not (folder / "b").exists()
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a": "new", "b": "new", "kept": "old"}


def test_a_staged_folder_takes_the_place_of_one_as_a_whole(tmp_path):
    for text, name in (("old", "a"), ("new", "b")):
        with staged(tmp_path) as unfinished:
            write_text(unfinished / "inner" / name, text)
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]
    assert {path.name: path.read_text() for path in (tmp_path / "inner").iterdir()} == {"b": "new"}


def test_staged_files_vanish_where_one_fails(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(OSError, match="disk full"), staged(tmp_path) as unfinished:
        write_text(unfinished / "a", "new")
        raise OSError("disk full")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}


# --- uploading


class Hub:
    """What `HfApi` is asked to do."""

    calls: list[tuple[str, Any]]

    def __init__(self, token: str | bool | None = None) -> None:
        Hub.calls = [("token", token)]

    def create_repo(self, repo_id: str, **arguments: Any) -> SimpleNamespace:
        Hub.calls.append(("create", (repo_id, arguments)))
        return SimpleNamespace(repo_id=repo_id if "/" in repo_id else f"me/{repo_id}")

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> str:
        files = {path.name: path.read_text() for path in Path(folder_path).iterdir()}
        Hub.calls.append(("upload", (repo_id, files, commit_message)))
        Hub.folder = Path(folder_path)
        return "https://hub/commit/1"


def test_a_folder_is_saved_and_uploaded(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)

    def save(folder: Path) -> None:
        write_json(folder / "config.json", {"a": 1})

    address = push_folder(save, "speech", commit_message="Say", token="secret", private=True)
    assert address == "https://hub/commit/1"
    assert Hub.calls == [
        ("token", "secret"),
        ("create", ("speech", {"private": True, "exist_ok": True})),
        # to the name that the Hub answered: the owner follows from the token
        ("upload", ("me/speech", {"config.json": json.dumps({"a": 1}, indent=2) + "\n"}, "Say")),
    ]
    assert not Hub.folder.exists()


def test_the_files_of_a_folder_of_a_source(cache, tmp_path):
    for place in (tmp_path / "folder", next((cache / "models--owner--speech" / "snapshots").iterdir())):
        (place / "language_model").mkdir(parents=True)
        for name in ("lm.arpa", "attrs.json", ".hidden"):
            (place / "language_model" / name).touch()
    for source in (Source(tmp_path / "folder"), offline(cache)):
        assert [path.name for path in source.find_all("language_model")] == ["attrs.json", "lm.arpa"]
        assert source.find_all("nothing") == []


def test_a_folder_of_a_repository_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="doesn't give its language_model/"):
        Source("owner/none", cache_dir=tmp_path, local_files_only=True).find_all("language_model")
    with pytest.raises(CheckpointError, match="no folder"):
        Source(tmp_path / "none").find_all("language_model")
