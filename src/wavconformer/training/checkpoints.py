"""Where a run can be taken up again: folders checkpoint-000123, whole or not there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from wavconformer.errors import TrainingError
from wavconformer.files import is_disk_full, read_json, write_json

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
        found = (path for path in self.folder.glob(f"{_NAME}*") if _step(path) is not None and path.is_dir())
        return sorted(found, key=lambda path: _step(path) or 0)  # by number: 1000000 is behind 999999

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


def _step(path: Path) -> int | None:
    """The step in a checkpoint's name; None for another name, such as a copy's."""
    number = path.name.removeprefix(_NAME)
    return int(number) if number.isdecimal() else None
