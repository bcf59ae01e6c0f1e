"""A text split at the tokens that are found as a whole."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class AddedToken:
    """A token that the encoder finds in a text as a whole, before it splits the rest into characters.

    content: its text.
    lstrip, rstrip: whether white space to its left or right goes away with it.
    single_word: whether it counts only where spaces or the text's ends surround it.
    normalized: kept from files; without effect on this tokenizer.
    special: kept from files; which tokens are special says the tokenizer's `all_special_tokens`.
    """

    content: str
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False
    special: bool = False


class Splitter:
    """Finds tokens in texts: the leftmost first, and of those that begin together the longest."""

    def __init__(self, tokens: Iterable[AddedToken]) -> None:
        self._tokens = {token.content: token for token in tokens if token.content}
        longest_first = sorted(self._tokens, key=len, reverse=True)
        self._pattern = re.compile(f"({'|'.join(map(re.escape, longest_first))})") if longest_first else None

    def split(self, text: str) -> list[tuple[str, bool]]:
        """The pieces of a text in their order, each with whether it is a token; no piece is empty."""
        if self._pattern is None:
            return [(text, False)] if text else []
        pieces = [piece for piece in self._pattern.split(text) if piece]
        for i, piece in enumerate(pieces):
            token = self._tokens.get(piece)
            if token is not None:
                _apply(token, pieces, i)
        return [(piece, piece in self._tokens) for piece in pieces if piece]


def _apply(token: AddedToken, pieces: list[str], i: int) -> None:
    """Does to the neighbours of piece i, which is the token, what its flags ask for."""
    left = pieces[i - 1] if i > 0 else ""
    right = pieces[i + 1] if i + 1 < len(pieces) else ""
    if token.lstrip and left:
        pieces[i - 1] = left.rstrip()
    if token.rstrip and right:
        pieces[i + 1] = right.lstrip()
    if token.single_word and left and not left.endswith(" "):
        pieces[i - 1 : i + 1] = [pieces[i - 1] + token.content, ""]
    elif token.single_word and right and not right.startswith(" "):
        pieces[i : i + 2] = ["", token.content + pieces[i + 1]]
