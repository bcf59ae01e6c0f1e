"""What a model gave for each utterance, written down as it comes, so that a run can be stopped and taken up again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from wavconformer.checkpoint.weights import find_weight_files
from wavconformer.data.utterance import Utterance, name_of
from wavconformer.files import Source


def fingerprint(
    model: str | Path, target_lang: str | None = None, *, beside: Sequence[Path] = (), **settings: Any
) -> str:
    """A short name for what a model's files hold and the settings it runs with: it changes when either does.

    target_lang: the language of the adapters. beside: further files that change the outputs, as a language model's.
    settings: whatever else does, such as the dtype.

    Raises CheckpointError where files are missing.
    """
    source = Source(model)
    names = ["vocab.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json"]
    if target_lang is not None:
        names += [f"adapter.{target_lang}.safetensors", f"adapter.{target_lang}.bin"]
    files = [source.require("config.json"), *find_weight_files(source)]
    files += [path for name in names if (path := source.find(name)) is not None]
    files += beside
    digest = hashlib.blake2b(repr((target_lang, sorted(settings.items()))).encode(), digest_size=8)
    for path in files:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


class Journal:
    """Lines of JSON, one for each utterance that is done; those of the same model and part of a recording are kept.

    path: the file, appended to; None keeps nothing beyond the run. model: the fingerprint of what gives the outputs.

    A line that a crash cut off is dropped, and its utterance done again. Use it in a `with` block.
    """

    def __init__(self, path: Path | None, model: str) -> None:
        self.path = path
        self.model = model
        self._done: dict[tuple[Any, ...], Any] = {}
        self._file: IO[str] | None = None

    def __enter__(self) -> Journal:
        if self.path is None:
            return self
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._read(self.path)
        self._file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def _read(self, path: Path) -> None:
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("rb+") as file:
                file.truncate(whole)
        for line in content[:whole].splitlines():
            try:
                entry = json.loads(line)
                if entry["model"] == self.model:
                    self._done[entry["id"], entry["audio"], entry["start"], entry["end"]] = entry["output"]
            except (ValueError, KeyError, TypeError):
                continue  # not of our making, or damaged: that utterance is done again

    def get(self, utterance: Utterance) -> Any:
        """The output of an earlier run, None where there is none."""
        return self._done.get(_key(utterance))

    def add(self, utterance: Utterance, output: Any) -> None:
        """Writes down an output, of plain values."""
        self._done[_key(utterance)] = output
        if self._file is not None:
            names = dict(zip(("id", "audio", "start", "end"), _key(utterance), strict=True))
            self._file.write(json.dumps({**names, "output": output, "model": self.model}, ensure_ascii=False) + "\n")
            self._file.flush()  # what a kill leaves is what counts


def _key(utterance: Utterance) -> tuple[Any, ...]:
    return utterance.id, name_of(utterance), utterance.start, utterance.end
