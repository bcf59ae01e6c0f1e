"""What a run writes down as it goes: metrics.jsonl, TensorBoard's files, and curves at the end."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wavconformer.errors import ConfigError
from wavconformer.files import atomic, write_text

METRICS_FILE = "metrics.jsonl"
CURVES_FILE = "curves.png"


class StepLog:
    """A file of JSON lines, each with its step.

    step: where the run goes on; later lines, of a run that was killed, are dropped.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        self.path = path
        if path.is_file():
            kept = [line for line in read_lines(path) if line["step"] <= step]
            write_text(path, "".join(map(_line, kept)))

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes one line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line({"step": step, **values}))


class MetricsLog:
    """Lines of metrics.jsonl, each with its step and kind: train, valid or skipped; and TensorBoard's files.

    step: as with `StepLog`.
    """

    def __init__(self, folder: Path, *, tensorboard: bool, step: int = 0) -> None:
        self._lines = StepLog(folder / METRICS_FILE, step)
        self._board: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise ConfigError(
                    f"TensorBoard's files need tensorboard ({error}): pip install 'wavconformer[train]', or set "
                    "logging.tensorboard=false."
                ) from error

            self._board = SummaryWriter(folder / "tensorboard", purge_step=step + 1)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Writes one line."""
        self._lines.write(step, {"kind": kind, **{key: _rounded(value) for key, value in values.items()}})
        if self._board is not None and kind != "skipped":
            for key, value in values.items():
                if isinstance(value, (int, float)):
                    self._board.add_scalar(f"{kind}/{key}", value, step)

    def close(self) -> None:
        """Ends TensorBoard's file."""
        if self._board is not None:
            self._board.close()


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False) + "\n"


def _rounded(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else str(value)  # JSON has no NaN


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a `StepLog`; one that a crash cut off is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl."""
    return read_lines(folder / METRICS_FILE)


def require_matplotlib() -> None:
    """Raises ConfigError where curves couldn't be drawn: at a run's beginning, not at its end."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"{CURVES_FILE} needs matplotlib ({error}): pip install 'wavconformer[train]'.") from error


def draw_curves(folder: Path) -> Path | None:
    """Draws curves.png of what metrics.jsonl holds: a picture for each measure; None where there is nothing."""
    lines = [line for line in read_metrics(folder) if line["kind"] in ("train", "valid")]
    left_out = {"step", "kind", "epoch", "utterances", "skipped", "wer_low", "wer_high", "seconds"}
    names = [
        name
        for name in dict.fromkeys(key for line in lines for key in line)
        if name not in left_out and any(isinstance(line.get(name), (int, float)) for line in lines)
    ]
    if not names:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = math.ceil(len(names) / 3)
    figure = Figure(figsize=(12, 2.8 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for number, name in enumerate(names, 1):
        axes = figure.add_subplot(rows, 3, number)
        for kind, style in (("train", "-"), ("valid", "o-")):
            points = [
                (line["step"], line[name])
                for line in lines
                if line["kind"] == kind and isinstance(line.get(name), (int, float))
            ]
            if points:
                axes.plot([x for x, _ in points], [y for _, y in points], style, markersize=3, linewidth=1, label=kind)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("update", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    path = folder / CURVES_FILE
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    return path
