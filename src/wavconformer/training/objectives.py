"""What is minimised, for each task, as sums and what they are to be divided by.

A loss is a sum over items (label tokens, utterances, frames, masked frames). It is divided by their number in the whole
update, over all processes and accumulated batches, so that it doesn't depend on how the update is parted:

| task | sum over | divided by |
|---|---|---|
| ctc | utterances, of -log P(text) | label tokens |
| sequence, xvector | utterances | utterances |
| frame | real frames, of the mean over speakers, matched best | real frames |
| pretrain: contrastive, diversity | masked frames | masked frames |
| pretrain: penalty | real frames, of the features' mean square | real frames |
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavconformer.decoding.activity import SpeakerLabels
from wavconformer.errors import ConfigError
from wavconformer.model.base import SpeechModel
from wavconformer.model.heads import IGNORED
from wavconformer.model.pretraining import ForPreTraining
from wavconformer.training.recipe import Pretraining, Task

Inputs = dict[str, Tensor]

_NEVER = -1e4  # a logit; minus infinity would make the gradients of CTC not numbers


class Objective(nn.Module, ABC):
    """A model and its loss, as one module that can be wrapped for several processes.

    divisors: the terms of the loss, and what each is divided by.
    """

    divisors: ClassVar[dict[str, str]]

    def __init__(self, model: SpeechModel) -> None:
        super().__init__()
        self.model: Any = model

    @property
    def weights(self) -> dict[str, float]:
        """What each term counts in the loss."""
        return dict.fromkeys(self.divisors, 1.0)

    def total(self, sums: dict[str, Tensor], counts: dict[str, float]) -> Tensor:
        """The loss of a batch's sums, as its part of an update with those counts."""
        weights = self.weights
        parts = [weights[term] * value / max(counts[self.divisors[term]], 1.0) for term, value in sums.items()]
        return torch.stack(parts).sum()

    @abstractmethod
    def counts(self, inputs: Inputs) -> dict[str, float]:
        """What a batch brings to each divisor; no forward pass is needed for it."""

    @abstractmethod
    def forward(self, inputs: Inputs) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The sum of each term, with gradients, and what else is to be measured, without."""

    def frame_lengths(self, inputs: Inputs) -> Tensor:
        """Real output frames of each utterance (B,)."""
        lengths: Tensor = self.model.feature_lengths(inputs["attention_mask"].sum(-1))
        return lengths


class CTC(Objective):
    """Transcripts. Texts that don't fit their audio are left out before; what remains can be aligned.

    Where `silent` (B, T) says which frames hear nothing, only alignments with blanks there count: -log P of the text
    and of that silence.
    """

    divisors: ClassVar[dict[str, str]] = {"ctc": "tokens"}

    def counts(self, inputs: Inputs) -> dict[str, float]:
        """Label tokens."""
        return {"tokens": float((inputs["labels"] != IGNORED).sum())}

    def forward(self, inputs: Inputs) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """CTC summed over utterances; logits (B, T, V)."""
        logits = self.model(inputs["input_values"], inputs["attention_mask"]).logits
        labels = inputs["labels"]
        real = labels != IGNORED
        held, waiting = self._held(logits.float(), inputs.get("silent"))
        log_probs = F.log_softmax(held, dim=-1).transpose(0, 1)
        with torch.backends.cudnn.flags(enabled=False):  # cuDNN's CTC wants int32 on the CPU and blank 0
            loss = F.ctc_loss(
                log_probs,
                labels[real],
                self.frame_lengths(inputs),
                real.sum(-1),
                blank=self.model.blank,
                reduction="sum",
                zero_infinity=True,
            )
        return {"ctc": loss + waiting}, {"logits": logits.detach()}

    def _held(self, logits: Tensor, silent: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logits (B, T, V) that are sure of the blank in silent frames (B, T), and -log P of these blanks, summed."""
        if silent is None:
            return logits, logits.new_zeros(())
        tokens = torch.arange(logits.shape[-1], device=logits.device) != self.model.blank
        waiting = -F.log_softmax(logits, dim=-1)[..., self.model.blank]
        return logits.masked_fill(silent[..., None] & tokens, _NEVER), (waiting * silent).sum()


class Utterances(Objective):
    """The model's own loss, a mean over utterances.

    measured: which of its outputs is looked at.
    """

    measured: ClassVar[str]

    def counts(self, inputs: Inputs) -> dict[str, float]:
        """Utterances."""
        return {"utterances": float(len(inputs["labels"]))}

    def forward(self, inputs: Inputs) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The loss summed over utterances; the output that is measured."""
        output = self.model(**inputs)
        (term,) = self.divisors
        return {term: output.loss * len(inputs["labels"])}, {self.measured: output[self.measured].detach()}


class Classes(Utterances):
    """One class for each utterance, by cross-entropy of logits (B, C)."""

    divisors: ClassVar[dict[str, str]] = {"classes": "utterances"}
    measured = "logits"


class Speakers(Utterances):
    """Embeddings (B, X) that tell speakers apart, by additive-margin softmax."""

    divisors: ClassVar[dict[str, str]] = {"am_softmax": "utterances"}
    measured = "embeddings"


class Frames(Objective):
    """Who speaks in each frame, whichever output stands for whom: permutation-invariant (arXiv 1909.05952, eq. 1-3).

    Of all ways to match a recording's speakers to the model's the one with the least loss counts. The loss is binary
    cross-entropy, averaged over speakers; for a head whose labels are sets of speakers (`SpeakerLabels`)
    cross-entropy, and frames in which more speak at once than any label says don't count.
    """

    divisors: ClassVar[dict[str, str]] = {"frames": "frames"}

    def __init__(self, model: SpeechModel) -> None:
        super().__init__(model)
        self._speakers = SpeakerLabels.of(model.config)

    def counts(self, inputs: Inputs) -> dict[str, float]:
        """Real frames."""
        return {"frames": float(self.frame_lengths(inputs).sum())}

    def forward(self, inputs: Inputs) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The loss summed over real frames; logits (B, T, V)."""
        logits = self.model(inputs["input_values"], inputs["attention_mask"]).logits
        real = torch.arange(logits.shape[1], device=logits.device) < self.frame_lengths(inputs)[:, None]
        active = inputs["labels"] * real[..., None]
        sets = self._speakers.sets
        if sets is None:
            loss = matched_speakers_loss(logits.float(), active, real)
        else:
            loss = matched_sets_loss(logits.float(), active, real, torch.from_numpy(sets).to(logits.device))
        return {"frames": loss.sum()}, {"logits": logits.detach()}


def matched_speakers_loss(logits: Tensor, active: Tensor, real: Tensor) -> Tensor:
    """Binary cross-entropy (B,), summed over frames, averaged over speakers, of outputs matched to speakers best.

    logits, active: (B, T, K). real: (B, T) frames that count.

    Raises ConfigError where scipy isn't installed.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ConfigError("Matching speakers to outputs needs scipy: pip install 'wavconformer[train]'.") from error

    counted = real[..., None].float()
    # softplus(x) - x·y of each output with each speaker: (B, K, K).
    costs = (F.softplus(logits) * counted).sum(1)[..., None] - (logits * counted).mT @ active
    best = []
    for cost in costs:
        rows, columns = linear_sum_assignment(cost.detach().cpu().numpy())
        best.append(cost[torch.from_numpy(rows), torch.from_numpy(columns)].mean())
    return torch.stack(best)


def matched_sets_loss(logits: Tensor, active: Tensor, real: Tensor, sets: Tensor) -> Tensor:
    """Cross-entropy (B,), summed over frames, of the best order of speakers.

    logits: (B, T, V). active: (B, T, K). real: (B, T) frames that count. sets: (V, K) who speaks, by label.
    """
    said = (active[:, :, None, :] > 0.5) == sets  # (B, T, V, K)
    truth = (said.all(-1) & real[..., None]).float()
    costs = truth.mT @ -F.log_softmax(logits, dim=-1)  # (B, V, V) of each true label's frames, called by each label
    totals = []
    for order in itertools.permutations(range(sets.shape[1])):
        renamed = (sets[:, None, list(order)] == sets).all(-1).float().argmax(1)  # (V,) what each label is called then
        totals.append(costs.gather(2, renamed.expand(len(costs), -1)[..., None]).sum((1, 2)))
    return torch.stack(totals).amin(0)


class Contrastive(Objective):
    """Pretraining (arXiv 2006.11477, section 3.2), with a penalty on large features, as its published code has it."""

    divisors: ClassVar[dict[str, str]] = {"contrastive": "masked", "diversity": "masked", "penalty": "frames"}

    def __init__(self, model: ForPreTraining, settings: Pretraining) -> None:
        super().__init__(model)
        self._settings = settings
        self._features: Tensor | None = None
        self._codes: Tensor | None = None
        self._logits: Tensor | None = None
        self._score = ForPreTraining.compute_contrastive_logits
        model.wav2vec2_conformer.feature_extractor.register_forward_hook(self._on_features)
        model.quantizer.register_forward_hook(self._on_codes)
        # An attribute of this one model stands before the class's function: what it computes is looked at, not redone.
        object.__setattr__(model, "compute_contrastive_logits", self._on_logits)

    @property
    def weights(self) -> dict[str, float]:
        """Those of the published loss."""
        diversity = float(self.model.config.diversity_loss_weight)
        return {"contrastive": 1.0, "diversity": diversity, "penalty": self._settings.feature_penalty}

    def set_temperature(self, step: int) -> float:
        """Sets the Gumbel temperature of an update, and returns it."""
        start, least = self._settings.temperature
        temperature = max(start * self._settings.temperature_decay**step, least)
        self.model.set_gumbel_temperature(temperature)
        return temperature

    def counts(self, inputs: Inputs) -> dict[str, float]:
        """Masked frames, and real ones."""
        return {
            "masked": float(inputs["mask_time_indices"].sum()),
            "frames": float(self.frame_lengths(inputs).sum()),
        }

    def forward(self, inputs: Inputs) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The three terms; perplexity of the batch, frames that were told right, codes of masked frames (M, G)."""
        output = self.model(**inputs)
        features, codes, logits = self._features, self._codes, self._logits
        self._features = self._codes = self._logits = None  # or the graph of this batch would live on
        assert features is not None and codes is not None and logits is not None
        lengths = self.frame_lengths(inputs)
        real = torch.arange(features.shape[1], device=features.device) < lengths[:, None]
        penalty = (features.float().square().mean(-1) * real).sum()
        masked = inputs["mask_time_indices"]
        measured = {
            "perplexity": output.codevector_perplexity.detach(),
            "right": _told_right(logits, codes, masked, inputs["sampled_negative_indices"]),
            "codes": codes[masked],
        }
        sums = {"contrastive": output.contrastive_loss, "diversity": output.diversity_loss, "penalty": penalty}
        return sums, measured

    def _on_features(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        factor = self._settings.feature_gradient
        if factor != 1.0 and output.requires_grad:
            output = scale_gradient(output, factor)
        self._features = output
        return output

    def _on_codes(self, module: nn.Module, inputs: Any, output: tuple[Tensor, Tensor, Tensor]) -> None:
        self._codes = output[2].detach()

    def _on_logits(self, *arguments: Any, **named: Any) -> Tensor:
        logits = self._score(*arguments, **named)
        self._logits = logits.detach()
        return logits


@torch.no_grad()
def _told_right(logits: Tensor, codes: Tensor, masked: Tensor, negatives: Tensor) -> Tensor:
    """How many masked frames score higher with their target than with each distractor.

    A distractor that is quantized as the target is none; a frame with none at all isn't right, or a codebook that
    collapsed to one entry would seem perfect.

    logits: (1 + N, 1, M). codes: (B, T, G). masked: (B, T). negatives: (B, T, N).
    """
    scores = logits.squeeze(1).float()
    same = (codes[masked][:, None] == codes.flatten(0, 1)[negatives[masked]]).all(-1).T  # (N, M)
    best = scores[1:].masked_fill(same, -torch.inf).amax(0)
    return ((scores[0] > best) & ~same.all(0)).sum()


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """The tensor itself; gradients that go back through it are multiplied by the factor."""
    scaled: Tensor = _ScaleGradient.apply(x, factor)  # type: ignore[no-untyped-call]
    return scaled


def objective_of(task: Task, model: SpeechModel, settings: Pretraining) -> Objective:
    """The objective of a task."""
    if task == "pretrain":
        assert isinstance(model, ForPreTraining)
        return Contrastive(model, settings)
    kinds: dict[str, type[Objective]] = {"ctc": CTC, "sequence": Classes, "frame": Frames, "xvector": Speakers}
    return kinds[task](model)
