"""The pretraining model: which masked frame is which, among distractors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.model.heads import TaskModel
from wavconformer.model.layers import Linear
from wavconformer.model.outputs import Wav2Vec2ConformerForPreTrainingOutput
from wavconformer.model.quantizer import GumbelVectorQuantizer


class ForPreTraining(TaskModel):
    """Self-supervised pretraining: tell the true quantized frame from distractors (arXiv 2006.11477)."""

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__(config)
        self.quantizer = GumbelVectorQuantizer(config)
        self.project_hid = Linear(self.output_size, config.proj_codevector_dim)
        self.project_q = Linear(config.codevector_dim, config.proj_codevector_dim)
        self.init_weights(skip=self.wav2vec2_conformer)

    def set_gumbel_temperature(self, temperature: float) -> None:
        """Sets the temperature of the Gumbel-softmax, which pretraining lowers step by step."""
        if not temperature > 0:
            raise ValueError(f"The Gumbel temperature is {temperature}, but must be positive.")
        self.quantizer.temperature = temperature

    @staticmethod
    def compute_contrastive_logits(
        target_features: Tensor,
        negative_features: Tensor,
        predicted_features: Tensor,
        temperature: float = 0.1,
    ) -> Tensor:
        """Cosine of the prediction with the target and with each negative, over the temperature κ.

        target_features (1, B, T, D), negative_features (N, B, T, D), predicted_features (B, T, D) → (N + 1, B, T).
        """
        candidates = torch.cat((target_features, negative_features))
        cosine = F.cosine_similarity(predicted_features.float(), candidates.float(), dim=-1)
        return cosine.type_as(candidates) / temperature

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        mask_time_indices: Tensor | None = None,
        sampled_negative_indices: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        generator: torch.Generator | None = None,
    ) -> Any:
        """Predicts the quantized features of masked frames.

        input_values, attention_mask: (B, S), as the bare model takes them.
        mask_time_indices: (B, T) frames to mask and predict; `compute_mask_indices` draws them.
        sampled_negative_indices: (B, T, N) positions in the flattened frames, as `sample_negative_indices` draws
            them. With them the losses are computed, in eval mode too. A negative that equals the positive is left
            out.
        generator: source of the Gumbel noise in training; the global one by default.

        Returns a `Wav2Vec2ConformerForPreTrainingOutput`; its losses are sums over the masked frames.
        """
        config = self.config
        if mask_time_indices is not None:
            if not config.apply_spec_augment:
                raise ValueError(
                    "mask_time_indices was given, but apply_spec_augment=False in the configuration would ignore it "
                    "and leave nothing to predict: set it to True for pretraining."
                )
            mask_time_indices = mask_time_indices.to(input_values.device, torch.bool)
        encoded = self.wav2vec2_conformer.encode(
            input_values,
            attention_mask,
            mask_time_indices,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        predicted = self.project_hid(encoded.output.last_hidden_state)
        features = F.dropout(encoded.output.extract_features, config.feat_quantizer_dropout, self.training)
        counted = encoded.frame_mask
        if mask_time_indices is not None:
            counted = mask_time_indices if counted is None else mask_time_indices & counted
        codevectors, codevector_perplexity, codes = self.quantizer(features, counted, generator)
        quantized = self.project_q(codevectors)

        loss = contrastive_loss = diversity_loss = None
        if sampled_negative_indices is not None:
            if mask_time_indices is None or counted is None:
                raise ValueError("sampled_negative_indices was given without mask_time_indices: pass both for a loss.")
            if config.add_adapter:
                raise ValueError("The contrastive loss compares encoder frames: pretrain with add_adapter=False.")
            contrastive_loss = self._contrastive_loss(predicted, quantized, codes, sampled_negative_indices, counted)
            entries = config.num_codevector_groups * config.num_codevectors_per_group
            diversity_loss = (entries - codevector_perplexity) / entries * counted.sum()
            loss = contrastive_loss + config.diversity_loss_weight * diversity_loss
        output = Wav2Vec2ConformerForPreTrainingOutput(
            loss=loss,
            projected_states=predicted,
            projected_quantized_states=quantized,
            codevector_perplexity=codevector_perplexity,
            hidden_states=encoded.output.hidden_states,
            attentions=encoded.output.attentions,
            contrastive_loss=contrastive_loss,
            diversity_loss=diversity_loss,
        )
        return self._result(output, return_dict)

    def _contrastive_loss(
        self, predicted: Tensor, quantized: Tensor, codes: Tensor, negatives: Tensor, counted: Tensor
    ) -> Tensor:
        """Equation 3 of the paper, summed over the counted frames (B, T), which alone are computed."""
        if negatives.shape[:2] != counted.shape or negatives.ndim != 3:
            raise ValueError(
                f"sampled_negative_indices has the shape {tuple(negatives.shape)}, but there are {counted.shape[1]} "
                f"frames for each of {counted.shape[0]} utterances: it must be (batch, frames, negatives)."
            )
        drawn = negatives.to(quantized.device)[counted].long()  # (M, N)
        positive = quantized[counted][:, None]  # (M, 1, D)
        negative = quantized.flatten(0, 1)[drawn]  # (M, N, D)
        candidates = torch.cat((positive, negative), dim=1).transpose(0, 1)[:, None]  # (1 + N, 1, M, D)
        logits = self.compute_contrastive_logits(
            candidates[:1],
            candidates[1:],
            predicted[counted][None],
            self.config.contrastive_logits_temperature,
        )
        logits = logits.squeeze(1).transpose(0, 1).float()  # (M, 1 + N)
        # By code: a matrix product may round equal rows of the projected vectors apart.
        same = (codes[counted][:, None] == codes.flatten(0, 1)[drawn]).all(-1)
        logits = logits.masked_fill(F.pad(same, (1, 0)), -torch.inf)
        target = logits.new_zeros(len(logits), dtype=torch.long)
        return F.cross_entropy(logits, target, reduction="sum")
