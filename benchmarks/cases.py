"""What is compared with `transformers`: the same weights, the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import transformers

import wavconformer
import wavconformer.files
from benchmarks.timing import Comparison, compare, peak_memory
from wavconformer.config import PRESETS
from wavconformer.model.lengths import encoder_length

NO_RANDOMNESS = dict.fromkeys(
    (
        "hidden_dropout",
        "activation_dropout",
        "attention_dropout",
        "feat_proj_dropout",
        "final_dropout",
        "conformer_conv_dropout",
        "layerdrop",
        "mask_time_prob",
    ),
    0.0,
)


def pair(positions: str, layers: int, preset: str = "rel-pos-large") -> tuple[Any, Any]:
    """Their CTC model with its fused attention, and ours with the same weights."""
    values = {**PRESETS[preset], **NO_RANDOMNESS, "vocab_size": 32, "ctc_zero_infinity": True}
    values |= {"num_hidden_layers": layers, "position_embeddings_type": positions}
    torch.manual_seed(0)
    theirs = transformers.Wav2Vec2ConformerForCTC(transformers.Wav2Vec2ConformerConfig(**values)).eval()
    theirs.set_attn_implementation("sdpa")
    ours = wavconformer.Wav2Vec2ConformerForCTC(wavconformer.Wav2Vec2ConformerConfig(**values)).eval()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def forward_flops(config: wavconformer.Wav2Vec2ConformerConfig, samples: int) -> float:
    """Multiplications and additions of the matrix products that one forward pass needs."""
    total, channels, frames = 0.0, 1, samples
    for size, kernel, stride in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
        frames = (frames - kernel) // stride + 1
        total += 2 * frames * kernel * channels * size
        channels = size
    frames, d = int(encoder_length(samples, config)), config.hidden_size
    linear = 4 * d * config.intermediate_size + 4 * d * d + 3 * d * d
    attention = 2 * frames * d + (frames * d if config.position_embeddings_type == "relative" else 0)
    return total + config.num_hidden_layers * 2 * frames * (linear + attention)


def forward(runs: int, lengths: tuple[int, ...] = (2, 10, 30, 60)) -> Iterator[Comparison]:
    """The large shape cut to 6 layers, on recordings of several lengths."""
    for positions in ("relative", "rotary"):
        theirs, ours = pair(positions, 6)
        for length in lengths:
            audio = torch.randn(1, 16_000 * length)
            with torch.inference_mode():
                yield compare(
                    f"large × 6 layers, {positions}, {length} s",
                    lambda theirs=theirs, audio=audio: theirs(audio).logits,
                    lambda ours=ours, audio=audio: ours(audio).logits,
                    runs=runs if length < 60 else max(3, runs // 2),
                    flops=forward_flops(ours.config, audio.shape[1]),
                )


def tiny(runs: int) -> Iterator[Comparison]:
    """The small shape."""
    theirs, ours = pair("rotary", 8, "tiny")
    audio = torch.randn(1, 160_000)
    with torch.inference_mode():
        yield compare("tiny, 10 s", lambda: theirs(audio).logits, lambda: ours(audio).logits, runs=runs)


def batch(runs: int) -> Iterator[Comparison]:
    """16 utterances of 1 to 15 s: theirs one by one or padded, whichever is faster for them; ours one by one."""
    theirs, ours = pair("relative", 2)
    lengths = np.linspace(1, 15, 16) * 16_000
    utterances = [torch.randn(1, int(length)) for length in lengths]
    padded = torch.nn.utils.rnn.pad_sequence([audio[0] for audio in utterances], batch_first=True)
    mask = torch.stack([torch.arange(padded.shape[1]) < audio.shape[1] for audio in utterances]).long()

    def singly(model: Any) -> Callable[[], None]:
        def call() -> None:
            for audio in utterances:
                model(audio)

        return call

    with torch.inference_mode():
        alone = compare("16 utterances, large × 2, theirs one by one", singly(theirs), singly(ours), runs=runs)
        together = compare(
            "16 utterances, large × 2, theirs in one padded batch",
            lambda: theirs(padded, attention_mask=mask) and None,
            singly(ours),
            runs=runs,
        )
    yield min(alone, together, key=lambda comparison: comparison.theirs)


def training(runs: int) -> Iterator[Comparison]:
    """Forward and backward of 8 padded utterances of up to 10 s, large × 2 layers."""
    theirs, ours = pair("relative", 2)
    theirs.train()
    ours.train()
    lengths = torch.linspace(3, 10, 8).mul(16_000).long()
    audio = torch.randn(8, int(lengths.max()))
    mask = (torch.arange(audio.shape[1]) < lengths[:, None]).long()
    labels = torch.randint(5, 32, (8, 40))

    def step(model: Any) -> Callable[[], None]:
        def call() -> None:
            model.zero_grad()
            model(audio, attention_mask=mask, labels=labels).loss.backward()

        return call

    yield compare("training step, 8 utterances, large × 2", step(theirs), step(ours), runs=max(3, runs // 2))


def decoding(runs: int) -> Iterator[Comparison]:
    """Token ids of 1,000 × 1,500 frames to text, with word offsets and without."""
    theirs = transformers.Wav2Vec2CTCTokenizer.from_pretrained(wavconformer.files.ASSETS / "tiny-en")
    ours = wavconformer.Wav2Vec2CTCTokenizer.from_pretrained("tiny-en")
    random = np.random.default_rng(0)
    runs_of_ids = np.repeat(random.integers(0, 32, (1_000, 500)), 3, axis=1)
    for offsets in (False, True):
        options = {"output_word_offsets": offsets}
        yield compare(
            f"decode 1,000 × 1,500 frames{' with word offsets' if offsets else ''}",
            lambda options=options: theirs.batch_decode(runs_of_ids, **options) and None,
            lambda options=options: ours.batch_decode(runs_of_ids, **options) and None,
            runs=runs,
        )


_MEMORY = """
import torch
from benchmarks.cases import pair
torch.set_num_threads({threads})
theirs, ours = pair("relative", 6)
model = {model}
audio = torch.randn(1, 16_000 * {seconds})
with torch.inference_mode():
    model(audio)
"""


def memory(threads: int, length: int = 60) -> dict[str, int]:
    """Bytes at the peak of a 60 s forward pass, large × 6 relative, both models loaded: without it, theirs, ours."""
    values = {"threads": threads, "seconds": length}
    return {
        "without": peak_memory('from benchmarks.cases import pair; pair("relative", 6)'),
        "theirs": peak_memory(_MEMORY.format(model="theirs", **values)),
        "ours": peak_memory(_MEMORY.format(model="ours", **values)),
    }


CASES = {"forward": forward, "tiny": tiny, "batch": batch, "training": training, "decoding": decoding}
