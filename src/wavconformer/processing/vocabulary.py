"""The tokens of a model and their ids, for one language or for several."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from wavconformer.errors import CheckpointError
from wavconformer.files import read_json

Flat: TypeAlias = dict[str, int]
Vocabulary: TypeAlias = dict[str, Any]
"""A flat vocabulary, token → id, or a nested one: language → flat vocabulary."""


def read_vocabulary(source: Any) -> Vocabulary:
    """The vocabulary of a JSON file, or of a dictionary as it stands in one.

    Raises CheckpointError where the file is missing or its content can't be used, ValueError where the
    dictionary can't.
    """
    if isinstance(source, Mapping):
        problem = _problem(source)
        if problem:
            raise ValueError(f"The vocabulary can't be used: {problem}.")
        return dict(source)
    path = Path(source)
    if not path.is_file():
        raise CheckpointError(f"There is no vocabulary file '{path}': give the path of a vocab.json.")
    content = read_json(path)
    problem = _problem(content)
    if problem:
        raise CheckpointError(f"The vocabulary {path} can't be used: {problem}.")
    return dict(content)


def is_nested(vocabulary: Vocabulary) -> bool:
    """Whether there is one vocabulary for each of several languages."""
    return any(isinstance(value, Mapping) for value in vocabulary.values())


def of_language(vocabulary: Vocabulary, language: str | None) -> Flat:
    """The vocabulary of one language; the only one, where `language` is None.

    Raises ValueError where the language is missing, unknown, or the vocabulary has no languages.
    """
    if not is_nested(vocabulary):
        if language is not None:
            raise ValueError(
                f"target_lang={language!r}: this vocabulary is no nested one, it has no languages to choose from."
            )
        return dict(vocabulary)
    if language is None:
        raise ValueError(
            f"The vocabulary is nested, with one for each language: choose by target_lang one of {_listed(vocabulary)}."
        )
    if language not in vocabulary:
        near = difflib.get_close_matches(language, vocabulary, n=3, cutoff=0.5)
        advice = f"did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(f"target_lang={language!r} isn't in the vocabulary: {advice}It has {_listed(vocabulary)}.")
    return dict(vocabulary[language])


def _listed(names: Mapping[str, Any]) -> str:
    some = list(names)[:20]
    return ", ".join(some) + (f" and {len(names) - len(some)} more" if len(names) > len(some) else "")


def _problem(content: Any) -> str | None:
    """What is wrong with a vocabulary, or None."""
    if not isinstance(content, Mapping) or not content:
        return "it must be a dictionary of tokens and their ids, and not empty"
    nested = [isinstance(value, Mapping) for value in content.values()]
    if not any(nested):
        return _problem_of_flat(content)
    if not all(nested):
        return "some of its entries are ids, some the vocabularies of languages"
    for language, flat in content.items():
        problem = _problem_of_flat(flat)
        if problem:
            return f"in '{language}', {problem}"
    return None


def _problem_of_flat(flat: Mapping[Any, Any]) -> str | None:
    for token, index in flat.items():
        if not isinstance(token, str):
            return f"the token {token!r} is no text"
        if not isinstance(index, int) or isinstance(index, bool) or index < 0:
            return f"the id of {token!r} is {index!r}, and not a number from 0 on"
    index, count = Counter(flat.values()).most_common(1)[0] if flat else (0, 0)
    if count > 1:
        twice = [token for token, value in flat.items() if value == index]
        return f"the tokens {' and '.join(map(repr, twice[:4]))} have the same id, {index}"
    return None
