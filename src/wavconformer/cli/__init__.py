"""The command line: parse, call, print. Each module adds its commands to `app`, in the order of `--help`."""

from wavconformer.cli import transcribe, listen, align, classify, diarize, speakers, serve  # noqa: F401, I001
from wavconformer.cli import checkpoints, prepare, train, evaluate, lm  # noqa: F401
from wavconformer.cli.app import app, main

__all__ = ["app", "main"]
