"""The bare model: waveform to frames, no head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.model.adapter import Adapter
from wavconformer.model.base import SpeechModel
from wavconformer.model.conformer import ConformerEncoder
from wavconformer.model.feature_encoder import FeatureEncoder, FeatureProjection
from wavconformer.model.lengths import (
    encoder_length,
    least_adapter_frames,
    least_samples,
    length_mask,
    sample_lengths,
)
from wavconformer.model.masking import spec_augment
from wavconformer.model.outputs import Wav2Vec2ConformerBaseModelOutput
from wavconformer.model.reference import is_traced


@dataclass(frozen=True)
class Encoded:
    """What the backbone hands to a head.

    output: what the bare model returns. frame_mask: (B, T) real frames before the convolutional adapter.
    output_mask: (B, T') real frames of last_hidden_state. Both are None where nothing is padded.
    """

    output: Wav2Vec2ConformerBaseModelOutput
    frame_mask: Tensor | None
    output_mask: Tensor | None


class Backbone(SpeechModel):
    """Feature encoder, projection, Conformer encoder, and the convolutional adapter if configured."""

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__(config)
        self.feature_extractor = FeatureEncoder(config)
        self.feature_projection = FeatureProjection(config)
        self.masked_spec_embed: nn.Parameter | None = None
        if config.mask_time_prob > 0 or config.mask_feature_prob > 0:
            self.masked_spec_embed = nn.Parameter(torch.empty(config.hidden_size))
        self.encoder = ConformerEncoder(config)
        self.adapter = Adapter(config) if config.add_adapter else None
        self.mask_generator: np.random.Generator | None = None
        self.init_weights()

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        mask_time_indices: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Encodes waveforms.

        input_values: (B, S) normalised audio at 16 kHz, padded on the right.
        attention_mask: (B, S), ones on real samples, zeros on padding. With it an utterance gives in a batch
            what it gives alone. Without it padding is taken for sound.
        mask_time_indices: (B, T) frames to hide behind `masked_spec_embed`; in training they are drawn when not
            given (SpecAugment), unless `apply_spec_augment` is False, which ignores given ones too.
        output_attentions, output_hidden_states, return_dict: override the configuration.

        Returns a `Wav2Vec2ConformerBaseModelOutput`, or its tuple.
        Raises ValueError for a wrong shape or type, for a mask that isn't ones followed by zeros, and for audio
        too short to make a frame.
        """
        encoded = self.encode(input_values, attention_mask, mask_time_indices, output_attentions, output_hidden_states)
        return self._result(encoded.output, return_dict)

    def encode(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        mask_time_indices: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        least_frames: int = 1,
    ) -> Encoded:
        """As `forward`, with the frame masks that a head needs.

        least_frames: the fewest frames of the feature encoder that the head can use.
        """
        input_values = self._checked(input_values)
        least = max(least_frames, least_adapter_frames(self.config) if self.config.add_adapter else 1)
        lengths = sample_lengths(input_values, attention_mask, least_samples(self.config, least))
        features = self.feature_extractor(input_values, lengths)
        frame_mask = frame_lengths = None
        if lengths is not None:
            frame_lengths = encoder_length(lengths, self.config)
            frame_mask = length_mask(frame_lengths, features.shape[1])

        hidden, extract_features = self.feature_projection(features)
        hidden = spec_augment(
            hidden,
            self.masked_spec_embed,
            self.config,
            frame_mask,
            mask_time_indices,
            self.training,
            self.mask_generator,
        )
        hidden, hidden_states, attentions = self.encoder(
            hidden,
            frame_mask,
            self._wanted(output_hidden_states, "output_hidden_states"),
            self._wanted(output_attentions, "output_attentions"),
        )
        output_mask = frame_mask
        if self.adapter is not None:
            hidden, output_lengths = self.adapter(hidden, frame_lengths)
            output_mask = None if output_lengths is None else length_mask(output_lengths, hidden.shape[1])
        output = Wav2Vec2ConformerBaseModelOutput(
            last_hidden_state=hidden,
            extract_features=extract_features,
            hidden_states=hidden_states,
            attentions=attentions,
        )
        return Encoded(output, frame_mask, output_mask)

    def _checked(self, input_values: Tensor) -> Tensor:
        if not isinstance(input_values, Tensor):
            raise TypeError(
                f"input_values is of type {type(input_values).__name__}, but must be a tensor (batch, samples): call "
                "the feature extractor with return_tensors='pt'."
            )
        if input_values.ndim != 2:
            raise ValueError(
                f"input_values has the shape {tuple(input_values.shape)}, but must be (batch, samples): one mono "
                "waveform a row. Use x[None] for one waveform, mix channels down before."
            )
        if not input_values.is_floating_point():
            raise ValueError(
                f"input_values is of {input_values.dtype}, but must be floating point: let the feature extractor "
                "normalise the audio."
            )
        if not input_values.shape[0]:
            raise ValueError("input_values holds no utterance: the batch is empty.")
        # One number says of each row whether all of its samples are finite, unless they are so large that it can't.
        if not is_traced() and not input_values.sum(-1).isfinite().all():
            finite = input_values.isfinite().all(-1)
            if not finite.all():
                row = int((~finite).nonzero()[0])
                raise ValueError(
                    f"Utterance {row} of the batch holds NaN or infinite samples, and so would its output: mend or "
                    "leave out the recording."
                )
        return input_values.to(self.feature_projection.layer_norm.weight.dtype)
