"""fairseq's dictionary, dict.ltr.txt or the one that a file holds, as the vocabulary of a CTC head."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wavconformer.checkpoint.fairseq.pickles import mapping
from wavconformer.checkpoint.fairseq.settings import Settings
from wavconformer.errors import CheckpointError

# The first rows of every fairseq dictionary, which its file doesn't list, and what the Hugging Face layout calls
# them: fairseq's CTC blank is `<s>`, and the Hugging Face blank is `<pad>`. The rows of the head stay.
FAIRSEQ_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
HUGGING_FACE_SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")


def find_vocabulary(
    path: Path, content: Mapping[str, Any], dictionary: str | os.PathLike[str] | None, task: Settings, rows: int
) -> dict[str, int]:
    """The row of the head for each token, with the Hugging Face names of the special ones.

    path, content, task: of the checkpoint. dictionary: the file that the caller names, which comes first.
    rows: of the head. Raises CheckpointError where there is no dictionary, or one that isn't the head's.
    """
    symbols, place = _symbols(path, content, dictionary, task)
    if tuple(symbols[:4]) != FAIRSEQ_SPECIALS:
        raise CheckpointError(f"{place} begins with {symbols[:4]}, not with fairseq's {', '.join(FAIRSEQ_SPECIALS)}.")
    taken = set(FAIRSEQ_SPECIALS) & set(symbols[4:])
    if taken:
        raise CheckpointError(f"{place} gives a second row to {', '.join(sorted(taken))}: the blank would be unclear.")
    if len(symbols) != rows:
        raise CheckpointError(
            f"{place} has {len(symbols)} tokens, the 4 special ones included, but the head of {path} has {rows} rows: "
            "the dictionary belongs to another model."
        )
    named = {token: row for row, token in enumerate((*HUGGING_FACE_SPECIALS, *symbols[4:]))}
    # A token listed twice means its last row; nothing was ever trained to come out of the earlier one.
    unused = {f"<unused{row}>": row for row in set(range(rows)) - set(named.values())}
    return dict(sorted({**unused, **named}.items(), key=lambda entry: entry[1]))


def _symbols(
    path: Path, content: Mapping[str, Any], dictionary: str | os.PathLike[str] | None, task: Settings
) -> tuple[list[str], str]:
    """The tokens as fairseq calls them, in the order of the head's rows, and where they are from."""
    if dictionary is not None:
        return _read(Path(dictionary)), str(dictionary)
    held = mapping(mapping(content.get("task_state")).get("target_dictionary")).get("symbols")
    if isinstance(held, list) and all(isinstance(symbol, str) for symbol in held):
        return held, f"The dictionary in {path}"
    labels = task.get("labels", "ltr")
    beside = path.with_name(f"dict.{labels if labels.isalnum() else 'ltr'}.txt")
    if not beside.exists():
        raise CheckpointError(
            f"{path} is fine-tuned with CTC and says nothing of its letters: there is no {beside.name} beside it. Give "
            "fairseq's dictionary (dict.ltr.txt of the training data)."
        )
    return _read(beside), str(beside)


def _read(path: Path) -> list[str]:
    """The tokens of a dictionary file, "token count" a line, after the four that it doesn't list."""
    if not path.is_file():
        raise CheckpointError(f"There is no dictionary file '{path}'.")
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8 text, as fairseq's dictionaries are: {error}.") from error
    symbols, known = list(FAIRSEQ_SPECIALS), set(FAIRSEQ_SPECIALS)
    for number, line in enumerate(lines, 1):
        text = line.rstrip()
        plain = text.removesuffix(" #fairseq:overwrite")
        token, space, count = plain.rpartition(" ")
        if not space or not count.lstrip("-").isdigit():
            raise CheckpointError(f"{path}, line {number}: '{text}' is not 'token count', as fairseq writes it.")
        if token in known and plain == text:
            raise CheckpointError(f"{path}, line {number}: '{token}' is there already, without #fairseq:overwrite.")
        symbols.append(token)
        known.add(token)
    return symbols
