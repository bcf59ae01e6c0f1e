"""The processor of checkpoints that carry a language model, as pyctcdecode laid them out."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wavconformer.decoding.beam import BeamDecoder, BeamSettings, Hypothesis
from wavconformer.decoding.hotwords import HOTWORD_WEIGHT
from wavconformer.decoding.posteriors import log_softmax
from wavconformer.decoding.symbols import symbols_of
from wavconformer.errors import CheckpointError, DataError
from wavconformer.files import (
    DEFAULT_MODEL,
    SOURCE_ARGUMENTS,
    Source,
    first_line,
    read_json,
    staged,
    write_json,
    write_text,
)
from wavconformer.lm import LanguageModel, read_lm
from wavconformer.lm.arpa import write_arpa
from wavconformer.lm.kenlm import KenlmMissingError
from wavconformer.lm.ngram import NgramModel
from wavconformer.processing import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor
from wavconformer.processing.batch import as_array

if TYPE_CHECKING:
    from typing_extensions import Self

ALPHABET_FILE = "alphabet.json"
LM_FOLDER = "language_model"
ATTRIBUTES_FILE = "attrs.json"
UNIGRAMS_FILE = "unigrams.txt"
_LM_SUFFIXES = (".arpa", ".gz", ".bin", ".binary", ".klm", ".trie")
_ATTRIBUTES = ("alpha", "beta", "unk_score_offset", "score_boundary")
_UNKNOWN_LABEL = "⁇"
_PADDED = -100.0  # what transformers fills up logits with


@dataclass(frozen=True, eq=False)
class Wav2Vec2DecoderWithLMOutput(Mapping[str, Any]):
    """Texts of logits. Entries are attributes and keys; of a batch each is a list, with n_best > 1 a list in that.

    text: the text. logit_score: ln P(text | audio). lm_score: that, language model and hot words together.
    word_offsets: for each word {"word", "start_offset", "end_offset"}, in frames, the end exclusive; None, and then
        no key, unless asked for.
    """

    text: Any
    logit_score: Any = None
    lm_score: Any = None
    word_offsets: Any = None

    def _given(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if value is not None}

    def __getitem__(self, key: str) -> Any:
        return self._given()[key]

    def __iter__(self) -> Any:
        return iter(self._given())

    def __len__(self) -> int:
        return len(self._given())


class Wav2Vec2ProcessorWithLM(Wav2Vec2Processor):
    """A processor whose `decode` takes logits, and searches them with a language model.

    decoder: a `BeamDecoder`, as `beam_decoder` makes it of the tokenizer and a language model.

    Raises TypeError where one of the three is something else, CheckpointError where decoder and tokenizer don't have
    the same tokens. As the class of the same name in transformers, with the same files, but: it needs neither
    pyctcdecode nor, for ARPA files, kenlm; settings given to a call hold for that call alone (there for all that
    follow); `pool` and `num_processes` are taken and ignored; word offsets are those of the likeliest path.
    """

    def __init__(
        self, feature_extractor: Wav2Vec2FeatureExtractor, tokenizer: Wav2Vec2CTCTokenizer, decoder: BeamDecoder
    ) -> None:
        super().__init__(feature_extractor, tokenizer)
        if not isinstance(decoder, BeamDecoder):
            raise TypeError(f"decoder is a {type(decoder).__name__}, but must be a BeamDecoder: see beam_decoder().")
        if decoder.blank != tokenizer.pad_token_id or decoder.symbols != symbols_of(tokenizer)[: len(decoder.symbols)]:
            raise CheckpointError("The decoder's alphabet isn't the tokenizer's: make it with beam_decoder(tokenizer).")
        self.decoder = decoder

    @property
    def language_model(self) -> LanguageModel | None:
        """The decoder's language model."""
        return self.decoder.lm

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], **kwargs: Any) -> Self:
        """The processor of a checkpoint with alphabet.json and, if it has one, the folder language_model/.

        name: a folder, or a repository of the Hugging Face Hub.
        kwargs: alpha, beta, unk_score_offset and score_boundary, in place of those of the checkpoint; the rest as
            `Wav2Vec2Processor.from_pretrained` takes it.

        Raises CheckpointError where files are missing, broken or don't fit together, WavConformerError where the
        language model is a binary and the package kenlm isn't installed.
        """
        given = {key: kwargs.pop(key) for key in _ATTRIBUTES if key in kwargs}
        kwargs.pop("unigram_encoding", None)
        source = Source.take(name, {key: value for key, value in kwargs.items() if key in SOURCE_ARGUMENTS})
        plain = Wav2Vec2Processor.from_pretrained(name, **kwargs)
        symbols = _read_alphabet(source.require(ALPHABET_FILE))
        if "" not in symbols or symbols.index("") != plain.tokenizer.pad_token_id:
            raise CheckpointError(
                f"{source}: the blank in {ALPHABET_FILE} has not the id of the tokenizer's padding token, "
                f"{plain.tokenizer.pad_token_id}."
            )
        expected = _labels(plain.tokenizer)
        for label, own in zip_longest(symbols[: len(expected)], expected):
            if label != own:
                raise CheckpointError(
                    f"{source}: where {ALPHABET_FILE} has {label!r} the tokenizer has {own!r}: they don't "
                    "belong together."
                )
        lm, settings = _read_language_model(source)
        settings = replace(settings, **{key: value for key, value in given.items() if value is not None})
        try:
            decoder = beam_decoder(plain.tokenizer, lm, settings=settings, count=len(symbols))
        except DataError as error:
            raise CheckpointError(f"{source}: {error}") from error
        return cls(plain.feature_extractor, plain.tokenizer, decoder)

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> list[Path]:
        """Writes the processor's files, alphabet.json and language_model/; returns the paths."""
        folder = Path(save_directory)
        paths = super().save_pretrained(folder)
        labels = _labels(self.tokenizer)[: len(self.decoder.symbols)]
        write_json(folder / ALPHABET_FILE, {"labels": labels, "is_bpe": False})
        paths.append(folder / ALPHABET_FILE)
        lm = self.decoder.lm
        if lm is None:
            return paths
        # A language model that was there before goes, whatever its name: a folder with two is one that nobody can use.
        with staged(folder) as unfinished:
            place = unfinished / LM_FOLDER
            place.mkdir()
            settings = self.decoder.settings
            write_json(place / ATTRIBUTES_FILE, {name: getattr(settings, name) for name in _ATTRIBUTES})
            words = [word for word in lm.words if word not in ("<unk>", "<s>", "</s>")]
            write_text(place / UNIGRAMS_FILE, "\n".join(words) + "\n")
            if lm.path is not None:
                name = lm.path.name if lm.path.suffix in _LM_SUFFIXES else f"{lm.path.name}.bin"
                shutil.copyfile(lm.path, place / name)
            else:
                assert isinstance(lm, NgramModel)  # KenLM's models come from files
                name = "lm.arpa"
                write_arpa(lm, place / name)
        return [*paths, *(folder / LM_FOLDER / file for file in (ATTRIBUTES_FILE, UNIGRAMS_FILE, name))]

    def decode(
        self,
        logits: Any,
        beam_width: int | None = None,
        beam_prune_logp: float | None = None,
        token_min_logp: float | None = None,
        hotwords: Iterable[str] | None = None,
        hotword_weight: float | None = None,
        alpha: float | None = None,
        beta: float | None = None,
        unk_score_offset: float | None = None,
        lm_score_boundary: bool | None = None,
        output_word_offsets: bool = False,
        n_best: int = 1,
    ) -> Wav2Vec2DecoderWithLMOutput:
        """The text of one recording's logits.

        logits: (T, V), as the model gives them. hotwords: words or phrases to prefer, by `hotword_weight` nats each.
        output_word_offsets: whether to give the frames of words. n_best: how many texts; more than one makes lists.

        The others are those of `BeamSettings`, by default the decoder's. Raises ValueError for what they can't be.
        """
        decoder = self._decoder(
            hotwords,
            hotword_weight,
            beam_width=beam_width,
            beam_prune_logp=beam_prune_logp,
            token_min_logp=token_min_logp,
            alpha=alpha,
            beta=beta,
            unk_score_offset=unk_score_offset,
            score_boundary=lm_score_boundary,
        )
        return _output(
            [decoder.hypotheses(_posteriors(as_array(logits)), n_best)], output_word_offsets, n_best, is_batch=False
        )

    def batch_decode(
        self,
        logits: Any,
        pool: Any = None,
        num_processes: int | None = None,
        beam_width: int | None = None,
        beam_prune_logp: float | None = None,
        token_min_logp: float | None = None,
        hotwords: Iterable[str] | None = None,
        hotword_weight: float | None = None,
        alpha: float | None = None,
        beta: float | None = None,
        unk_score_offset: float | None = None,
        lm_score_boundary: bool | None = None,
        output_word_offsets: bool = False,
        n_best: int = 1,
    ) -> Wav2Vec2DecoderWithLMOutput:
        """The texts of a batch of logits (B, T, V), or of a list of (T, V); frames of nothing but -100 are padding.

        pool, num_processes: ignored. The other arguments are those of `decode`.
        """
        decoder = self._decoder(
            hotwords,
            hotword_weight,
            beam_width=beam_width,
            beam_prune_logp=beam_prune_logp,
            token_min_logp=token_min_logp,
            alpha=alpha,
            beta=beta,
            unk_score_offset=unk_score_offset,
            score_boundary=lm_score_boundary,
        )
        rows = [as_array(row) for row in logits]
        found = decoder.hypotheses_of([_posteriors(row[(row != _PADDED).all(-1)]) for row in rows], n_best)
        return _output(found, output_word_offsets, n_best, is_batch=True)

    def _decoder(self, hotwords: Iterable[str] | None, hotword_weight: float | None, **settings: Any) -> BeamDecoder:
        weight = HOTWORD_WEIGHT if hotword_weight is None else hotword_weight
        if isinstance(hotwords, str):
            raise ValueError(f"hotwords is the text {hotwords!r}: give a list of words.")
        weights = None if hotwords is None else {word: weight for word in hotwords if word.strip()}
        return self.decoder.using(weights, **{name: value for name, value in settings.items() if value is not None})


def beam_decoder(
    tokenizer: Wav2Vec2CTCTokenizer,
    lm: LanguageModel | str | os.PathLike[str] | None = None,
    *,
    settings: BeamSettings | None = None,
    hotwords: Mapping[str, float] | Iterable[str] | None = None,
    seconds_per_frame: float = 1.0,
    count: int | None = None,
) -> BeamDecoder:
    """A decoder for the tokens of a tokenizer.

    lm: a language model, or what `find_language_model` finds one by. settings: by default those that a checkpoint has,
        or `BeamSettings()`.
    seconds_per_frame: 1 gives the times of words in frames.
    count: how many tokens the model's head has; by default as many as the tokenizer.

    Raises as `BeamDecoder` and `read_lm` do, CheckpointError where a checkpoint's language model is missing or broken.
    """
    if isinstance(lm, (str, os.PathLike)):
        lm, own = find_language_model(lm)
        settings = settings or own
    symbols = symbols_of(tokenizer, count=count or None)
    blank = tokenizer.pad_token_id
    return BeamDecoder(symbols, blank, lm, hotwords=hotwords, settings=settings, seconds_per_frame=seconds_per_frame)


def _labels(tokenizer: Wav2Vec2CTCTokenizer) -> list[str]:
    """The tokens as alphabet.json has them: "" the blank, " " the word delimiter, "⁇" what is unknown."""
    named = {tokenizer.pad_token: "", tokenizer.word_delimiter_token: " ", tokenizer.unk_token: _UNKNOWN_LABEL}
    vocabulary = {index: token for token, index in tokenizer.get_vocab().items()}
    return [named.get(token, token) for token in (vocabulary.get(index, "") for index in range(max(vocabulary) + 1))]


def _read_alphabet(path: Path) -> list[str]:
    content = read_json(path)
    labels = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise CheckpointError(f"{path} is no alphabet: it must hold 'labels', a list of texts.")
    if content.get("is_bpe"):
        raise CheckpointError(f"{path} is an alphabet of word pieces (is_bpe), but these models write letters.")
    return labels


def find_language_model(name: str | os.PathLike[str]) -> tuple[LanguageModel, BeamSettings | None]:
    """The language model that a file is or a checkpoint carries, and the settings that the latter has for it.

    name: a file, or a checkpoint with a language_model/: a folder, a repository of the Hugging Face Hub, or one that
        ships with the package.

    Raises DataError where there is neither, CheckpointError where a checkpoint's language model is missing or broken,
    and as `read_lm` does.
    """
    path = Path(name)
    source = Source.take(name, {})
    is_repository = str(name).count("/") == 1 and not path.exists() and path.suffix not in _LM_SUFFIXES
    if path.is_file():
        return read_lm(path), None
    if not (source.folder or is_repository):
        raise DataError(
            f"There is no language model '{path}': give the file of one, .arpa or .bin, or a checkpoint that has one, "
            f"as {DEFAULT_MODEL}."
        )
    lm, settings = _read_language_model(source)
    if lm is None:
        raise CheckpointError(
            f"{source} has no {LM_FOLDER}/: give the file of a language model, .arpa or .bin, or a checkpoint with one."
        )
    return lm, settings


def language_model_folder(source: Source) -> Path | None:
    """The folder of the language model that a checkpoint on this machine carries, if it does."""
    folder = None if source.folder is None else source.folder / LM_FOLDER
    return folder if folder is not None and folder.is_dir() else None


def own_language_model(source: Source) -> tuple[LanguageModel, BeamSettings] | None:
    """The language model that a checkpoint on this machine carries, with its settings; None where it has none.

    One of a repository of the Hub may be of many gigabytes, and is read only where it is asked for, by
    `find_language_model`. Where a binary can't be read for want of the package kenlm there is a UserWarning, and None.

    Raises CheckpointError where the language model is broken.
    """
    if language_model_folder(source) is None:
        return None
    try:
        lm, settings = _read_language_model(source)
    except KenlmMissingError as error:
        warnings.warn(f"{source} has a language model, but decoding is greedy. {error}", stacklevel=3)
        return None
    return None if lm is None else (lm, settings)


def _read_language_model(source: Source) -> tuple[LanguageModel | None, BeamSettings]:
    """The model in language_model/, and its settings; none where there is no such folder."""
    files = source.find_all(LM_FOLDER)
    if not files:
        return None, BeamSettings()
    named = {path.name: path for path in files}
    attributes = read_json(named[ATTRIBUTES_FILE]) if ATTRIBUTES_FILE in named else {}
    if not isinstance(attributes, dict):
        raise CheckpointError(f"{named[ATTRIBUTES_FILE]} is no JSON object.")
    models = [path for path in files if path.suffix in _LM_SUFFIXES]
    if len(models) != 1:
        found = ", ".join(path.name for path in models) or "none"
        raise CheckpointError(f"{source}: {LM_FOLDER}/ must hold one language model, .arpa or .bin, and has {found}.")
    words = None
    if UNIGRAMS_FILE in named:
        try:
            words = named[UNIGRAMS_FILE].read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(
                f"{source}: {LM_FOLDER}/{UNIGRAMS_FILE} can't be read: {first_line(error)}."
            ) from error
    try:
        settings = BeamSettings(**{key: attributes[key] for key in _ATTRIBUTES if key in attributes})
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{source}: {LM_FOLDER}/{ATTRIBUTES_FILE} can't be used: {error}") from error
    try:
        return read_lm(models[0], words), settings
    except DataError as error:
        raise CheckpointError(f"{source}: {error}") from error


def _posteriors(logits: NDArray[Any]) -> NDArray[np.float64]:
    return log_softmax(logits.astype(np.float64))


def _output(
    found: Sequence[list[Hypothesis]], with_offsets: bool, n_best: int, *, is_batch: bool
) -> Wav2Vec2DecoderWithLMOutput:
    def entry(value: Any) -> Any:
        rows = [[value(hypothesis) for hypothesis in hypotheses] for hypotheses in found]
        rows = [row[0] for row in rows] if n_best == 1 else rows
        return rows if is_batch else rows[0]

    return Wav2Vec2DecoderWithLMOutput(
        text=entry(lambda one: one.text),
        logit_score=entry(lambda one: one.acoustic),
        lm_score=entry(lambda one: one.score),
        word_offsets=entry(_offsets) if with_offsets else None,
    )


def _offsets(hypothesis: Hypothesis) -> list[dict[str, Any]]:
    return [
        {"word": word.text, "start_offset": int(word.start), "end_offset": int(word.end)} for word in hypothesis.words
    ]
