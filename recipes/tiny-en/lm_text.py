"""The text of the language model that ships with tiny-en: sentences of the kinds that the corpus has.

    python recipes/tiny-en/lm_text.py TEXT [--exclude FILE ...] [--commands 100000]
    wavconformer lm build TEXT -o lm.arpa.gz --order 3 --prune "0 1"

All clauses of the Bible and the fortunes, and commands drawn from the grammar, one a line. `--exclude` names sentences
that must not be in it, as for corpus.py: those that the model is measured on.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from commands import phrase
from sentences import Exclusion, open_sentences

from wavconformer.files import atomic

COMMANDS = 100_000


def sentences(exclusion: Exclusion, commands: int = COMMANDS) -> Iterator[str]:
    """The open sentences, then distinct ones of so many commands; none that is excluded."""
    bible, fortunes = open_sentences(0)
    draw = random.Random("language model")
    phrases = dict.fromkeys(phrase(draw) for _ in range(commands))
    yield from (one for one in [*bible, *fortunes, *phrases] if one not in exclusion)


def main(
    text: Annotated[Path, typer.Argument(metavar="TEXT", help="File to write.")],
    exclude: Annotated[list[Path] | None, typer.Option(help="Sentences to leave out; may be given again.")] = None,
    commands: Annotated[int, typer.Option(min=0, help="Commands to draw.")] = COMMANDS,
) -> None:
    """Write the text of tiny-en's language model."""
    with atomic(text) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(f"{one}\n" for one in sentences(Exclusion.read(exclude or []), commands))


if __name__ == "__main__":
    typer.run(main)
