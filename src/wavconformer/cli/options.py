"""Options that commands share."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from wavconformer.cli.terminal import status

if TYPE_CHECKING:
    from wavconformer.tasks.search import Search
    from wavconformer.tasks.transcribe import Transcriber


class Format(str, Enum):
    """Of the text that `transcribe` gives."""

    txt = "txt"
    json = "json"
    srt = "srt"
    vtt = "vtt"
    tsv = "tsv"
    ctm = "ctm"
    textgrid = "TextGrid"
    html = "html"


class Vad(str, Enum):
    """What finds the pauses of long recordings."""

    auto = "auto"
    silero = "silero"
    energy = "energy"
    off = "off"


class Engine(str, Enum):
    """What runs the model."""

    torch = "torch"
    onnx = "onnx"


class Quantization(str, Enum):
    """Of a model's weights."""

    int8 = "int8"


class Case(Enum):
    """Of the letters in texts that `prepare` writes."""

    KEEP = "keep"
    UPPER = "upper"
    LOWER = "lower"


Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Folder, Hub repository, or 'tiny-en', which ships with the package.")
]


# Of the commands that run a model on recordings.
MODEL = typer.Option(help="Folder or Hub repository; by default the checkpoint that ships along.")
DEVICE = typer.Option(help="cpu, cuda, mps; by default the fastest at hand.")
TARGET_LANG = typer.Option(help="Language, such as 'fra', of a model with adapters for several.")
QUANTIZATION = typer.Option(help="int8: faster on a CPU, nearly as accurate.")
ENGINE = typer.Option(help="onnx: run the graph that `export` wrote; by default what MODEL holds.")
THREADS = typer.Option(min=1, help="CPU threads; by default all cores.")
BATCH_SECONDS = typer.Option(min=0.1, help="Audio that is computed at once; by default what suits the device.")
OUTPUT = typer.Option(help="Folder to write a file for each recording to, instead of printing.")
RESUME = typer.Option("--resume", help="With --output: leave out the recordings whose file is there already.")
LM = typer.Option(
    "--lm",
    metavar="FILE|none",
    help="Language model in place of the one that the checkpoint carries, if it does: ARPA (see `lm build`), a binary "
    "of KenLM's, or a checkpoint that has one. 'none': without any, greedy decoding (a file of that name is ./none).",
)
ALPHA = typer.Option(help="Weight of the language model, by default 0.5, or what a checkpoint has.")
BETA = typer.Option(help="Bonus of each word with a language model, by default 1.5, or what a checkpoint has.")
BEAM = typer.Option(min=1, help="Width of the beam search, by default 100.")
HOTWORD = typer.Option(metavar="TEXT[=WEIGHT]", help="Word or phrase to prefer, by 10 if not said; may be repeated.")


def loaded(
    model: str | None,
    device: str | None,
    target_lang: str | None,
    quantization: Quantization | None,
    engine: Engine | None,
    threads: int | None,
    search: Search | None = None,
) -> Transcriber:
    """The model that these options name. search: how it finds words, by `search_of`; None decodes greedily."""
    from wavconformer.tasks.search import Search

    with status(f"loading {model or 'the shipped model'}"):
        return (search or Search(lm=False)).load(
            model,
            device=device,
            quantization=None if quantization is None else quantization.value,
            engine=None if engine is None else engine.value,
            threads=threads,
            target_lang=target_lang,
        )


def use_threads(threads: int | None) -> None:
    """Bounds the CPU threads of a model that isn't loaded by `loaded`."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def search_of(
    lm: str | None,
    alpha: float | None = None,
    beta: float | None = None,
    beam: int | None = None,
    hotword: list[str] | None = None,
) -> Search:
    """The search that these options ask for. Complains of what doesn't go together."""
    from wavconformer.tasks.search import Search

    own: str | bool = True if lm is None else lm
    if lm == "none":  # ./none is a file
        own = False
        if not (alpha is None and beta is None):
            raise typer.BadParameter("--alpha and --beta weigh a language model, and --lm none is without one.")
    given = {"alpha": alpha, "beta": beta, "beam_width": beam}
    return Search(own, _weights(hotword or []), {name: value for name, value in given.items() if value is not None})


def _weights(options: list[str]) -> dict[str, float]:
    from wavconformer.decoding.hotwords import read_hotwords

    try:
        return read_hotwords(options)
    except ValueError as error:
        raise typer.BadParameter(f"--hotword {error}") from None
