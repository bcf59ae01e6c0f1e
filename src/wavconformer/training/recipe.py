"""A recipe: everything that decides what a training run does, as a typed tree, read from YAML.

    recipe = read_recipe("recipe.yaml", ["optim.lr=3e-4", "trainer.max_steps=200"])

Paths in a recipe are as the working directory sees them.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from wavconformer.errors import ConfigError
from wavconformer.files import write_text
from wavconformer.training.sections import Section, limited, plain, read_section, set_dotted

Task = Literal["ctc", "sequence", "frame", "xvector", "pretrain"]
RECIPE_FILE = "recipe.yaml"


@dataclass(frozen=True, kw_only=True)
class Data(Section):
    """What is learned from, and what is held out."""

    train: tuple[str, ...] = ()
    """Manifests that `wavconformer prepare` wrote, or the folders that hold them."""
    valid: tuple[str, ...] = ()
    """Manifests to evaluate on during the run; none for no evaluation."""
    vocabulary: str | None = None
    """For CTC: a vocab.json, or a folder or Hub repository with a tokenizer; by default that of `model.init`."""
    labels: tuple[str, ...] = ()
    """For sequence, frame and x-vector: the class names in order; by default those in `train`, sorted."""
    rttm: str | None = None
    """For frames: an RTTM file, or a folder of such, that says who speaks when."""
    min_seconds: float = limited(0.1, least=0.025)
    """Shorter utterances are left out."""
    max_seconds: float = limited(30.0, above=0)
    """Longer utterances are left out, unless they are cropped."""
    crop_seconds: float | None = limited(None, above=0)
    """A random part of at most this length is taken of each utterance; for all tasks but ctc."""
    silence_db: float | None = limited(None, above=0)
    """For CTC: a frame names no token while the sound, before noise is added, is for 0.2 s or longer this far below the
    utterance's loudest. Without it a model may name a first word before it is said.
    """
    buckets: int = limited(30, least=1)
    """Most lengths that utterances are sorted into; a batch holds one of them, more buckets mean less padding."""
    sorted_epochs: int = limited(0, least=0)
    """So many first epochs go from short utterances to long ones, as a curriculum."""


@dataclass(frozen=True, kw_only=True)
class Lora(Section):
    """Low-rank matrices beside the frozen weights, saved as PEFT saves them; the head is trained whole."""

    rank: int = limited(0, least=0)
    """Rank of the matrices; 0 for none."""
    alpha: float = limited(16.0, above=0)
    """What they add is scaled by alpha / rank."""
    dropout: float = limited(0.0, least=0, most=1)
    """Of what goes into them."""
    targets: tuple[str, ...] = ("linear_q", "linear_k", "linear_v", "linear_out")
    """Names of the linear layers that get them."""


@dataclass(frozen=True, kw_only=True)
class Model(Section):
    """The model that the run starts from."""

    init: str | None = None
    """Folder or Hub repository of a checkpoint to start from; by default from random weights."""
    preset: Literal["tiny", "base", "rel-pos-large", "rope-large"] = "base"
    """Shape of a model that starts from random weights."""
    config: dict[str, Any] = field(default_factory=dict)
    """Fields of the model's configuration that stand over those of `init` or `preset`, as `hidden_dropout: 0.1`."""
    filterbank: bool = False
    """Begin with a first convolution of band-pass filters, in place of random ones; for a long first kernel."""
    adapter: str | None = None
    """Train the adapter of this language alone, as 'fra': the model's other weights stay as they are."""
    adapter_dim: int = limited(16, least=1)
    """Bottleneck of the language adapter, where `init` has none yet."""
    lora: Lora = field(default_factory=Lora)
    """Low-rank adaptation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.filterbank and self.init is not None:
            raise ConfigError("model.filterbank is a beginning from nothing, but model.init names a trained model.")
        if self.adapter is not None and self.lora.rank:
            raise ConfigError("model.adapter and model.lora.rank are both set: choose one.")


@dataclass(frozen=True, kw_only=True)
class Augmentation(Section):
    """What is done to training audio. All is off by default."""

    speed: tuple[float, ...] = limited((), least=0.5, most=2.0)
    """Factors, one of which is drawn for each utterance, as [0.9, 1.0, 1.1]; pitch changes along."""
    volume_db: tuple[float, float] | None = limited(None, least=-60, most=60)
    """Lowest and highest gain. (A feature extractor that normalises takes it away again.)"""
    noise: str | None = None
    """Folder of recordings that are mixed in."""
    noise_snr_db: tuple[float, float] = limited((5.0, 20.0), least=-20, most=100)
    """Lowest and highest ratio of speech to noise."""
    noise_probability: float = limited(0.5, least=0, most=1)
    """Share of utterances that get noise."""
    reverb: str | None = None
    """Folder of impulse responses, one of which the utterance is convolved with."""
    reverb_probability: float = limited(0.3, least=0, most=1)
    """Share of utterances that get reverb."""
    silence_seconds: tuple[float, float] | None = limited(None, least=0, most=10)
    """Shortest and longest silence that is put before, behind and, where utterances are joined, between them. (A batch
    grows by it beyond `trainer.batch_seconds`.)
    """
    silence_probability: float = limited(0.5, least=0, most=1)
    """Share of utterances that get silence before and behind."""
    join_probability: float = limited(0.0, least=0, most=1)
    """For CTC: share of batches whose utterances are joined by twos to fours, as one text."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("volume_db", "noise_snr_db", "silence_seconds"):
            span = getattr(self, name)
            if span is not None and span[0] > span[1]:
                raise ConfigError(f"augmentation.{name} is {list(span)}: the lower end comes first.")


@dataclass(frozen=True, kw_only=True)
class Optim(Section):
    """The optimizer. Norms and biases never decay."""

    name: Literal["adamw", "muon"] = "adamw"
    """adamw; or muon for the matrices of the encoder's layers, and adamw for all else: fewer updates from scratch."""
    lr: float = limited(1e-4, above=0)
    """Highest learning rate of the schedule."""
    betas: tuple[float, float] = limited((0.9, 0.98), least=0, most=0.999999)
    """Of the running means of gradients and their squares."""
    eps: float = limited(1e-8, above=0)
    """Added to the root of the squares' mean."""
    weight_decay: float = limited(0.01, least=0)
    """Share of the weights that a step at learning rate 1 takes away."""


@dataclass(frozen=True, kw_only=True)
class Schedule(Section):
    """How the learning rate goes over the run; warmup and hold are shares of `trainer.max_steps`."""

    kind: Literal["tri_stage", "polynomial", "cosine", "constant"] = "tri_stage"
    """tri_stage: up, hold, down by a constant factor a step; polynomial, cosine: up, hold, down to the final rate;
    constant: up and stay.
    """
    warmup: float = limited(0.1, least=0, most=1)
    """Share of the steps over which the rate rises."""
    hold: float = limited(0.4, least=0, most=1)
    """Share of the steps at the highest rate."""
    initial: float = limited(0.01, least=0, most=1)
    """Rate of the first step, as a share of the highest."""
    final: float = limited(0.05, least=0, most=1)
    """Rate of the last step, as a share of the highest."""
    power: float = limited(1.0, above=0)
    """Of the polynomial; 1 is a straight line."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup + self.hold > 1:
            raise ConfigError(
                f"schedule.warmup and schedule.hold are {self.warmup} and {self.hold}, together more than the run."
            )
        if self.kind == "tri_stage" and not self.final:
            raise ConfigError("schedule.final is 0, but tri_stage falls by a factor: give a share above 0, as 0.05.")


@dataclass(frozen=True, kw_only=True)
class Pretraining(Section):
    """What only the contrastive task has; masks and negatives are settings of the model's configuration."""

    temperature: tuple[float, float] = limited((2.0, 0.5), above=0)
    """Gumbel temperature at the start, and the lowest."""
    temperature_decay: float = limited(0.999995, above=0, most=1)
    """Factor of each step."""
    feature_gradient: float = limited(0.1, least=0)
    """Factor of the gradients that reach the feature encoder."""
    feature_penalty: float = limited(10.0, least=0)
    """Weight of the mean square of the feature encoder's output."""
    least_perplexity: float = limited(4.0, least=0)
    """A codebook that falls below, summed over its groups, has collapsed: the run stops."""
    least_accuracy: float = limited(1.5, least=0)
    """Contrastive accuracy, in multiples of chance, below which the model has collapsed."""
    watch_after: int = limited(2_000, least=0)
    """Step from which on a collapse stops the run."""


@dataclass(frozen=True, kw_only=True)
class Trainer(Section):
    """The loop: how long, in which portions, with which guards, and what is kept."""

    max_steps: int = limited(10_000, least=1)
    """Updates of the whole run."""
    batch_seconds: float = limited(60.0, above=0)
    """Audio of one batch of one process, padding counted."""
    accumulate: int = limited(1, least=1)
    """Batches of each process that make one update."""
    clip_norm: float = limited(1.0, above=0)
    """Longer gradients are scaled down to this norm."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the forward pass; weights and optimizer stay in float32."""
    gradient_checkpointing: bool = False
    """Compute activations twice in place of keeping them."""
    freeze_feature_encoder: bool = False
    """Keep the convolutions as they are."""
    freeze_encoder_steps: int = limited(0, least=0)
    """So many first updates train the head alone."""
    freeze_batch_norm: bool = False
    """Keep the batch norms' running statistics, and use them: for small batches. Norms of weights that are trained
    beside frozen ones (adapter, lora) always do.
    """
    ema: float | None = limited(None, least=0, most=0.999999)
    """Decay of a running mean of the weights, which is evaluated and kept; None for none."""
    seed: int = limited(1, least=0, most=1e15)
    """Of all that is drawn."""
    workers: int = limited(2, least=0)
    """Processes that load data, for each process that trains; 0 loads in the training process itself."""
    save_every: int = limited(1_000, least=1)
    """Updates between checkpoints."""
    eval_every: int = limited(1_000, least=1)
    """Updates between evaluations."""
    keep_last: int = limited(2, least=1)
    """Checkpoints that are kept besides the best one."""
    best: Literal["loss", "wer", "cer", "accuracy", "eer", "der"] = "loss"
    """What the best checkpoint is told by."""
    bad_steps: int = limited(10, least=1)
    """So many updates in a row with a loss or gradient that isn't finite stop the run."""
    max_skipped: float = limited(0.01, least=0, most=1)
    """Share of utterances that may be skipped, as unreadable or too short for their text, before the run stops."""
    pretraining: Pretraining = field(default_factory=Pretraining)
    """Settings of the contrastive task."""


@dataclass(frozen=True, kw_only=True)
class Logging(Section):
    """What a run says of itself."""

    folder: str = "runs/latest"
    """The run's folder: recipe, checkpoints, metrics.jsonl, curves, and at the end the model."""
    every: int = limited(10, least=1)
    """Updates between lines of metrics.jsonl."""
    tensorboard: bool = True
    """Write TensorBoard's files too."""


@dataclass(frozen=True, kw_only=True)
class Recipe(Section):
    """A whole recipe."""

    task: Task = "ctc"
    """What is learned: transcripts, classes of utterances or of frames, speaker embeddings, or speech by itself."""
    data: Data = field(default_factory=Data)
    """What is learned from."""
    model: Model = field(default_factory=Model)
    """What it starts from."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """What is done to training audio."""
    optim: Optim = field(default_factory=Optim)
    """The optimizer."""
    schedule: Schedule = field(default_factory=Schedule)
    """The learning rate over the run."""
    trainer: Trainer = field(default_factory=Trainer)
    """The loop."""
    logging: Logging = field(default_factory=Logging)
    """What is written down."""

    def __post_init__(self) -> None:
        super().__post_init__()
        data = self.data
        twice = sorted({label for label in data.labels if data.labels.count(label) > 1})
        if twice:
            raise ConfigError(f"data.labels has {', '.join(twice)} more than once: each class has one name.")
        if data.crop_seconds is not None and self.task == "ctc":
            raise ConfigError("data.crop_seconds cuts audio without its text: not for the task ctc.")
        if data.silence_db is not None and self.task != "ctc":
            raise ConfigError(f"data.silence_db says where text isn't: not for the task {self.task}.")
        if self.augmentation.silence_seconds is not None and self.task == "frame":
            raise ConfigError("augmentation.silence_seconds moves speech away from its turns: not for the task frame.")
        if self.augmentation.join_probability and self.task != "ctc":
            raise ConfigError(f"augmentation.join_probability joins texts: not for the task {self.task}.")
        longest = data.crop_seconds or data.max_seconds
        if data.min_seconds > longest:
            raise ConfigError(f"data.min_seconds is {data.min_seconds:g}, more than the longest, {longest:g}.")
        if longest > self.trainer.batch_seconds:
            name = "data.max_seconds" if data.crop_seconds is None else "data.crop_seconds"
            raise ConfigError(
                f"{name} is {longest:g}, but a batch holds trainer.batch_seconds={self.trainer.batch_seconds:g}: "
                "lower the one or raise the other."
            )


def read_recipe(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Recipe:
    """The recipe of a YAML file, with the dotted overrides, as 'optim.lr=3e-4', over it.

    A value of an override is read as YAML: numbers, true, null, [0.9, 1.0, 1.1].

    Raises ConfigError where the file can't be read, for an unknown key or a wrong type or value, by its dotted name.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The recipe '{file}' can't be read ({error}). Give a YAML file.") from error
    content = _yaml(text, f"The recipe '{file}'")
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ConfigError(f"The recipe '{file}' must hold settings by name, not {type(content).__name__}.")
    for override in overrides:
        name, sign, value = override.partition("=")
        if not sign or not all(name.split(".")):
            raise ConfigError(f"'{override}' is no override: write a dotted name, '=' and a value, as optim.lr=3e-4.")
        set_dotted(content, name, _yaml(value, f"The override '{override}'"))
    try:
        return read_section(Recipe, content)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}" if not overrides else f"{file} with its overrides: {error}") from None


def write_recipe(recipe: Recipe, folder: str | os.PathLike[str]) -> Path:
    """Writes the whole recipe, defaults included, into a run's folder; returns the path of its recipe.yaml."""
    path = Path(folder) / RECIPE_FILE
    write_text(path, recipe_text(recipe))
    return path


def recipe_text(recipe: Recipe) -> str:
    """The whole recipe, defaults included, as YAML."""
    text: str = _required_yaml().safe_dump(plain(recipe), sort_keys=False, allow_unicode=True, width=120)
    return text


def _required_yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ConfigError("Recipes need PyYAML: pip install 'wavconformer[train]'.") from error
    return yaml


def _yaml(text: str, name: str) -> Any:
    """The content of a YAML text; a key that is given twice is refused, as the first would be lost."""
    yaml = _required_yaml()

    class Loader(yaml.SafeLoader):  # type: ignore[misc, name-defined]
        """SafeLoader that minds repeated keys."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            seen = set()
            for key, _ in node.value:
                word = str(key.value)
                if word in seen:
                    raise ConfigError(f"{name}, line {key.start_mark.line + 1}: '{word}' is given twice.")
                seen.add(word)
            mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
            return mapping

    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is no valid YAML: {' '.join(str(error).split())}.") from error
    except RecursionError as error:
        raise ConfigError(f"{name} is nested too deeply to be read.") from error
