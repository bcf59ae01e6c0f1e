"""How words are searched for, as a command or an evaluation says it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wavconformer.decoding.decoder import Decoder
from wavconformer.errors import CheckpointError

if TYPE_CHECKING:
    from wavconformer.tasks.transcribe import Transcriber


@dataclass(frozen=True)
class Search:
    """A beam search with a language model, hot words, or both; greedy decoding where there is neither.

    lm: as `load_model` takes it: by default the checkpoint's own, if it carries one. hotwords: with their weights.
    beam: the fields of `BeamSettings` that are to differ from those of the checkpoint or the defaults.
    """

    lm: str | os.PathLike[str] | bool = True
    hotwords: Mapping[str, float] = field(default_factory=dict)
    beam: Mapping[str, Any] = field(default_factory=dict)

    def load(self, name: str | os.PathLike[str] | None = None, **arguments: Any) -> Transcriber:
        """What `load_model` gives, which takes the arguments, with this search as its decoder.

        Raises as `load_model` and `Transcriber.beam_decoder` do, and CheckpointError where a language model is to be
        weighed, but there is none.
        """
        from wavconformer.tasks.transcribe import load_model

        transcriber = load_model(name, lm=self.lm, **arguments)
        if self.hotwords or self.beam:
            decoder = transcriber.beam_decoder(hotwords=self.hotwords).using(**self.beam)
            if decoder.lm is None and not {"alpha", "beta"}.isdisjoint(self.beam):
                raise CheckpointError(
                    f"'{transcriber.name}' carries no language model that can be read here, for alpha and beta to "
                    "weigh: give one with --lm, or leave them out."
                )
            transcriber.decoder = decoder
        return transcriber


def described(decoder: Decoder) -> str:
    """What a decoder does, in a few words."""
    from wavconformer.decoding.beam import BeamDecoder

    if not isinstance(decoder, BeamDecoder):
        return "greedy"
    settings, hot = decoder.settings, len(decoder.hotwords.weights)
    parts = [f"beam search of width {settings.beam_width}"]
    if decoder.lm is not None:
        path = decoder.lm.path
        # That of a checkpoint is known by the checkpoint's name.
        name = "" if path is None else "/".join(path.parts[-3:]) if path.parent.name == "language_model" else str(path)
        parts.append(f"language model {name}, alpha {settings.alpha:g}, beta {settings.beta:g}")
    if hot:
        parts.append(f"{hot} hot word{'s' if hot > 1 else ''}")
    return ", ".join(parts)
