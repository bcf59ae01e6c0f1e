"""The task models: the backbone and what each task puts on top of it."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.errors import ConfigError
from wavconformer.model.backbone import Backbone, Encoded
from wavconformer.model.base import SpeechModel
from wavconformer.model.layers import Linear
from wavconformer.model.lengths import (
    least_adapter_frames,
    least_tdnn_frames,
    length_mask,
    masked_mean,
    tdnn_length,
)
from wavconformer.model.outputs import (
    CausalLMOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
    XVectorOutput,
)
from wavconformer.model.xvector import AMSoftmaxLoss, TDNNLayer, statistics_pooling

IGNORED = -100  # the label that no loss counts


class TaskModel(SpeechModel):
    """A backbone with a head."""

    backbone_class: ClassVar[type[Backbone]] = Backbone
    takes_conv_adapter: ClassVar[bool] = True

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__(config)
        if config.add_adapter and not self.takes_conv_adapter:
            raise ConfigError(
                f"{type(self).__name__} works on the encoder's own frames and can't have a convolutional adapter: "
                "set add_adapter=False."
            )
        self.wav2vec2_conformer = self.backbone_class(config)

    @property
    def output_size(self) -> int:
        """Size of the frames that the backbone hands to the head."""
        config = self.config
        return (config.output_hidden_size or config.hidden_size) if config.add_adapter else config.hidden_size


class WeightedLayerModel(TaskModel):
    """A task model that may read a learned mixture of all layers in place of the last one (arXiv 2105.01051)."""

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__(config)
        self.layer_weights: nn.Parameter | None = None
        if config.use_weighted_layer_sum:
            self.layer_weights = nn.Parameter(torch.empty(config.num_hidden_layers + 1))

    def _encode(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None,
        output_attentions: bool | None,
        output_hidden_states: bool | None,
        least_frames: int = 1,
    ) -> tuple[Encoded, Tensor, Tensor | None]:
        """What the backbone gives, the frames (B, T, D) that the head reads, and their mask (B, T)."""
        wanted = self._wanted(output_hidden_states, "output_hidden_states")
        encoded = self.wav2vec2_conformer.encode(
            input_values,
            attention_mask,
            output_attentions=output_attentions,
            output_hidden_states=wanted or self.layer_weights is not None,
            least_frames=least_frames,
        )
        if self.layer_weights is None:
            return encoded, encoded.output.last_hidden_state, encoded.output_mask
        shares = self.layer_weights.softmax(-1)
        states = encoded.output["hidden_states"]
        mixture = torch.zeros_like(states[0])
        for share, state in zip(shares, states, strict=True):
            mixture = mixture + share * state
        if not wanted:
            encoded.output.pop("hidden_states")
        return encoded, mixture, encoded.frame_mask


class ForCTC(TaskModel):
    """Letters, or other tokens, for each frame: connectionist temporal classification."""

    def __init__(self, config: Wav2Vec2ConformerConfig, target_lang: str | None = None) -> None:
        """`target_lang`: the language of the adapters' weights, "eng" by default where adapters are configured."""
        super().__init__(config)
        if config.vocab_size is None:
            raise ConfigError(
                "A CTC model needs vocab_size, the number of its tokens: set it in the configuration, or pass it to "
                "from_pretrained(..., vocab_size=…)."
            )
        if target_lang is not None and config.adapter_attn_dim is None:
            raise ConfigError(
                f"target_lang is '{target_lang}', but the model has no language adapters: adapter_attn_dim isn't set."
            )
        self.target_lang = "eng" if target_lang is None and config.adapter_attn_dim is not None else target_lang
        self.lm_head = Linear(self.output_size, config.vocab_size)
        self.init_weights(skip=self.wav2vec2_conformer)

    @property
    def blank(self) -> int:
        """The id of the CTC blank."""
        return self.config.pad_token_id or 0

    def get_output_embeddings(self) -> nn.Linear:
        """The head's linear layer."""
        return self.lm_head

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Scores every token at every frame.

        input_values, attention_mask: (B, S), as the bare model takes them.
        labels: (B, L) token ids; -100 and the blank are left out, so either may pad.

        Returns a `CausalLMOutput`. Frames beyond an utterance's length are certainly blank, so that decoding the
        whole batch invents nothing. The loss is CTC, reduced and its infinities handled as the configuration says.
        Raises ValueError for labels outside the vocabulary, and for more labels than the frames can hold unless
        `ctc_zero_infinity` lets these count as zero.
        """
        encoded = self.wav2vec2_conformer.encode(
            input_values,
            attention_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        hidden = F.dropout(encoded.output.last_hidden_state, self.config.final_dropout, self.training)
        logits = self.lm_head(hidden)
        loss = None if labels is None else self._loss(logits, encoded.output_mask, labels)
        if encoded.output_mask is not None:
            certain = torch.full_like(logits[0, 0], torch.finfo(logits.dtype).min)
            certain[self.blank] = 0.0
            logits = torch.where(encoded.output_mask[..., None], logits, certain)
        output = CausalLMOutput(
            loss=loss,
            logits=logits,
            hidden_states=encoded.output.hidden_states,
            attentions=encoded.output.attentions,
        )
        return self._result(output, return_dict)

    def _loss(self, logits: Tensor, mask: Tensor | None, labels: Tensor) -> Tensor:
        if not isinstance(labels, Tensor):
            raise TypeError(f"labels is of type {type(labels).__name__}, but must be a tensor (batch, length).")
        if labels.ndim != 2 or labels.shape[0] != logits.shape[0] or labels.is_floating_point():
            raise ValueError(
                f"labels is a tensor {tuple(labels.shape)} of {labels.dtype}, but must be (batch, length) integers "
                f"for the {logits.shape[0]} utterances."
            )
        batch, frames = logits.shape[:2]
        labels = labels.to(logits.device)
        real = (labels != IGNORED) & (labels != self.blank)
        label_lengths = real.sum(-1)
        frame_lengths = labels.new_full((batch,), frames) if mask is None else mask.sum(-1)
        self._check_labels(labels, real, label_lengths, frame_lengths)
        log_probs = F.log_softmax(logits, dim=-1, dtype=torch.float32).transpose(0, 1)
        with torch.backends.cudnn.flags(enabled=False):  # cuDNN's CTC wants int32 on the CPU and blank 0
            return F.ctc_loss(
                log_probs,
                labels[real],
                frame_lengths,
                label_lengths,
                blank=self.blank,
                reduction=self.config.ctc_loss_reduction,
                zero_infinity=self.config.ctc_zero_infinity,
            )

    def _check_labels(self, labels: Tensor, real: Tensor, label_lengths: Tensor, frame_lengths: Tensor) -> None:
        size = self.lm_head.out_features
        outside = real & ((labels < 0) | (labels >= size))
        # A label that repeats its neighbour needs a blank frame between.
        compact = [row[kept] for row, kept in zip(labels, real, strict=True)]
        repeats = torch.stack([(row[1:] == row[:-1]).sum() for row in compact])
        needed = label_lengths + repeats
        report = torch.stack([outside.any(-1).long(), needed, frame_lengths]).tolist()
        for row, (is_outside, need, have) in enumerate(zip(*report, strict=True)):
            if is_outside:
                raise ValueError(
                    f"The labels of utterance {row} hold the id {int(labels[row][outside[row]][0])}, outside the "
                    f"model's vocabulary of {size} tokens: model and tokenizer don't belong together."
                )
            if need > have:
                message = (
                    f"The labels of utterance {row} need {need} frames, but its audio makes {have}: the transcript "
                    "is too long for it, or the recording is cut."
                )
                if not self.config.ctc_zero_infinity:
                    raise ValueError(f"{message} Leave it out, or set ctc_zero_infinity=True to have it count nothing.")
                warnings.warn(f"{message} It counts nothing in the loss (ctc_zero_infinity).", stacklevel=4)


class ForSequenceClassification(WeightedLayerModel):
    """One answer for an utterance: keyword, language, emotion, or numbers to predict."""

    takes_conv_adapter = False

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__(config)
        self.projector = Linear(config.hidden_size, config.classifier_proj_size)
        self.classifier = Linear(config.classifier_proj_size, config.num_labels)
        self.init_weights(skip=self.wav2vec2_conformer)

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Classifies utterances by the mean of their projected frames.

        input_values, attention_mask: (B, S), as the bare model takes them.
        labels: (B,) class numbers; or (B, num_labels) of 0 and 1 with several labels at once; or (B,) or
            (B, num_labels) numbers to predict. `problem_type` says which; without it one label means regression,
            integers one class, floats several. The losses are cross-entropy (-100 ignored), binary cross-entropy
            and mean squared error.

        Returns a `SequenceClassifierOutput`.
        """
        encoded, frames, mask = self._encode(input_values, attention_mask, output_attentions, output_hidden_states)
        logits = self.classifier(masked_mean(self.projector(frames), mask))
        loss = None if labels is None else classification_loss(logits, labels, self.config.problem_type)
        output = SequenceClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=encoded.output.hidden_states,
            attentions=encoded.output.attentions,
        )
        return self._result(output, return_dict)


class ForAudioFrameClassification(WeightedLayerModel):
    """An answer for every frame: who speaks when."""

    takes_conv_adapter = False

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.classifier = Linear(config.hidden_size, config.num_labels)
        self.init_weights(skip=self.wav2vec2_conformer)

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Classifies frames.

        input_values, attention_mask: (B, S), as the bare model takes them.
        labels: (B, T) class numbers, -100 ignored; or (B, T, num_labels) of 0 and 1: integers name one class by
            their largest entry, floats several at once. `problem_type` decides where it is set. Padded frames
            don't count.

        Returns a `TokenClassifierOutput`.
        """
        encoded, frames, mask = self._encode(input_values, attention_mask, output_attentions, output_hidden_states)
        logits = self.classifier(frames)
        loss = None
        if labels is not None:
            if labels.shape[:2] != logits.shape[:2] or labels.ndim > 3:
                raise ValueError(
                    f"labels has the shape {tuple(labels.shape)}, but there are {logits.shape[1]} frames for each of "
                    f"{logits.shape[0]} utterances: it must be (batch, frames) or (batch, frames, num_labels)."
                )
            counted = logits.new_ones(logits.shape[:2], dtype=torch.bool) if mask is None else mask
            loss = classification_loss(logits[counted], labels.to(logits.device)[counted], self.config.problem_type)
        output = TokenClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=encoded.output.hidden_states,
            attentions=encoded.output.attentions,
        )
        return self._result(output, return_dict)


class ForXVector(WeightedLayerModel):
    """One vector for an utterance that says who speaks (Snyder et al. 2018)."""

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__(config)
        inputs = config.hidden_size if config.use_weighted_layer_sum else self.output_size
        self.projector = Linear(inputs, config.tdnn_dim[0])
        self.tdnn = nn.ModuleList(TDNNLayer(config, index) for index in range(len(config.tdnn_dim)))
        self.feature_extractor = Linear(2 * config.tdnn_dim[-1], config.xvector_output_dim)
        self.classifier = Linear(config.xvector_output_dim, config.xvector_output_dim)
        self.objective = AMSoftmaxLoss(config.xvector_output_dim, config.num_labels)
        self.init_weights(skip=self.wav2vec2_conformer)

    def _get_tdnn_output_lengths(self, input_lengths: Tensor | int) -> Tensor:
        """The Hugging Face name for `tdnn_lengths`; unlike there, the dilation is counted."""
        return self.tdnn_lengths(input_lengths)

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Embeds utterances.

        input_values, attention_mask: (B, S), as the bare model takes them.
        labels: (B,) speaker numbers for the AM-softmax loss.

        Returns an `XVectorOutput`; compare its `embeddings` by cosine.
        Raises ValueError for an utterance with fewer frames than the TDNN needs to leave two, of which alone a
        standard deviation can be taken: 16 by default, 0.33 s.
        """
        needed = least_tdnn_frames(self.config)
        if self.config.add_adapter and not self.config.use_weighted_layer_sum:
            needed = least_adapter_frames(self.config, needed)
        encoded, frames, mask = self._encode(
            input_values, attention_mask, output_attentions, output_hidden_states, least_frames=needed
        )
        hidden = self.projector(frames)
        for layer in self.tdnn:
            hidden = layer(hidden)
        if mask is not None:
            mask = length_mask(tdnn_length(mask.sum(-1), self.config), hidden.shape[1])
        embeddings = self.feature_extractor(statistics_pooling(hidden, mask))
        logits = self.classifier(embeddings)
        loss = None
        if labels is not None:
            labels = labels.to(logits.device).flatten()
            _check_classes(labels, self.config.num_labels, len(logits), ignorable=False)
            loss = self.objective(logits, labels)
        output = XVectorOutput(
            loss=loss,
            logits=logits,
            embeddings=embeddings,
            hidden_states=encoded.output.hidden_states,
            attentions=encoded.output.attentions,
        )
        return self._result(output, return_dict)


def classification_loss(logits: Tensor, labels: Tensor, problem_type: str | None) -> Tensor:
    """The loss of (…, num_labels) logits for the labels of a problem of that type, averaged over all items.

    Without a problem type one label means regression, integer labels one class, floating labels several.
    """
    num_labels = logits.shape[-1]
    labels = labels.to(logits.device)
    if problem_type is None:
        if num_labels == 1:
            problem_type = "regression"
        elif labels.is_floating_point():
            problem_type = "multi_label_classification"
        else:
            problem_type = "single_label_classification"
    if problem_type == "single_label_classification":
        if labels.ndim == logits.ndim and labels.shape == logits.shape:
            labels = labels.argmax(-1)
        classes = labels.reshape(-1).long()
        _check_classes(classes, num_labels, logits[..., 0].numel(), ignorable=True)
        return F.cross_entropy(logits.reshape(-1, num_labels), classes, ignore_index=IGNORED)
    if labels.numel() != logits.numel():
        raise ValueError(
            f"labels has the shape {tuple(labels.shape)}, but {problem_type} with {num_labels} labels needs "
            f"{tuple(logits.shape)}."
        )
    targets = labels.reshape(logits.shape).to(logits.dtype)
    if problem_type == "regression":
        return F.mse_loss(logits, targets)
    return F.binary_cross_entropy_with_logits(logits, targets)


def _check_classes(classes: Tensor, num_labels: int, count: int, *, ignorable: bool) -> None:
    if len(classes) != count:
        raise ValueError(f"There are {len(classes)} labels for {count} items.")
    outside = (classes < 0) | (classes >= num_labels)
    if ignorable:
        ignored = classes == IGNORED
        if ignored.all():
            raise ValueError(f"All {count} labels are {IGNORED}, to be ignored: there is nothing to learn from.")
        outside &= ~ignored
    if outside.any():
        raise ValueError(
            f"The label {int(classes[outside][0])} lies outside the model's {num_labels} labels: set num_labels in "
            "the configuration to their number."
        )
