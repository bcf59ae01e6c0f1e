"""The words of one utterance after the other, from the frames of windows."""

from __future__ import annotations

from wavconformer.decoding.decoder import Decoder, PartDecoder
from wavconformer.decoding.joining import Frames, Joiner
from wavconformer.decoding.transcript import Segment, segments
from wavconformer.decoding.words import Word

_REMEMBERED = 30
"""Words of an utterance that its later parts are decoded after; n-grams are far shorter."""


class UtteranceDecoder:
    """Joins frames, decodes what is complete, and remembers what has been said since the last pause.

    decoder: what makes words of frames; one for which words depend on those before is told them. joiner: a fresh one.
    """

    def __init__(self, decoder: Decoder, joiner: Joiner) -> None:
        self._decoder = decoder
        self._joiner = joiner
        self._said: list[str] = []
        self._end = 0  # the frame after those that were fed

    def feed(self, frames: Frames, *, closed: bool) -> list[Segment]:
        """The segments that are complete with these frames. closed: whether a pause follows."""
        found = self.finish() if frames.first != self._end else []  # silence was left out between them
        self._end = frames.end
        found += self._decoded(self._joiner.feed(frames, closed=closed))
        if closed:
            self._said = []
        return found

    def finish(self) -> list[Segment]:
        """What still waits, at the end or before a pause."""
        found = self._decoded(self._joiner.finish())
        self._said = []
        return found

    def guess(self, frames: Frames) -> tuple[Word, ...]:
        """The words of what waits and of the frames after it, as far as they can be told by now."""
        waiting = self._joiner.waiting(frames)
        return self._words(Frames(waiting.log_probs, waiting.first, is_last=False))

    def _decoded(self, stretches: list[Frames]) -> list[Segment]:
        found: list[Segment] = []
        for stretch in stretches:
            words = self._words(stretch)
            found += segments(words)
            self._said = [*self._said, *(word.text for word in words)][-_REMEMBERED:]
        return found

    def _words(self, stretch: Frames) -> tuple[Word, ...]:
        if isinstance(self._decoder, PartDecoder):
            return self._decoder.part(stretch.log_probs, stretch.first, before=self._said, is_last=stretch.is_last)
        return self._decoder(stretch.log_probs, stretch.first)
