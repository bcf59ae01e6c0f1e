"""Files that a command writes for each recording, and which of them are there already."""

from __future__ import annotations

from pathlib import Path

import typer

from wavconformer.cli.terminal import err


def output_files(
    files: list[str], output: Path | None, suffix: str, *, resume: bool
) -> tuple[list[str], list[Path] | None]:
    """The recordings to be done, and for each the file that is written of it; None where nothing is.

    output: the folder for them, made if need be. resume: leave out recordings whose file is there; files are written
    whole, so one that is there is done.

    Raises typer.BadParameter for `resume` without a folder, for what is no folder or is named as a file, and where two
    recordings would be written to one file.
    """
    if output is None:
        if resume:
            raise typer.BadParameter("--resume looks for what is in the --output folder: give one.")
        return files, None
    targets = _targets(files, output, suffix)
    return _undone(files, targets) if resume else (files, targets)


def _targets(files: list[str], output: Path, suffix: str) -> list[Path]:
    targets = [output / f"{Path(file).stem}.{suffix}" for file in files]
    first: dict[Path, str] = {}
    for file, target in zip(files, targets, strict=True):
        twin = first.setdefault(target, file)
        if twin is not file:
            raise typer.BadParameter(
                f"'{twin}' and '{file}' would both be written to '{target}': give each its own --output, in two runs."
            )
    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"--output '{output}' is a file; give a folder.")
    if output.suffix.lower() == f".{suffix.lower()}" and not output.exists():
        raise typer.BadParameter(
            f"--output '{output}' is to be a folder, but is named as a file: give a folder, or print into the file "
            f"with > {output}."
        )
    output.mkdir(parents=True, exist_ok=True)
    return targets


def _undone(files: list[str], targets: list[Path]) -> tuple[list[str], list[Path]]:
    pairs = [(file, target) for file, target in zip(files, targets, strict=True) if not target.is_file()]
    if len(pairs) < len(files):
        err.print(f"{len(files) - len(pairs)} of {len(files)} are done already.")
    return [file for file, _ in pairs], [target for _, target in pairs]
