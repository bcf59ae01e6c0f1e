"""`wavconformer lm build` and `lm perplexity`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from wavconformer.cli.app import app
from wavconformer.cli.options import Case
from wavconformer.cli.terminal import counted, status, warn

lm_app = typer.Typer(
    help="Language models for decoding: estimate one from text, measure one.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(lm_app, name="lm")


class Unit(str, Enum):
    """What a language model's n-grams are made of."""

    word = "word"
    letter = "letter"


_TEXTS = typer.Argument(metavar="TEXT...", help="Text files, UTF-8, a sentence a line, plain or .gz; - for the input.")
_CASE = typer.Option(help="Change the letters of the text, to those that the acoustic model writes.")
_UNIT = typer.Option(help="letter: for models without a token between words.")


@lm_app.command("build")
def lm_build(
    texts: Annotated[list[Path], _TEXTS],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="ARPA file to write; with gzip if it ends in .gz.")
    ],
    order: Annotated[int, typer.Option(min=1, help="Words of the longest n-grams.")] = 4,
    prune: Annotated[
        str,
        typer.Option(
            metavar="COUNTS",
            help="For each order, from 1 on, the count up to which n-grams are left out, as '0 0 1'; the last holds "
            "for higher orders too.",
        ),
    ] = "0",
    case: Annotated[Case, _CASE] = Case.KEEP,
    unit: Annotated[Unit, _UNIT] = Unit.word,
) -> None:
    """Estimate an n-gram model: interpolated modified Kneser-Ney, the numbers of KenLM's lmplz."""
    from wavconformer.lm.arpa import write_arpa
    from wavconformer.lm.kneser_ney import Corpus, estimate
    from wavconformer.lm.text import read_sentences

    try:
        thresholds = [int(count) for count in prune.replace(",", " ").split()]
    except ValueError:
        raise typer.BadParameter(f"--prune '{prune}' is no list of counts, as '0 0 1'.") from None
    if output.is_dir():
        raise typer.BadParameter(f"--output '{output}' is a folder; name a file.")
    corpus = Corpus()
    with status("reading"):
        for sentence in read_sentences(texts, case.value, unit.value):
            corpus.add(sentence)
    with status("estimating") as shown:
        made = estimate(corpus, order, thresholds, progress=lambda doing: shown.update(doing) if shown else None)
    with counted("writing") as progress:
        write_arpa(made.model, output, progress)
    if made.fallbacks:
        orders = ", ".join(map(str, made.fallbacks))
        warn(f"The text is too small to tell the discounts of order {orders}: fixed ones were taken.")
    sizes = ", ".join(f"{count:,} {number}-grams" for number, count in enumerate(made.model.counts, 1))
    typer.echo(f"{output}: {made.sentences:,} sentences, {made.tokens:,} tokens; {sizes}")


@lm_app.command("perplexity")
def lm_perplexity(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="ARPA file, or a binary of KenLM's.")],
    texts: Annotated[list[Path], _TEXTS],
    case: Annotated[Case, _CASE] = Case.KEEP,
    unit: Annotated[Unit, _UNIT] = Unit.word,
) -> None:
    """Measure how well a language model foresees a text."""
    from wavconformer.lm import read_lm
    from wavconformer.lm.perplexity import perplexity
    from wavconformer.lm.text import read_sentences

    with status(f"reading {model}"):
        lm = read_lm(model)
    with status("scoring"):
        result = perplexity(lm, read_sentences(texts, case.value, unit.value))
    typer.echo(str(result))
