"""`wavconformer finetune`, `pretrain` and `merge`."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wavconformer.cli.app import app
from wavconformer.cli.terminal import err

if TYPE_CHECKING:
    from wavconformer.training.loop import Outcome

_RECIPE = typer.Argument(metavar="RECIPE.yaml", help="What to train on, how, and where to write; see recipes/.")
_OVERRIDES = typer.Argument(metavar="[KEY=VALUE]...", help="Settings over those of the recipe, as optim.lr=3e-4.")
_RESUME = typer.Option("--resume", help="Go on from the newest checkpoint in the run's folder, if there is one.")


@app.command()
def finetune(
    recipe: Annotated[Path, _RECIPE],
    overrides: Annotated[list[str] | None, _OVERRIDES] = None,
    resume: Annotated[bool, _RESUME] = False,
) -> None:
    """Train on labels: transcripts, classes, speakers, who speaks when; all weights, adapters, or LoRA.

    The run's folder (logging.folder) gets checkpoints, metrics, curves, and at the end the model. Ctrl-C and SIGTERM
    save before they end it. For several processes: accelerate launch -m wavconformer finetune …
    """
    from wavconformer.training.finetune import finetune as tuned

    _tell(tuned(recipe, overrides or (), resume=resume, console=err))


@app.command()
def pretrain(
    recipe: Annotated[Path, _RECIPE],
    overrides: Annotated[list[str] | None, _OVERRIDES] = None,
    resume: Annotated[bool, _RESUME] = False,
) -> None:
    """Train on speech without labels. The run's folder and --resume are as with finetune."""
    from wavconformer.training.pretrain import pretrain as trained

    _tell(trained(recipe, overrides or (), resume=resume, console=err))


def _tell(outcome: Outcome) -> None:
    """Says, in the first of several processes, where a run has got to; exit code 130 or 143 after a signal."""
    is_first = os.environ.get("RANK", "0") == "0"
    if outcome.stopped_by is None:
        if is_first:
            typer.echo(str(outcome.model))
        return
    if is_first:
        if outcome.saved == outcome.step:
            kept = "and saved"
        else:
            of = f"checkpoint {outcome.saved} is" if outcome.saved else "nothing is"
            kept = f"with weights that aren't finite: {of} kept"
        err.print(f"[yellow]Stopped at update {outcome.step} {kept}. The same command with --resume goes on.[/yellow]")
    raise typer.Exit(128 + signal.Signals[outcome.stopped_by])


@app.command()
def merge(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What a run with model.adapter or model.lora gave.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder to write the whole checkpoint to.")],
    base: Annotated[str | None, typer.Option(help="The checkpoint it was trained beside, if it has moved.")] = None,
) -> None:
    """Make one checkpoint of an adapter or LoRA and the model that it was trained beside."""
    from wavconformer.training.merge import merge as merged

    typer.echo(str(merged(folder, output, base)))
