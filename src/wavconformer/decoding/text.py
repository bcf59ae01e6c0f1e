"""From the labels of frames to text, the quick way."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavconformer.decoding.greedy import greedy
from wavconformer.processing import Wav2Vec2CTCTokenizer


def greedy_text(frame_ids: NDArray[np.integer[Any]], blank: int, tokenizer: Wav2Vec2CTCTokenizer) -> str:
    """The text of the likeliest label of each frame (T,): repeats and blanks collapsed, one space between words."""
    marks = [mark for mark in (tokenizer.bos_token_id, tokenizer.eos_token_id) if mark is not None]
    tokens = greedy(frame_ids, blank).ids
    kept = tokens[~np.isin(tokens, marks)]
    return " ".join(str(tokenizer.decode(kept, group_tokens=False, clean_up_tokenization_spaces=False)).split())
