"""Text ↔ the ids of letters, as CTC models have them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy as np
from numpy.typing import NDArray

from wavconformer.errors import CheckpointError
from wavconformer.files import Source, push_folder, read_json, write_json
from wavconformer.processing.batch import BatchEncoding, as_array, columns, is_tensor
from wavconformer.processing.padding import (
    check_lengths,
    check_side,
    padded_lengths,
    padding_strategy,
    span,
    truncates,
)
from wavconformer.processing.reading import (
    Wav2Vec2CTCTokenizerOutput,
    as_ids,
    flat_rows,
    read,
    without_needless_spaces,
)
from wavconformer.processing.splitting import AddedToken, Splitter
from wavconformer.processing.vocabulary import Flat, Vocabulary, is_nested, of_language, read_vocabulary

if TYPE_CHECKING:
    from typing_extensions import Self

VOCABULARY_FILE = "vocab.json"
SETTINGS_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
ADDED_TOKENS_FILE = "added_tokens.json"

UNLIMITED = int(1e30)  # how the Hugging Face files write "no longest text"
_NO_LIMIT_ABOVE = int(1e20)

# The order in which special tokens that the vocabulary lacks get their ids.
_STANDARD_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

# Those of them whose absence a file says with null, for a tokenizer has them by default.
_ALWAYS_WRITTEN = ("bos_token", "eos_token", "unk_token", "pad_token", "word_delimiter_token")

# The entries of a batch with a number for each token.
_PADDED = {"input_ids", "attention_mask"}

# What stands in saved settings and isn't one: names of classes and files, and where they once lay.
_NO_SETTINGS = (
    "backend",
    "files_loaded",
    "init_inputs",
    "is_local",
    "local_files_only",
    "name_or_path",
    "processor_class",
    "special_tokens_map_file",
    "tokenizer_class",
    "tokenizer_config_file",
    "tokenizer_file",
    "vocab_file",
)


def _special_token(name: str) -> Any:
    """A property for the text of a special token, or None where the tokenizer has no such token."""

    def read(self: Wav2Vec2CTCTokenizer) -> str | None:
        return self._special.get(name)

    def write(self: Wav2Vec2CTCTokenizer, token: str | None) -> None:
        self._special[name] = token
        self._forget()

    return property(read, write, doc=f"The {name.replace('_', ' ')}, or None.")


def _special_token_id(name: str) -> Any:
    """A property for the id of a special token; setting it takes the token of that id."""

    def read(self: Wav2Vec2CTCTokenizer) -> int | None:
        token = self._special.get(name)
        return None if token is None else self.convert_tokens_to_ids(token)

    def write(self: Wav2Vec2CTCTokenizer, index: int) -> None:
        setattr(self, name, self.convert_ids_to_tokens(index))

    return property(read, write, doc=f"The id of the {name.replace('_', ' ')}, or None.")


class Wav2Vec2CTCTokenizer:
    """Splits text into characters and their ids, and reads the labels of a CTC model's frames as text.

    vocab_file: a vocab.json, or the dictionary as it stands in one: tokens and their ids, or, nested, such
        a dictionary for each language.
    bos_token, eos_token, unk_token, pad_token: special tokens; `pad_token` is the CTC blank too. One that the
        vocabulary lacks gets an id behind it.
    word_delimiter_token: what stands for a space among the labels.
    replace_word_delimiter_char: what stands for it in decoded text.
    do_lower_case: whether text is lower case: it becomes upper case for the labels, and lower on decoding.
    target_lang: which vocabulary of a nested one is used.
    model_max_length: the limit of truncation, and target of padding='max_length', if a call gives none;
        None for no limit.
    padding_side, truncation_side: 'right' or 'left'.
    clean_up_tokenization_spaces: whether decoding takes away spaces before marks such as '.' and "n't".
    split_special_tokens: whether special tokens within a text are split into characters like the rest.
    extra_special_tokens: further special tokens, a list, or a dictionary with their names.
    added_tokens_decoder: ids and tokens (`AddedToken` or its dictionary) from outside the vocabulary.
    kwargs: those that end in `_token` are special tokens by name; others are kept and written back.

    Raises CheckpointError for a vocabulary file, ValueError for a vocabulary or setting that can't be used.

    Ids, tokens, texts and offsets equal those of the class of the same name in transformers, but for these,
    where that one errs:

    - a word delimiter other than '|' survives saving and loading, and may have several characters; None
      leaves spaces as they are;
    - `set_target_lang` leaves nothing of the former language behind: it equals a fresh tokenizer;
    - a token that gets an id behind a vocabulary with holes never gets one that is taken;
    - among tokens of several characters that overlap the leftmost, and there the longest, always wins;
    - a character outside the vocabulary is `unk_token` also where that stands outside the vocabulary
      (there: None);
    - an empty text alone is padded to `max_length` like one in a batch;
    - rows of unequal lengths with return_tensors='np' are refused (there: an array of objects);
    - `decode` reads a lone id as a frame (there its token's characters are the frames), and refuses floats;
    - special tokens that are set as attributes, the word delimiter too, count at once.

    Pairs of texts, and texts that are given as lists of words or ids, are no input of a CTC model: a call takes
    texts, and the arguments that it lists.
    """

    model_input_names: ClassVar[list[str]] = ["input_ids", "attention_mask"]

    bos_token = _special_token("bos_token")
    eos_token = _special_token("eos_token")
    unk_token = _special_token("unk_token")
    sep_token = _special_token("sep_token")
    pad_token = _special_token("pad_token")
    cls_token = _special_token("cls_token")
    mask_token = _special_token("mask_token")
    word_delimiter_token = _special_token("word_delimiter_token")
    bos_token_id = _special_token_id("bos_token")
    eos_token_id = _special_token_id("eos_token")
    unk_token_id = _special_token_id("unk_token")
    sep_token_id = _special_token_id("sep_token")
    pad_token_id = _special_token_id("pad_token")
    cls_token_id = _special_token_id("cls_token")
    mask_token_id = _special_token_id("mask_token")
    word_delimiter_token_id = _special_token_id("word_delimiter_token")

    def __init__(
        self,
        vocab_file: str | os.PathLike[str] | Mapping[str, Any],
        bos_token: str | None = "<s>",
        eos_token: str | None = "</s>",
        unk_token: str | None = "<unk>",
        pad_token: str | None = "<pad>",
        word_delimiter_token: str | None = "|",
        replace_word_delimiter_char: str = " ",
        do_lower_case: bool = False,
        target_lang: str | None = None,
        *,
        model_max_length: int | None = None,
        padding_side: str = "right",
        truncation_side: str = "right",
        clean_up_tokenization_spaces: bool = False,
        split_special_tokens: bool = False,
        extra_special_tokens: Sequence[Any] | Mapping[str, Any] | None = None,
        added_tokens_decoder: Mapping[Any, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.vocab: Vocabulary = read_vocabulary(vocab_file)
        self.replace_word_delimiter_char = replace_word_delimiter_char
        self.do_lower_case = do_lower_case
        self.model_max_length = UNLIMITED if model_max_length is None else model_max_length
        self.padding_side = check_side("padding_side", padding_side)
        self.truncation_side = check_side("truncation_side", truncation_side)
        self.clean_up_tokenization_spaces = clean_up_tokenization_spaces
        self.split_special_tokens = split_special_tokens

        former = kwargs.pop("additional_special_tokens", None)  # the name of older versions
        extra = extra_special_tokens or former or ()
        given: dict[str, Any] = {
            "bos_token": bos_token,
            "eos_token": eos_token,
            "unk_token": unk_token,
            "pad_token": pad_token,
            **(extra if isinstance(extra, Mapping) else {}),
            "word_delimiter_token": word_delimiter_token,
            **{key: kwargs.pop(key) for key in list(kwargs) if key.endswith("_token") and _is_token(kwargs[key])},
        }
        order = [*_STANDARD_TOKENS, *(name for name in given if name not in _STANDARD_TOKENS)]
        self._special: dict[str, str | None] = {
            name: None if given.get(name) is None else _added_token(given[name]).content for name in order
        }
        unnamed = () if isinstance(extra, Mapping) else extra
        self.extra_special_tokens = [_added_token(token).content for token in unnamed]
        self._unknown = kwargs

        if not isinstance(added_tokens_decoder, Mapping | None):
            raise TypeError(f"added_tokens_decoder is {added_tokens_decoder!r}, but must map ids to tokens.")
        added = {int(index): _added_token(token) for index, token in (added_tokens_decoder or {}).items()}
        self._fixed: dict[int, AddedToken] = {}  # tokens whose ids a file has laid down
        self._own: list[AddedToken] = []  # tokens that were added to whatever vocabulary is in use
        if is_nested(self.vocab):
            # A file has the tokens of the language it was saved with too: those come from the vocabulary.
            here = of_language(self.vocab, target_lang)
            anywhere = {content for flat in self.vocab.values() for content in flat}
            self._own = [
                token
                for _, token in sorted(added.items())
                if token.content not in anywhere or (len(token.content) == 1 and token.content in here)
            ]
        else:
            self._fixed = added
        self._choose(target_lang)

    def _choose(self, target_lang: str | None) -> None:
        """Takes a language's vocabulary into use, and gives ids to the tokens from outside it."""
        self.encoder = of_language(self.vocab, target_lang)
        self.target_lang = target_lang
        self.decoder = {index: token for token, index in self.encoder.items()}
        self._added = dict(self._fixed)
        self._added_ids = {token.content: index for index, token in self._added.items()}
        kept = {*self._added_ids, *(token.content for token in self._own)}
        for content in self.all_special_tokens:
            if content not in kept:
                self._add(AddedToken(content, special=True))
        for content in self.encoder:
            if len(content) > 1:
                self._add(AddedToken(content, lstrip=True, rstrip=True))
        for token in self._own:
            self._add(token)
        self._forget()

    def _add(self, token: AddedToken) -> bool:
        """Keeps the encoder from splitting a token; returns whether it needed a new id."""
        index = self._added_ids.get(token.content, self.encoder.get(token.content))
        is_new = index is None
        if index is None:
            index = len(self)
            while index in self.decoder or index in self._added:  # the vocabulary has holes
                index += 1
        self._added[index] = token
        self._added_ids[token.content] = index
        return is_new

    def _forget(self) -> None:
        """Drops what was derived from the tokens; it is derived anew when needed."""
        for name in ("_ids", "_splitter", "_table"):
            self.__dict__.pop(name, None)

    # Tokens and their ids

    @property
    def vocab_size(self) -> int:
        """The number of tokens in the vocabulary, without added ones."""
        return len(self.decoder)

    def __len__(self) -> int:
        """The number of tokens, added ones included."""
        return len(self.encoder.keys() | self._added_ids.keys())

    def get_vocab(self) -> Flat:
        """All tokens and their ids, added ones included."""
        return {**self.encoder, **self.get_added_vocab()}

    def get_added_vocab(self) -> Flat:
        """The tokens that the encoder finds as a whole, and their ids, in the order of the ids."""
        return {token.content: index for index, token in self.added_tokens_decoder.items()}

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """The tokens that the encoder finds as a whole, by id."""
        return dict(sorted(self._added.items()))

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """The special tokens that have a name, by name."""
        return {name: token for name, token in self._special.items() if token is not None}

    @property
    def all_special_tokens(self) -> list[str]:
        """The special tokens, each once: those with a name first, then the extra ones."""
        return list(dict.fromkeys([*self.special_tokens_map.values(), *self.extra_special_tokens]))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of the special tokens."""
        return self.convert_tokens_to_ids(self.all_special_tokens)

    def add_tokens(
        self, new_tokens: str | AddedToken | Sequence[str | AddedToken], special_tokens: bool = False
    ) -> int:
        """Adds tokens that the encoder finds as a whole; returns how many needed a new id.

        new_tokens: texts or `AddedToken`s. One from the vocabulary keeps its id.
        special_tokens: whether they are special tokens, which decoding can skip.
        """
        if isinstance(new_tokens, (str, AddedToken)):
            new_tokens = [new_tokens]
        added = 0
        for given in new_tokens:
            token = _added_token(given)
            if special_tokens:
                token = replace(token, special=True)
            if not token.content:
                continue
            if token.special and token.content not in self.all_special_tokens:
                self.extra_special_tokens.append(token.content)
            self._own.append(token)
            added += self._add(token)
        self._forget()
        return added

    def set_target_lang(self, target_lang: str) -> None:
        """Changes to another language of a nested vocabulary; ValueError where there is no such."""
        if target_lang is None:
            raise ValueError("target_lang is None: name a language.")
        self._choose(target_lang)

    # Text to ids

    @cached_property
    def _ids(self) -> Flat:
        return {**self.encoder, **self._added_ids}

    @cached_property
    def _splitter(self) -> Splitter:
        return Splitter(self._added.values())

    def tokenize(self, text: str) -> list[str]:
        """The tokens of a text: those that are found as a whole, and the characters between them."""
        if self.split_special_tokens:
            return self._characters(text)
        tokens = []
        for piece, is_token in self._splitter.split(text):
            tokens.extend([piece] if is_token else self._characters(piece))
        return tokens

    def _characters(self, text: str) -> list[str]:
        if self.do_lower_case:
            text = text.upper()
        delimiter = self.word_delimiter_token
        if delimiter is None:
            return list(text)
        return [delimiter if character == " " else character for character in text]

    @overload
    def convert_tokens_to_ids(self, tokens: str) -> int: ...
    @overload
    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int]: ...
    def convert_tokens_to_ids(self, tokens: str | list[str]) -> int | list[int]:
        """The id of a token, or the ids of several; that of `unk_token` for what isn't in the vocabulary.

        Raises ValueError where that is missing too.
        """
        if isinstance(tokens, str):
            return self.convert_tokens_to_ids([tokens])[0]
        unknown = None if self.unk_token is None else self._ids.get(self.unk_token)
        ids = []
        for token in tokens:
            index = self._ids.get(token, unknown)
            if index is None:
                raise ValueError(f"{token!r} isn't in the vocabulary, and there is no unk_token to stand for it.")
            ids.append(index)
        return ids

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        *,
        text_target: str | Sequence[str] | None = None,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_attention_mask: bool | None = None,
        add_special_tokens: bool = True,
    ) -> BatchEncoding:
        """The ids of a text, or of a batch of texts.

        text: a text or a list of texts.
        text_target: texts whose ids become `labels`; alone it is taken as `text`.
        padding: True or 'longest' pads to the longest row, 'max_length' to `max_length`, False not at all.
        truncation: whether rows beyond `max_length` are cut; by default they are if padding is off.
        max_length: tokens; `model_max_length` if not given.
        pad_to_multiple_of: the padded length is rounded up to a multiple.
        padding_side: overrides the attribute of that name.
        return_tensors: 'np' or 'pt' for int64 arrays or tensors (B, L); None for lists.
        return_attention_mask: whether there is an `attention_mask`; there is by default.
        add_special_tokens: without effect, since texts of CTC models get none.

        Returns `input_ids` and `attention_mask`, 1 for a real token; of a lone text without tensors, flat
        lists. Raises TypeError for what isn't text, ValueError for settings that don't fit.
        """
        if text is None and text_target is None:
            raise ValueError("There is nothing to encode: give text or text_target.")
        options = {
            "padding": padding,
            "truncation": truncation,
            "max_length": max_length,
            "multiple": pad_to_multiple_of,
            "side": padding_side,
            "return_tensors": return_tensors,
            "masked": return_attention_mask,
        }
        batch = self._encoded(text_target if text is None else text, **options)
        if text is not None and text_target is not None:
            batch["labels"] = self._encoded(text_target, **options)["input_ids"]
        return batch

    def encode(self, text: str | Sequence[str], **kwargs: Any) -> Any:
        """The `input_ids` of a call with the same arguments."""
        return self(text, **kwargs)["input_ids"]

    def _encoded(
        self,
        text: Any,
        *,
        padding: Any,
        truncation: Any,
        max_length: Any,
        multiple: Any,
        side: Any,
        return_tensors: Any,
        masked: Any,
    ) -> BatchEncoding:
        check_lengths(max_length, multiple)
        strategy = padding_strategy(padding)
        if truncation is None:
            cuts = max_length is not None and strategy == "do_not_pad"
        else:
            cuts = truncates(truncation)
        if max_length is None and self.model_max_length <= _NO_LIMIT_ABOVE:
            max_length = self.model_max_length
        if cuts and strategy != "do_not_pad" and max_length and multiple and max_length % multiple:
            raise ValueError(
                f"max_length={max_length} is no multiple of pad_to_multiple_of={multiple}, so rows can't be cut "
                "to the one and padded to the other."
            )
        rows = [self.convert_tokens_to_ids(self.tokenize(one)) for one in _texts(text)]
        if cuts and max_length is not None:
            rows = [row[-max_length:] if self.truncation_side == "left" else row[:max_length] for row in rows]
        batch = self._padded({"input_ids": rows}, padding, max_length, multiple, side, masked)
        if isinstance(text, str) and return_tensors is None:
            return BatchEncoding({key: rows[0] for key, rows in batch.items()})
        return _delivered(batch, return_tensors)

    def pad(
        self,
        encoded_inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
    ) -> BatchEncoding:
        """Pads rows of `input_ids` that were made one by one, as a data collator needs it.

        encoded_inputs: a mapping with `input_ids` (a list of rows, or (B, L); or one row alone), or a list of
            mappings, one for each example. An `attention_mask` is padded along; other entries pass through.
        return_tensors: as in a call; by default the kind of the given rows: 'pt' for tensors, 'np' for
            arrays, None for lists.

        The other arguments are those of a call. Raises ValueError where rows or settings don't fit.
        """
        features = columns(encoded_inputs, "input_ids")
        check_lengths(max_length, pad_to_multiple_of)
        given = features["input_ids"]
        first = given[0] if len(given) else given
        if return_tensors is None:
            if is_tensor(first):
                return_tensors = "pt"
            elif isinstance(first, (np.ndarray, np.generic)):
                return_tensors = "np"
        features = {key: _as_lists(value) for key, value in features.items()}
        alone = len(given) > 0 and not isinstance(features["input_ids"][0], list)
        if alone:
            features = {key: [value] for key, value in features.items()}
        rows = features["input_ids"]
        for key, value in features.items():
            if len(value) != len(rows):
                raise ValueError(f"'{key}' has {len(value)} rows, 'input_ids' has {len(rows)}.")
        if max_length is None and self.model_max_length <= _NO_LIMIT_ABOVE:
            max_length = self.model_max_length
        batch = self._padded(features, padding, max_length, pad_to_multiple_of, padding_side, return_attention_mask)
        batch = _delivered(batch, return_tensors)
        return BatchEncoding({key: value[0] for key, value in batch.items()}) if alone else batch

    def _padded(
        self,
        features: dict[str, Any],
        padding: bool | str,
        max_length: int | None,
        multiple: int | None,
        side: str | None,
        masked: bool | None,
    ) -> dict[str, Any]:
        """The entries with the ids, and what belongs to each id, padded; lists of lists."""
        strategy = padding_strategy(padding)
        if strategy == "max_length" and max_length is None:
            strategy = "do_not_pad"  # no limit to pad to
        if strategy != "do_not_pad" and self.pad_token is None:
            raise ValueError("There is no pad_token to pad with: set tokenizer.pad_token.")
        side = self.padding_side if side is None else check_side("padding_side", side)
        rows = features["input_ids"]
        features = dict(features)
        if masked or masked is None:
            features.setdefault("attention_mask", [[1] * len(row) for row in rows])
        widths = padded_lengths([len(row) for row in rows], strategy, max_length, multiple)
        fillers = {"input_ids": self.pad_token_id, "attention_mask": 0}
        for key in fillers.keys() & features.keys():
            features[key] = [
                [fillers[key]] * places.start + list(row) + [fillers[key]] * (width - places.stop)
                for row, width in zip(features[key], widths, strict=True)
                for places in [span(len(row), width, side)]
            ]
        return features

    # Ids to text

    @cached_property
    def _table(self) -> tuple[list[str], NDArray[np.int32]]:
        """The texts that ids stand for, and for each id, and for all that are none, the place in that list.

        The place of an id without text is -1, where there is no unk_token.
        """
        size = max([*self.decoder, *self._added]) + 1
        places: dict[str, int] = {}
        codes = np.empty(size + 1, np.int32)
        for index in range(size + 1):
            token = self._token_of(index)
            codes[index] = -1 if token is None else places.setdefault(token, len(places))
        return list(places), codes

    def _token_of(self, index: int) -> str | None:
        if index in self.decoder:
            return self.decoder[index]
        return self._added[index].content if index in self._added else self.unk_token

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """The token of an id, a str, or the tokens of several, a list; `unk_token` for what is no id.

        skip_special_tokens: whether special tokens are left out, the word delimiter too.
        """
        symbols, _ = self._table
        flat = as_ids(ids)
        if flat.ndim == 0:
            return symbols[self._codes(flat[None])[0]]
        if skip_special_tokens:
            flat = flat[~np.isin(flat, self.all_special_ids)]
        return [symbols[code] for code in self._codes(flat).tolist()]

    def _codes(self, ids: NDArray[np.int64]) -> NDArray[np.int32]:
        """The place in the table's list of the text of each id."""
        _, table = self._table
        # The last entry stands for what is no id; -1 leads there too.
        codes: NDArray[np.int32] = table[np.clip(ids, -1, len(table) - 1)]
        if self.unk_token is None and (codes < 0).any():
            wrong = ids[codes < 0][0]
            raise ValueError(f"{wrong} is no id of the vocabulary, and there is no unk_token to stand for it.")
        return codes

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        output_char_offsets: bool = False,
        output_word_offsets: bool = False,
        group_tokens: bool = True,
        spaces_between_special_tokens: bool = False,
    ) -> Any:
        """The text of one row of ids: equal neighbours joined, blanks (`pad_token`) dropped.

        token_ids: (T,) ids of frames, or of labels; a list, array or tensor on any device.
        skip_special_tokens: whether special tokens are left out, save the word delimiter. They, and blanks
            among them, go before neighbours are joined: "L<pad>L" becomes one L. Leave it off for frames.
        clean_up_tokenization_spaces: overrides the attribute of that name.
        output_char_offsets, output_word_offsets: whether to give times. Characters and words there are in
            the case of the vocabulary.
        group_tokens: whether equal neighbours are joined. Turn it off for labels.
        spaces_between_special_tokens: whether a space comes between any two tokens.

        Returns the text, or, with offsets, a `Wav2Vec2CTCTokenizerOutput`. Raises TypeError for ids that
        aren't integers, ValueError for more than one row.
        """
        row = np.atleast_1d(as_ids(token_ids))
        if row.ndim > 1:
            raise ValueError(f"decode() takes one row of ids, and was given {row.shape}: use batch_decode().")
        output = self.batch_decode(
            row[None],
            skip_special_tokens,
            clean_up_tokenization_spaces,
            output_char_offsets,
            output_word_offsets,
            group_tokens,
            spaces_between_special_tokens,
        )
        if isinstance(output, list):
            return output[0]
        return Wav2Vec2CTCTokenizerOutput(**{key: rows[0] for key, rows in output.items()})

    def batch_decode(
        self,
        sequences: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        output_char_offsets: bool = False,
        output_word_offsets: bool = False,
        group_tokens: bool = True,
        spaces_between_special_tokens: bool = False,
    ) -> Any:
        """The texts of many rows of ids at once, as `decode` gives them one by one, with its options.

        sequences: (B, T) ids, or a list of rows of any lengths. Of (T,) each id is a row of its own.

        Returns a list of texts, or, with offsets, one `Wav2Vec2CTCTokenizerOutput` of lists.
        """
        symbols, _ = self._table
        ids, bounds = flat_rows(sequences)
        codes = self._codes(ids)
        if skip_special_tokens:
            special = set(self.all_special_tokens) - {self.word_delimiter_token}
            kept = np.flatnonzero(np.array([symbol not in special for symbol in symbols])[codes])
            codes, bounds = codes[kept], np.searchsorted(kept, bounds)
        output = self._read(
            codes,
            bounds,
            symbols,
            group=group_tokens,
            spaced=spaces_between_special_tokens,
            chars=output_char_offsets,
            words=output_word_offsets,
        )
        if clean_up_tokenization_spaces is None:
            clean_up_tokenization_spaces = self.clean_up_tokenization_spaces
        if clean_up_tokenization_spaces:
            output = replace(output, text=[without_needless_spaces(text) for text in output.text])
        return output if output_char_offsets or output_word_offsets else output.text

    def convert_tokens_to_string(
        self,
        tokens: Sequence[str],
        group_tokens: bool = True,
        spaces_between_special_tokens: bool = False,
        output_char_offsets: bool = False,
        output_word_offsets: bool = False,
    ) -> dict[str, Any]:
        """The `text` of tokens, as `decode` gives that of ids, and `char_offsets` and `word_offsets` or None."""
        places = {token: place for place, token in enumerate(dict.fromkeys(tokens))}
        output = self._read(
            np.array([places[token] for token in tokens], np.int32),
            np.array([0, len(tokens)]),
            list(places),
            group=group_tokens,
            spaced=spaces_between_special_tokens,
            chars=output_char_offsets,
            words=output_word_offsets,
        )
        return {"char_offsets": None, "word_offsets": None, **{key: rows[0] for key, rows in output.items()}}

    def _read(self, *rows: Any, **options: Any) -> Wav2Vec2CTCTokenizerOutput:
        """What `read` makes of rows, with this tokenizer's blank, word delimiter and case."""
        output = read(
            *rows,
            blank=self.pad_token,
            delimiter=self.word_delimiter_token,
            space=self.replace_word_delimiter_char,
            **options,
        )
        return replace(output, text=[text.lower() for text in output.text]) if self.do_lower_case else output

    # Files

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], **kwargs: Any) -> Self:
        """The tokenizer of a checkpoint, from vocab.json and tokenizer_config.json.

        name: a folder, or a repository of the Hugging Face Hub.
        kwargs: where the files come from (see `wavconformer.files.Source`); all others override settings.

        Reads special_tokens_map.json and added_tokens.json of older checkpoints too. Raises CheckpointError
        where a file is missing or can't be used, ValueError where a setting or target_lang doesn't fit.
        """
        source = Source.take(name, kwargs)
        vocab_file = source.require(VOCABULARY_FILE)
        settings = {**_read_object(source, SETTINGS_FILE), **kwargs}
        if "added_tokens_decoder" not in settings:
            settings.update(
                (key, value) for key, value in _read_object(source, SPECIAL_TOKENS_FILE).items() if key not in kwargs
            )
            added = _read_object(source, ADDED_TOKENS_FILE)
            settings["added_tokens_decoder"] = {index: AddedToken(content) for content, index in added.items()}
        for key in (*_NO_SETTINGS, "model_specific_special_tokens"):
            settings.pop(key, None)
        try:
            return cls(vocab_file, **settings)
        except TypeError as error:
            raise CheckpointError(f"The settings of the tokenizer of {source} can't be used: {error}") from error

    def save_vocabulary(
        self, save_directory: str | os.PathLike[str], filename_prefix: str | None = None
    ) -> tuple[Path]:
        """Writes vocab.json, all languages of a nested one, into a folder, made if missing; returns the path."""
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        path = Path(save_directory) / f"{prefix}{VOCABULARY_FILE}"
        write_json(path, self.vocab)
        return (path,)

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], *, processor_class: str | None = None
    ) -> list[Path]:
        """Writes vocab.json, tokenizer_config.json and, for tokens behind the vocabulary, added_tokens.json.

        save_directory: a folder, made if missing.
        processor_class: the name of the processor that the tokenizer belongs to, for its file.

        Returns the paths.
        """
        folder = Path(save_directory)
        settings = self._settings()
        if processor_class is not None:
            settings["processor_class"] = processor_class
        write_json(folder / SETTINGS_FILE, settings)
        paths = [folder / SETTINGS_FILE, *self.save_vocabulary(folder)]
        behind = {token: index for token, index in self.get_added_vocab().items() if index >= self.vocab_size}
        if behind:
            write_json(folder / ADDED_TOKENS_FILE, behind)
            paths.append(folder / ADDED_TOKENS_FILE)
        return paths

    def _settings(self) -> dict[str, Any]:
        """The content of tokenizer_config.json."""
        optional = {
            "padding_side": "right",
            "truncation_side": "right",
            "clean_up_tokenization_spaces": False,
            "split_special_tokens": False,
            "extra_special_tokens": [],
        }
        named: dict[str, Any] = {
            name: token for name, token in self._special.items() if token is not None or name in _ALWAYS_WRITTEN
        }
        if self.word_delimiter_token not in (None, "|"):
            # As plain text, transformers takes it for one more special token and goes back to "|".
            token = AddedToken(self.word_delimiter_token, special=True)
            named["word_delimiter_token"] = {"__type": "AddedToken", **asdict(token)}
        return {
            **self._unknown,
            **named,
            **{key: getattr(self, key) for key, usual in optional.items() if getattr(self, key) != usual},
            "added_tokens_decoder": {str(index): asdict(token) for index, token in self.added_tokens_decoder.items()},
            "backend": "custom",
            "do_lower_case": self.do_lower_case,
            "model_max_length": self.model_max_length,
            "replace_word_delimiter_char": self.replace_word_delimiter_char,
            "target_lang": self.target_lang,
            "tokenizer_class": type(self).__name__,
        }

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Upload tokenizer",
        private: bool | None = None,
        token: str | bool | None = None,
    ) -> str:
        """Saves and uploads to a repository of the Hugging Face Hub; returns the address of the commit."""
        return push_folder(self.save_pretrained, repo_id, commit_message=commit_message, token=token, private=private)

    def __repr__(self) -> str:
        language = f", target_lang={self.target_lang!r}" if self.target_lang else ""
        return (
            f"{type(self).__name__}(vocab_size={self.vocab_size}, do_lower_case={self.do_lower_case}{language}, "
            f"special_tokens={self.special_tokens_map})"
        )


def _is_token(value: Any) -> bool:
    return isinstance(value, (str, AddedToken)) or (isinstance(value, Mapping) and "content" in value)


def _added_token(value: Any) -> AddedToken:
    """A token given as text, as `AddedToken`, or as the dictionary that stands for one in a file."""
    if isinstance(value, AddedToken):
        return value
    if isinstance(value, str):
        return AddedToken(value)
    if isinstance(value, Mapping) and isinstance(value.get("content"), str):
        known = AddedToken.__dataclass_fields__
        return AddedToken(**{key: entry for key, entry in value.items() if key in known})
    raise TypeError(f"{value!r} is no token: give a text or an AddedToken.")


def _read_object(source: Source, filename: str) -> dict[str, Any]:
    """The JSON object of a file that may be missing."""
    path = source.find(filename)
    content = {} if path is None else read_json(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object: {str(content)[:80]}.")
    return content


def _texts(text: Any) -> list[str]:
    if isinstance(text, str):
        return [text]
    if not isinstance(text, (Sequence, np.ndarray)) or isinstance(text, bytes):
        raise TypeError(f"A text must be a str or a list of str, not {type(text).__name__}.")
    if not len(text):
        raise ValueError("The list of texts is empty.")
    for index, one in enumerate(text):
        if not isinstance(one, str):
            raise TypeError(f"Text {index} of the batch is of type {type(one).__name__}, not str: {one!r}.")
    return list(text)


def _as_lists(value: Any) -> Any:
    """Rows of arrays or tensors as lists of lists; anything else as it is, in a list."""
    if is_tensor(value) or isinstance(value, np.ndarray):
        return as_array(value).tolist()
    return [
        as_array(row).tolist() if is_tensor(row) or isinstance(row, (np.ndarray, np.generic)) else row for row in value
    ]


def _delivered(features: dict[str, Any], return_tensors: str | None) -> BatchEncoding:
    if return_tensors is None:
        return BatchEncoding(features)
    arrays = {key: [np.asarray(row, np.int64) for row in features[key]] for key in _PADDED & features.keys()}
    return BatchEncoding({**features, **arrays}, return_tensors)
