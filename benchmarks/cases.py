"""What is compared with `transformers`: the same weights, the same inputs."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import transformers

import wavconformer
import wavconformer.files
from benchmarks.loops import SAMPLES, TINY, loop
from benchmarks.timing import Comparison, compare
from wavconformer.checkpoint.onnx_export import write_graph
from wavconformer.config import PRESETS
from wavconformer.model.lengths import encoder_length
from wavconformer.model.quantization import quantize
from wavconformer.tasks.transcribe import Transcriber

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


def settings(positions: str, layers: int) -> dict[str, Any]:
    """The large shape cut to so many layers, without randomness."""
    values = {**PRESETS["rel-pos-large"], **NO_RANDOMNESS, "vocab_size": 32, "ctc_zero_infinity": True}
    return values | {"num_hidden_layers": layers, "position_embeddings_type": positions}


def their_model(values: dict[str, Any]) -> Any:
    """Their CTC model with its fastest attention on a CPU."""
    torch.manual_seed(0)
    model = transformers.Wav2Vec2ConformerForCTC(transformers.Wav2Vec2ConformerConfig(**values)).eval()
    model.set_attn_implementation("sdpa")
    return model


def our_model(values: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return wavconformer.Wav2Vec2ConformerForCTC(wavconformer.Wav2Vec2ConformerConfig(**values)).eval()


def pair(positions: str, layers: int) -> tuple[Any, Any]:
    """Theirs, and ours with the same weights."""
    values = settings(positions, layers)
    theirs, ours = their_model(values), our_model(values)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def tiny_pair() -> tuple[Any, Any]:
    """The checkpoint that ships along, in both."""
    theirs = transformers.Wav2Vec2ConformerForCTC.from_pretrained(TINY, dtype=torch.float32).eval()
    theirs.set_attn_implementation("sdpa")
    return theirs, wavconformer.Wav2Vec2ConformerForCTC.from_pretrained("tiny-en")


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


def logits(model: Any, audio: torch.Tensor) -> Callable[[], torch.Tensor]:
    def call() -> torch.Tensor:
        with torch.inference_mode():
            return model(audio).logits

    return call


def forward(runs: int, lengths: tuple[int, ...] = (2, 10, 30, 60)) -> Iterator[Comparison]:
    """The large shape cut to 6 layers, on recordings of several lengths."""
    for positions in ("relative", "rotary"):
        theirs, ours = pair(positions, 6)
        for length in lengths:
            audio = torch.randn(1, 16_000 * length)
            yield compare(
                f"large × 6 layers, {positions}, {length} s",
                logits(theirs, audio),
                logits(ours, audio),
                runs=runs,
                flops=forward_flops(ours.config, audio.shape[1]),
            )


def varied(runs: int) -> Iterator[Comparison]:
    """Recordings of ever new lengths, the same for both, so that nothing is ready for a length from before."""
    theirs, ours = pair("relative", 6)

    def singly(model: Any) -> Callable[[], None]:
        random = np.random.default_rng(0)

        def call() -> None:
            for seconds in random.uniform(3, 9, 6):
                logits(model, torch.randn(1, int(16_000 * seconds)))()

        return call

    yield compare("large × 6 layers, relative, 6 of new lengths, 3–9 s", singly(theirs), singly(ours), runs=runs)


def tiny(runs: int) -> Iterator[Comparison]:
    """The checkpoint that ships along."""
    theirs, ours = tiny_pair()
    audio = torch.randn(1, 160_000)
    yield compare("tiny-en, 10 s", logits(theirs, audio), logits(ours, audio), runs=runs)


def batch(runs: int) -> Iterator[Comparison]:
    """16 utterances of 1 to 15 s to token ids: theirs one by one or padded, whichever is faster for them."""
    speech = np.concatenate([wavconformer.load_audio(path) for path in sorted(SAMPLES.glob("*.flac"))])
    utterances = [speech[: int(length * 16_000)] for length in np.linspace(1, 15, 16)]
    processor = wavconformer.AutoProcessor.from_pretrained("tiny-en")
    for name, (theirs, ours) in {"tiny-en": tiny_pair(), "large × 2": pair("relative", 2)}.items():
        transcriber = Transcriber(ours, processor)
        texts = [transcriber(audio, sampling_rate=16_000).text for audio in utterances]

        def together(transcriber: Transcriber = transcriber, texts: list[str] = texts) -> None:
            found = [result.text for result in transcriber.many(utterances, sampling_rate=16_000)]
            assert found == texts, "the texts of grouped utterances differ from those of single ones"

        def alone(model: Any = theirs) -> None:
            for audio in utterances:
                inputs = processor(audio, sampling_rate=16_000, return_tensors="pt")
                with torch.inference_mode():
                    processor.batch_decode(model(inputs.input_values).logits.argmax(-1))

        def padded(model: Any = theirs) -> None:
            inputs = processor(
                utterances, sampling_rate=16_000, padding=True, return_attention_mask=True, return_tensors="pt"
            )
            with torch.inference_mode():
                processor.batch_decode(model(**inputs).logits.argmax(-1))

        singly = compare(f"16 utterances of 1–15 s, {name}, theirs one by one", alone, together, runs=runs)
        at_once = compare(f"16 utterances of 1–15 s, {name}, theirs in one batch", padded, together, runs=runs)
        yield min(singly, at_once, key=lambda comparison: comparison.theirs)


def int8(runs: int) -> Iterator[Comparison]:
    """Ours rounded to int8 against theirs in full precision."""
    theirs, ours = pair("relative", 6)
    quantize(ours)
    audio = torch.randn(1, 160_000)
    yield compare("int8, large × 6 layers, relative, 10 s", logits(theirs, audio), logits(ours, audio), runs=runs)
    theirs, ours = tiny_pair()
    quantize(ours)
    yield compare("int8, tiny-en, 10 s", logits(theirs, audio), logits(ours, audio), runs=runs)


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

    yield compare("training step, 8 utterances of 3–10 s, large × 2", step(theirs), step(ours), runs=runs)


def onnx(runs: int) -> Iterator[Comparison]:
    """ONNX Runtime running the graph of `transformers`' model, where it can be exported, and of ours, beside ours."""
    theirs, ours = pair("relative", 6)
    audio = torch.randn(1, 160_000)
    feeds = {"input_values": audio.numpy()}
    with tempfile.TemporaryDirectory() as folder:
        for who, model in (("theirs", theirs), ("ours", ours)):
            path = Path(folder) / f"{who}.onnx"
            if model is ours:
                write_graph(ours, path)
                feeds["attention_mask"] = np.ones(audio.shape, np.int64)
            else:
                _export_theirs(theirs, audio, path)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            run = functools.partial(session.run, None, feeds)
            yield compare(
                f"ONNX Runtime, graph of {who}, large × 6 layers, relative, 10 s",
                lambda run=run: torch.from_numpy(run()[0]),
                logits(ours, audio),
                runs=runs,
            )


def _export_theirs(model: Any, audio: torch.Tensor, path: Path) -> None:
    """Of this one length: their graph's other lengths are not asked for."""

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_values: torch.Tensor) -> torch.Tensor:
            return self.model(input_values).logits

    with torch.no_grad():
        torch.onnx.export(
            Logits().eval(), (audio,), str(path), dynamo=True, input_names=["input_values"], output_names=["logits"]
        )


def decoding(runs: int) -> Iterator[Comparison]:
    """Token ids of 1,000 × 1,500 frames to text, with word offsets and without."""
    theirs = transformers.Wav2Vec2CTCTokenizer.from_pretrained(TINY)
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


CASES: dict[str, Callable[..., Iterator[Comparison]]] = {
    "forward": forward,
    "varied": varied,
    "tiny": tiny,
    "batch": batch,
    "int8": int8,
    "training": training,
    "loop": loop,
    "onnx": onnx,
    "decoding": decoding,
}
