"""fairseq's settings as a checkpoint holds them, section by section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from wavconformer.checkpoint.fairseq.pickles import bare, mapping
from wavconformer.checkpoint.fairseq.weights import Task
from wavconformer.errors import CheckpointError

T = TypeVar("T", bool, int, float, str)


@dataclass(frozen=True)
class Settings:
    """One section of fairseq's settings, by name; None stands for a setting that isn't there.

    path: the file they are from, for messages.
    """

    path: Path
    values: Mapping[str, Any]

    def __contains__(self, name: str) -> bool:
        return self.plain(name) is not None

    def plain(self, name: str) -> Any:
        """The setting out of what wraps it, of whatever type; None where it isn't there."""
        return bare(self.values.get(name))

    def get(self, name: str, default: T) -> T:
        """The setting, of the default's type; CheckpointError where it has another."""
        value = self.plain(name)
        if value is None:
            return default
        if type(default) is float and type(value) is int:
            value = float(value)
        if not isinstance(value, type(default)) or (type(value) is bool and type(default) is not bool):
            raise CheckpointError(f"{self.path}: the setting {name} is {value!r}, not a {type(default).__name__}.")
        return value


@dataclass(frozen=True)
class Sections:
    """The settings of a checkpoint.

    known: whether the file has any of the architecture.
    backbone: of the wav2vec 2.0 model, and with it of pretraining.
    tuned: of the model that the file holds; the same as backbone unless it is fine-tuned.
    task, criterion: of the data and of the loss.
    """

    known: bool
    backbone: Settings
    tuned: Settings
    task: Settings
    criterion: Settings

    @classmethod
    def find(cls, path: Path, content: Mapping[str, Any], kind: Task, given: Mapping[str, Any]) -> Sections:
        """The settings in a checkpoint's content, and over them those `given`."""
        tuned, task, criterion = _split(mapping(content.get("cfg")) or mapping(content.get("args")))
        backbone = _split(mapping(tuned.get("w2v_args")))[0] if kind == "ctc" else tuned

        def section(values: dict[str, Any]) -> Settings:
            return Settings(path, {**values, **given})

        # normalize stood among the model's settings before the task took it over.
        return cls(bool(backbone), section(backbone), section(tuned), section(tuned | task), section(criterion))


def _split(whole: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The model's, the task's and the criterion's part; older files keep all in one."""
    model = mapping(whole.get("model"))
    return (model, mapping(whole.get("task")), mapping(whole.get("criterion"))) if model else (whole, whole, whole)
