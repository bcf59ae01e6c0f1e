"""Where files come from and how they are written: a folder or the Hub, and whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavconformer.errors import CheckpointError

# What ships with the package: a small checkpoint and sample recordings.
ASSETS = Path(__file__).parent / "assets"
DEFAULT_MODEL = "tiny-en"
# Arguments of the Hugging Face classes that say where a file comes from; all public `from_pretrained` take them.
SOURCE_ARGUMENTS = ("revision", "cache_dir", "token", "local_files_only", "force_download", "subfolder")


@dataclass(frozen=True)
class Source:
    """A checkpoint's place: a folder on disk, or a repository of the Hugging Face Hub.

    name: path of a folder, a repository's "owner/name", or that of a checkpoint that ships with the package.
    revision: branch, tag or commit of the repository.
    cache_dir: where downloads are kept; huggingface_hub's own place by default.
    token: access token of the Hub.
    local_files_only: use what was downloaded before, and no network.
    force_download: download again what is there already.
    subfolder: folder inside `name` that holds the files.
    """

    name: str | os.PathLike[str]
    revision: str | None = None
    cache_dir: str | os.PathLike[str] | None = None
    token: str | bool | None = None
    local_files_only: bool = False
    force_download: bool = False
    subfolder: str = ""

    @classmethod
    def take(cls, name: str | os.PathLike[str], arguments: dict[str, Any]) -> Source:
        """The source that `name` and the source arguments name; takes those out of `arguments`."""
        if not str(name):
            raise CheckpointError("The model's name is empty: give a folder or a Hub repository, 'owner/name'.")
        given = {key: arguments.pop(key) for key in SOURCE_ARGUMENTS if key in arguments}
        return cls(name, **{key: value for key, value in given.items() if value is not None})

    @property
    def folder(self) -> Path | None:
        """The folder on this machine that the name means, its subfolder included; None for a repository."""
        if Path(self.name).is_dir():
            return Path(self.name) / self.subfolder
        shipped = ASSETS / self.name
        return shipped if shipped.parent == ASSETS and (shipped / "config.json").is_file() else None

    def find(self, filename: str) -> Path | None:
        """The local path of `filename`, downloaded if need be, or None where the source has no such file.

        Raises CheckpointError where there is neither folder nor repository of that name, or no way to reach it.
        """
        if self.folder is not None:
            path = self.folder / filename
            return path if path.is_file() else None
        self._refuse_what_is_no_repository()
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import (  # type: ignore[attr-defined]
            EntryNotFoundError,
            HFValidationError,
            HTTPError,  # of the HTTP library that huggingface_hub uses, which has changed
            LocalEntryNotFoundError,
        )

        try:
            return Path(
                hf_hub_download(
                    str(self.name),
                    filename,
                    subfolder=self.subfolder or None,
                    revision=self.revision,
                    cache_dir=None if self.cache_dir is None else Path(self.cache_dir),
                    token=self.token,
                    local_files_only=self.local_files_only,
                    force_download=self.force_download,
                )
            )
        except LocalEntryNotFoundError:  # a kind of EntryNotFoundError, but it says nothing of the file
            if self._cached_without(filename):
                return None
            raise CheckpointError(
                f"'{self.name}' is no folder here, and its file {filename} is neither in the cache nor could the "
                "Hugging Face Hub be reached. Check the spelling, the network, or give a folder."
            ) from None  # what the Hub's client tried is of no use to the caller
        except EntryNotFoundError:
            return None
        except (HTTPError, HFValidationError, OSError) as error:
            raise CheckpointError(
                f"'{self.name}' is no folder here, and the Hugging Face Hub doesn't give it: {first_line(error)}. "
                "Check the name, the revision and the token, or give a folder."
            ) from None

    def require(self, filename: str) -> Path:
        """As `find`, but a missing file is a CheckpointError that names it."""
        path = self.find(filename)
        if path is None:
            raise CheckpointError(f"{self} holds no {filename}.{self._contents()}")
        return path

    def find_all(self, folder: str) -> list[Path]:
        """The local paths of the files in a folder of the source, downloaded if need be; none where there isn't one.

        Raises CheckpointError where there is neither folder nor repository of that name, or no way to reach it.
        """
        if self.folder is not None:
            root = self.folder
        else:
            self._refuse_what_is_no_repository()
            from huggingface_hub import snapshot_download
            from huggingface_hub.errors import HFValidationError, HTTPError  # type: ignore[attr-defined]

            try:
                snapshot = snapshot_download(
                    str(self.name),
                    allow_patterns=[f"{self.subfolder}/{folder}/*" if self.subfolder else f"{folder}/*"],
                    revision=self.revision,
                    cache_dir=None if self.cache_dir is None else Path(self.cache_dir),
                    token=self.token,
                    local_files_only=self.local_files_only,
                    force_download=self.force_download,
                )
            except (HTTPError, HFValidationError, OSError) as error:
                raise CheckpointError(
                    f"'{self.name}' is no folder here, and the Hugging Face Hub doesn't give its {folder}/: "
                    f"{first_line(error)}. Check the network, the revision and the token, or give a folder."
                ) from None
            root = Path(snapshot) / self.subfolder
        return sorted(path for path in (root / folder).glob("[!._]*") if path.is_file())

    def _cached_without(self, filename: str) -> bool:
        """Whether a snapshot of the repository is in the cache and known to lack the file."""
        from huggingface_hub import try_to_load_from_cache

        def lookup(name: str) -> Any:
            return try_to_load_from_cache(
                str(self.name),
                f"{self.subfolder}/{name}" if self.subfolder else name,
                cache_dir=None if self.cache_dir is None else Path(self.cache_dir),
                revision=self.revision,
            )

        # Offline, a file that no download ever asked for is as good as absent once the config is there.
        return filename != "config.json" and isinstance(lookup("config.json"), str)

    def _refuse_what_is_no_repository(self) -> None:
        name = str(self.name)
        if Path(name).is_file():
            raise CheckpointError(f"'{name}' is a file: give the folder that holds config.json and the weights.")
        if Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or "\\" in name:
            raise CheckpointError(f"There is no folder '{name}'.")

    def _contents(self) -> str:
        if self.folder is None or not self.folder.is_dir():
            return ""
        names = sorted(path.name for path in self.folder.iterdir())
        return f" It holds {', '.join(names[:8])}{', …' if len(names) > 8 else ''}." if names else " It is empty."

    def __str__(self) -> str:
        place = f"{self.name}/{self.subfolder}" if self.subfolder else str(self.name)
        return f"The {'repository' if self.folder is None else 'folder'} '{place}'"


def first_line(error: BaseException) -> str:
    """What an error says, in one line without its full stop."""
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that there is no room left; libraries put that into words of their own."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)


def samples(folder: str = "") -> list[Path]:
    """The sample recordings that ship with the package: sentences, or those of a folder among them ("keywords")."""
    return sorted((ASSETS / "samples" / folder).glob("*.flac"))


def read_json(path: Path) -> Any:
    """The content of a JSON file; CheckpointError with the file and the place where it can't be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}.") from error


def write_json(path: Path, content: Any) -> None:
    """Writes JSON as the Hugging Face files have it: two spaces, sorted keys, a newline at the end."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes the place of `path` when the block ends well.

    A crash or an error leaves what was at `path` before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A temporary folder inside `folder` to write several files to; they move up together when the block ends well.

    So what belongs together is new as a whole: an error while any of it is written leaves all that was there before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", suffix=".part", dir=folder) as temporary:
        yield Path(temporary)
        for path in sorted(Path(temporary).iterdir()):
            target = folder / path.name
            if path.is_dir() and target.is_dir():
                target.replace(path.with_name(f".old-{path.name}"))  # a folder takes the place of one as a whole
            path.replace(target)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def push_folder(
    save: Callable[[Path], Any],
    repo_id: str,
    *,
    commit_message: str,
    token: str | bool | None,
    private: bool | None,
) -> str:
    """Saves into a temporary folder with `save` and uploads that to a Hub repository, made if missing.

    Returns the address of the commit.
    """
    from huggingface_hub import HfApi

    hub = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        # The answer has the owner, which `repo_id` may leave to the token.
        repository = hub.create_repo(repo_id, private=private, exist_ok=True)
        commit = hub.upload_folder(repo_id=repository.repo_id, folder_path=folder, commit_message=commit_message)
    return str(commit)
