"""Classifications as text to read, as JSON, and as a table."""

from __future__ import annotations

import json
from collections.abc import Callable

from wavconformer.decoding.classification import Classification


def _txt(classification: Classification, name: str | None) -> str:
    """The best labels on a line, behind the recording's name where there are several; the time line below it."""
    lines = [str(classification) if name is None else f"{name}\t{classification}"]
    lines += [f"  {span.start:8.2f} {span.end:8.2f}  {span.label} {span.score:.3f}" for span in classification.spans]
    return "\n".join(lines) + "\n"


def _json(classification: Classification, name: str | None) -> str:
    told = {} if name is None else {"file": name}
    return json.dumps({**told, **classification.as_dict()}, ensure_ascii=False) + "\n"


TSV_HEADING = "file\tstart\tend\tlabel\tscore\n"


def _tsv(classification: Classification, name: str | None) -> str:
    """A row for each label that is told of each window."""
    file = " ".join((name or "").split())
    return "".join(
        f"{file}\t{window.start:.3f}\t{window.end:.3f}\t{' '.join(one.label.split())}\t{one.score:.6f}\n"
        for window in classification.windows
        for one in window.scores
    )


_WRITERS: dict[str, Callable[[Classification, str | None], str]] = {"txt": _txt, "json": _json, "tsv": _tsv}
CLASS_FORMATS = tuple(_WRITERS)
"""Names of the formats, which are the files' suffixes too."""


def render_classes(
    classification: Classification, format: str, *, name: str | None = None, heading: bool = True
) -> str:
    """A classification as text in one of the `CLASS_FORMATS`, with a newline at the end.

    name: what the recording is called; None leaves it out. heading: whether a table begins with the names of its
    columns.

    Raises ValueError for another format.
    """
    if format not in _WRITERS:
        raise ValueError(f"format is {format!r}, but must be one of {', '.join(CLASS_FORMATS)}.")
    text = _WRITERS[format](classification, name)
    return TSV_HEADING + text if format == "tsv" and heading else text
