"""How words are searched for in place of greedy decoding, as a command or an evaluation says it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wavconformer.decoding.beam import BeamDecoder
    from wavconformer.tasks.transcribe import Transcriber


@dataclass(frozen=True)
class Search:
    """A beam search with a language model, hot words, or both.

    lm: a language model's file, or a checkpoint that carries one. hotwords: with their weights. beam: the fields of
    `BeamSettings` that are to differ from those of the checkpoint or the defaults.
    """

    lm: str | os.PathLike[str] | None = None
    hotwords: Mapping[str, float] = field(default_factory=dict)
    beam: Mapping[str, Any] = field(default_factory=dict)

    def decoder(self, transcriber: Transcriber) -> BeamDecoder:
        """The decoder for a model. Raises as `Transcriber.beam_decoder` does."""
        decoder = transcriber.beam_decoder(self.lm, hotwords=self.hotwords)
        return decoder.using(**self.beam)
