"""Text and speech brought together: a recording and what is said in it in, the time of each word out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavconformer.audio import AudioSource
from wavconformer.audio.windows import Cutting
from wavconformer.decoding.alignment import Alignment, SpelledLine, align_lines, labels_of
from wavconformer.decoding.numerals import Numerals
from wavconformer.decoding.spelling import Speller
from wavconformer.decoding.transcript import Segment, Transcript
from wavconformer.decoding.words import Word
from wavconformer.errors import AudioError, DataError
from wavconformer.tasks.hearing import hear
from wavconformer.tasks.recording import describe
from wavconformer.tasks.transcribe import Transcriber, load_model
from wavconformer.writers import render

if TYPE_CHECKING:
    import torch

_LONGEST_NAME = 256  # characters; longer texts are no names of files
# Lines, and texts as a whole, whose score is below it probably aren't what is said.
THRESHOLD = 0.15


def align(
    source: AudioSource,
    text: str | os.PathLike[str] | Sequence[str],
    *,
    model: Transcriber | str | os.PathLike[str] | None = None,
    language: str | None = None,
    sampling_rate: int | None = None,
    device: torch.device | str | None = None,
    batch_seconds: float | None = None,
    progress: Callable[[float], None] = lambda seconds: None,
    **cutting: Any,
) -> Alignment:
    """Finds when each line, word and character of a text is said in a recording of any length.

    source: path, bytes, file object, or a mono array with its `sampling_rate`.
    text: what is said, line by line: a string, a list of lines, or the path (a `pathlib.Path`) of a text file. Speech
        before, between and after the lines that no line has, and lines that aren't said, are found and told of.
    model: what `load_model` gave, or a name for it; the checkpoint that ships with the package by default.
    language: in which numbers and signs are read out, such as "en" (needs num2words); without one they are wildcards.
    batch_seconds: of audio that go through the model at once, by default what suits the device.
    progress: is told the seconds of audio that are done.
    cutting: window_seconds, context_seconds, pause_seconds and vad, as `wavconformer.Cutting` has them.

    Raises DataError where the text is empty, can't be read or has nothing that the model's vocabulary can spell,
    ValueError for a string that is a file's name, and what `Transcriber` and `Numerals` raise.
    """
    settings = Cutting(**cutting)
    lines = read_lines(text)
    if not isinstance(model, Transcriber):
        model = load_model(model, device=device, lm=False)
    tokenizer = model.processor.tokenizer
    speller = Speller(tokenizer, None if language is None else Numerals(language))
    spelled = [
        SpelledLine(number, line, tuple(words))
        for number, line in enumerate(lines, start=1)
        if (words := speller.words(line))
    ]
    if not any(not word.is_wildcard for line in spelled for word in line.words):
        what = "is empty" if not any(line.strip() for line in lines) else f"has no letter that {model.name} can spell"
        raise DataError(f"The text{_named(text)} {what}: give what is said in the recording, in the model's language.")
    evidence = hear(
        model,
        source,
        labels_of(spelled, model.blank, speller.delimiter),
        speller.delimiter,
        sampling_rate=sampling_rate,
        cutting=settings,
        batch_seconds=batch_seconds,
        progress=progress,
    )
    if len(evidence) <= len(spelled):
        raise AudioError(
            f"{describe(source)} is {evidence.duration:.1f} s long, too short for {len(spelled)} lines of text."
        )
    return align_lines(spelled, evidence, speller.delimiter)


def read_lines(text: str | os.PathLike[str] | Sequence[str]) -> list[str]:
    """The lines of a text, of a text file in UTF-8, or as they are given.

    Raises DataError for a file that can't be read, ValueError for a text that is the name of one.
    """
    if isinstance(text, str):
        if len(text) < _LONGEST_NAME and Path(text).is_file():
            raise ValueError(f"The text '{text}' is the name of a file: give pathlib.Path('{text}') for what is in it.")
        return text.splitlines()
    if isinstance(text, os.PathLike):
        path = Path(text)
        try:
            return decoded_lines(path.read_bytes(), f"The text '{path}'")
        except OSError as error:
            raise DataError(f"The text '{path}' can't be read: {error.strerror}.") from error
    return [" ".join(line.split()) for line in text]


def decoded_lines(content: bytes, name: str) -> list[str]:
    """The lines of UTF-8. name: what a message calls them. Raises DataError where they are in another encoding."""
    try:
        return content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{name} isn't in UTF-8 (at byte {error.start}): convert it.") from error


def render_alignment(
    alignment: Alignment,
    format: str,
    name: str,
    *,
    audio: str | os.PathLike[str] | None = None,
    folder: Path | None = None,
) -> str:
    """An alignment as text, with a newline at the end.

    format: "tsv", a row for each line with its number, start, end, score and text; "json", all that there is; or
        another of `wavconformer.writers.FORMATS`, with a segment for each line that is heard. name: what the recording
        is called. audio, folder: for html alone, as `wavconformer.writers.render` takes them.

    Raises ValueError for another format.
    """
    if format == "json":
        return json.dumps({"file": name, **alignment.as_dict()}, ensure_ascii=False) + "\n"
    if format == "tsv":
        rows = [
            f"{line.number}\t{line.start:.3f}\t{line.end:.3f}\t{_number(line.score)}\t{' '.join(line.text.split())}"
            for line in alignment.lines
        ]
        return "".join(f"{row}\n" for row in ["line\tstart\tend\tscore\ttext", *rows])
    return render(as_transcript(alignment), format, name=name, audio=audio, folder=folder)


def as_transcript(alignment: Alignment) -> Transcript:
    """The lines that are heard as segments, and their words with their scores for probabilities."""
    return Transcript.of(
        (
            Segment(
                line.text,
                line.start,
                line.end,
                tuple(Word(word.text, word.start, word.end, word.score) for word in line.words),
            )
            for line in alignment.lines
            if not line.is_interpolated
        ),
        alignment.duration,
    )


def _number(score: float | None) -> str:
    return "NA" if score is None else f"{score:.3f}"


def _named(text: str | os.PathLike[str] | Sequence[str]) -> str:
    return f" '{os.fspath(text)}'" if isinstance(text, os.PathLike) else ""
