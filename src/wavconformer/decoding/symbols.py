"""What a model's tokens read as."""

from __future__ import annotations

from collections.abc import Collection

from wavconformer.processing import Wav2Vec2CTCTokenizer


def symbols_of(
    tokenizer: Wav2Vec2CTCTokenizer, *, silent: Collection[str | None] | None = None, count: int | None = None
) -> list[str | None]:
    """What each token reads as, by id: " " for the word delimiter, None for what leaves nothing.

    silent: tokens that leave nothing; by default all special ones. count: how many tokens the model's head has; by
        default as many as the tokenizer.
    """
    nothing = set(tokenizer.all_special_tokens if silent is None else silent)
    vocabulary = tokenizer.get_vocab()
    symbols: list[str | None] = [None] * (max(vocabulary.values()) + 1 if count is None else count)
    for token, index in vocabulary.items():
        if index >= len(symbols):
            continue
        if token == tokenizer.word_delimiter_token:
            symbols[index] = " "
        elif token not in nothing:
            symbols[index] = token.lower() if tokenizer.do_lower_case else token
    return symbols
