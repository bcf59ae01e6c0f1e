"""Where a run can be taken up again: folders checkpoint-000123, whole or not there."""

from __future__ import annotations

import errno
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from wavconformer.errors import TrainingError
from wavconformer.files import read_json, write_json

_NAME = "checkpoint-"
BEST_FILE = "best.json"


class Checkpoints:
    """The checkpoints of a run, in its folder.

    keep_last: how many of the newest stay; the best one stays besides.
    """

    def __init__(self, folder: Path, keep_last: int) -> None:
        self.folder = folder
        self.keep_last = keep_last

    def all(self) -> list[Path]:
        """The checkpoints, the oldest first."""
        return sorted(path for path in self.folder.glob(f"{_NAME}*") if path.is_dir())

    def latest(self) -> Path | None:
        """The newest checkpoint."""
        return next(reversed(self.all()), None)

    def best(self) -> Path | None:
        """The best checkpoint by the run's metric, None where there was no evaluation."""
        file = self.folder / BEST_FILE
        if not file.is_file():
            return None
        path = self.folder / str(read_json(file)["checkpoint"])
        return path if path.is_dir() else None

    def set_best(self, path: Path, metrics: dict[str, float]) -> None:
        """Makes a checkpoint the best one."""
        write_json(self.folder / BEST_FILE, {"checkpoint": path.name, "metrics": metrics})

    def path(self, step: int) -> Path:
        """The folder of a step's checkpoint."""
        return self.folder / f"{_NAME}{step:06d}"

    def save(self, step: int, write: Callable[[Path], None]) -> Path:
        """Has a checkpoint written, and takes away those that are no longer kept.

        write: fills the folder that it is given.

        Where the disk is full, older checkpoints make room: all but the newest and the best. If that isn't enough, a
        TrainingError says so, and these stay.
        """
        try:
            path = self._written(step, write)
        except (OSError, RuntimeError, SafetensorError) as error:
            if not is_disk_full(error):
                raise
            self.prune(1)
            try:
                path = self._written(step, write)
            except (OSError, RuntimeError, SafetensorError) as again:
                if not is_disk_full(again):
                    raise
                raise TrainingError(
                    f"The disk that '{self.folder}' is on is full: update {step} couldn't be saved. {self.kept()} "
                    "Make room, and go on with --resume."
                ) from again
        self.prune(self.keep_last)
        return path

    def kept(self) -> str:
        """A sentence on what there is to go on from."""
        latest = self.latest()
        return "No checkpoint was saved yet." if latest is None else f"'{latest}' is kept."

    def prune(self, keep: int) -> None:
        """Removes all but so many newest checkpoints and the best one."""
        best = self.best()
        for path in self.all()[:-keep]:
            if path != best:
                shutil.rmtree(path)

    def _written(self, step: int, write: Callable[[Path], None]) -> Path:
        path = self.path(step)
        for left in self.folder.glob(f".{_NAME}*.part"):  # of a run that was killed while it saved
            shutil.rmtree(left, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=self.folder))
        try:
            write(temporary)
            temporary.chmod(0o755)
            for file in temporary.iterdir():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
            if path.exists():
                shutil.rmtree(path)
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return path


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that there is no room left; libraries put that into words of their own."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)


def random_state(mask_generator: np.random.Generator | None) -> dict[str, Any]:
    """The sources of randomness of this process: torch's (its devices' too), numpy's, Python's, SpecAugment's."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002 (the default of others)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, np.asarray(keys).tolist(), int(position), int(has_gauss), float(gauss)],
        "python": _listed(random.getstate()),
        "masks": None if mask_generator is None else mask_generator.bit_generator.state,
    }


def set_random_state(state: dict[str, Any], mask_generator: np.random.Generator | None) -> None:
    """Puts the sources of randomness where `random_state` found them."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    random.setstate(_tupled(state["python"]))
    if mask_generator is not None and state["masks"] is not None:
        mask_generator.bit_generator.state = state["masks"]


def _listed(value: Any) -> Any:
    return [_listed(one) for one in value] if isinstance(value, tuple) else value


def _tupled(value: Any) -> Any:
    return tuple(_tupled(one) for one in value) if isinstance(value, list) else value
