"""A model that hears what it is told: the token of each frame is a hundred times its first sample.

The text is then known to the letter, however the recording is cut, and nothing depends on what the shipped checkpoint
can do.
"""

from __future__ import annotations

import numpy as np

from wavconformer import Transcriber, Wav2Vec2ConformerConfig, Wav2Vec2ConformerForCTC, Wav2Vec2Processor

LETTERS = {"<pad>": 0, "|": 4, "E": 5, "T": 6, "A": 7, "O": 8, "N": 9}
# The rate of the released models: a frame every 320 samples.
CONFIG = Wav2Vec2ConformerConfig(
    vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7
)
TEXTS = ["TEN TONE", "A NOTE", "EAT", "NEAT TEA TO EAT", "TO A TEE", "ONE"]


def spoken(text: str, random: np.random.Generator) -> np.ndarray:
    """Samples that the model below hears as the text: letters of 20 to 60 ms with blanks of 20 ms between them."""
    labels: list[int] = []
    for letter in text.replace(" ", "|"):
        labels += [LETTERS[letter]] * int(random.integers(1, 4)) + [LETTERS["<pad>"]]
    # A blank has a sample that isn't 0, so that the detector below can tell it from a pause.
    return np.repeat(np.maximum(labels, 0.4), CONFIG.hop_length).astype(np.float32) / 100


class Told(Transcriber):
    """A transcriber with that model, of these strides; its weights are never asked."""

    def __init__(self, processor: Wav2Vec2Processor, **strides: tuple[int, ...]) -> None:
        super().__init__(Wav2Vec2ConformerForCTC(CONFIG.copy(**strides)), processor)

    def log_probs_of(self, waveforms, names, multiple=None):
        hop, field = self.model.config.hop_length, self.model.config.receptive_field
        scores = []
        for waveform in waveforms:
            count = (len(waveform) - field) // hop + 1
            labels = np.round(100 * waveform[: count * hop : hop]).astype(int)
            log_probs = np.full((count, 32), -10, np.float32)
            log_probs[np.arange(count), labels] = -0.1
            scores.append(log_probs)
        return scores


class Sound:
    """A detector for which everything but digital silence is speech."""

    frame = 320

    def __init__(self) -> None:
        self._rest = np.zeros(0, np.float32)

    def feed(self, samples: np.ndarray) -> np.ndarray:
        samples = np.concatenate([self._rest, samples])
        count = len(samples) // self.frame
        self._rest = samples[count * self.frame :]
        return np.abs(samples[: count * self.frame]).reshape(count, self.frame).max(axis=1) > 0.001

    def finish(self) -> np.ndarray:
        return self.feed(np.zeros(-len(self._rest) % self.frame, np.float32))
