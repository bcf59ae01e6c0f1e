"""What all models of the family have in common, whatever their head."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor, nn

from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.model.conformer import ConformerEncoder, LanguageAdapter
from wavconformer.model.feature_encoder import FeatureEncoder
from wavconformer.model.initialization import initialize
from wavconformer.model.lengths import adapter_length, encoder_length, tdnn_length
from wavconformer.model.outputs import ModelOutput


class SpeechModel(nn.Module):
    """Base of the bare model and of the task models."""

    base_model_prefix: ClassVar[str] = "wav2vec2_conformer"
    main_input_name: ClassVar[str] = "input_values"
    supports_gradient_checkpointing: ClassVar[bool] = True
    _no_split_modules: ClassVar[list[str]] = ["ConformerBlock"]  # what FSDP and accelerate keep in one piece

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__()
        if not isinstance(config, Wav2Vec2ConformerConfig):
            raise TypeError(
                f"{type(self).__name__} takes a Wav2Vec2ConformerConfig, not {type(config).__name__}. To load a "
                f"checkpoint use {type(self).__name__}.from_pretrained(name)."
            )
        self.config = config

    def init_weights(self, skip: nn.Module | None = None) -> None:
        """Gives all parameters their starting values, by the scheme of the published models."""
        if not any(parameter.is_meta for parameter in self.parameters()):
            initialize(self, self.config.initializer_range, skip)

    # --- what it is

    @property
    def base_model(self) -> nn.Module:
        """The model without its head."""
        backbone = getattr(self, self.base_model_prefix, self)
        assert isinstance(backbone, nn.Module)
        return backbone

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of the parameters."""
        return next(parameter.dtype for parameter in self.parameters() if parameter.is_floating_point())

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """The number of parameters; with `only_trainable` of those that take part in training.

        exclude_embeddings: taken for compatibility; an encoder of waveforms has no token embeddings.
        """
        return sum(p.numel() for p in self.parameters() if p.requires_grad or not only_trainable)

    @property
    def name_or_path(self) -> str:
        """Where the model was read from."""
        return self.config.name_or_path

    def get_memory_footprint(self, return_buffers: bool = True) -> int:
        """Bytes of the parameters, and of the buffers unless told otherwise."""
        buffers = self.buffers() if return_buffers else ()
        return sum(tensor.nbytes for tensor in [*self.parameters(), *buffers])

    def can_generate(self) -> bool:
        """False: text is read from logits, not generated token by token."""
        return False

    def tie_weights(self) -> None:
        """Does nothing: no two weights of these models are one."""

    # --- lengths

    def feature_lengths(self, samples: Tensor | int, add_adapter: bool | None = None) -> Tensor:
        """Output frames for so many samples each, as an integer tensor of the same shape.

        samples: a number or a tensor of them. add_adapter: count the convolutional adapter's strides; by default
        if the model has one.
        """
        frames = encoder_length(torch.as_tensor(samples), self.config)
        if self.config.add_adapter if add_adapter is None else add_adapter:
            frames = adapter_length(frames, self.config)
        return frames

    def _get_feat_extract_output_lengths(self, input_lengths: Tensor | int, add_adapter: bool | None = None) -> Tensor:
        """The Hugging Face name for `feature_lengths`."""
        return self.feature_lengths(input_lengths, add_adapter)

    def tdnn_lengths(self, frames: Tensor | int) -> Tensor:
        """Frames that the x-vector's TDNN leaves of so many frames, dilation counted."""
        return tdnn_length(torch.as_tensor(frames), self.config)

    # --- training

    def freeze_feature_encoder(self) -> None:
        """Takes the feature encoder's parameters out of training."""
        for module in self.modules():
            if isinstance(module, FeatureEncoder):
                module.freeze()

    def freeze_feature_extractor(self) -> None:
        """The older Hugging Face name for `freeze_feature_encoder`."""
        warnings.warn("freeze_feature_extractor is now freeze_feature_encoder.", FutureWarning, stacklevel=2)
        self.freeze_feature_encoder()

    def freeze_base_model(self) -> None:
        """Takes the whole model but its head out of training."""
        self.base_model.requires_grad_(False)

    def gradient_checkpointing_enable(
        self,
        gradient_checkpointing_kwargs: dict[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Recomputes blocks in the backward pass instead of keeping their activations: less memory, more time.

        gradient_checkpointing_kwargs: taken for compatibility; the non-reentrant kind is always used.

        Raises ValueError for every_n_layers other than 1 and for offload=True, which aren't offered.
        """
        if every_n_layers != 1 or offload:
            raise ValueError("Every block is recomputed, on its device: every_n_layers must be 1 and offload False.")
        self._set_gradient_checkpointing(True)

    def gradient_checkpointing_disable(self) -> None:
        """Keeps all activations for the backward pass again."""
        self._set_gradient_checkpointing(False)

    def _set_gradient_checkpointing(self, value: bool) -> None:
        for module in self.modules():
            if isinstance(module, (FeatureEncoder, ConformerEncoder)):
                module.gradient_checkpointing = value

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether blocks are recomputed in the backward pass."""
        return any(getattr(module, "gradient_checkpointing", False) for module in self.modules())

    # --- per-language adapters

    def language_adapters(self) -> dict[str, LanguageAdapter]:
        """Each block's language adapter by its name in the model; empty where none are configured."""
        return {name: module for name, module in self.named_modules() if isinstance(module, LanguageAdapter)}

    def init_adapter_layers(self) -> None:
        """Gives the language adapters their starting values, to train them for another language.

        Raises ValueError where the configuration has no `adapter_attn_dim`.
        """
        adapters = self.language_adapters()
        if not adapters:
            raise ValueError(
                "This model has no language adapters: set adapter_attn_dim (for example 16) in its configuration."
            )
        for module in adapters.values():
            initialize(module, self.config.initializer_range)

    def freeze_all_but_adapters(self) -> None:
        """Leaves the language adapters and the head in training, as for a new language."""
        self.freeze_base_model()
        for module in self.language_adapters().values():
            module.requires_grad_(True)

    # --- what an encoder of waveforms has not

    def get_input_embeddings(self) -> NoReturn:
        """Refused: waveforms come in, not tokens."""
        raise NotImplementedError(f"{type(self).__name__} has no token embeddings: its input is a waveform.")

    def resize_token_embeddings(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: waveforms come in, not tokens."""
        raise NotImplementedError(
            f"{type(self).__name__} has no token embeddings to resize: its input is a waveform. For another output "
            "vocabulary load it with from_pretrained(..., vocab_size=…, ignore_mismatched_sizes=True)."
        )

    def prune_heads(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: the checkpoints' layout has one size for all heads of all layers."""
        raise NotImplementedError(f"{type(self).__name__} can't prune attention heads: its layers share one shape.")

    # --- arguments that every forward takes

    def _wanted(self, value: bool | None, name: str) -> bool:
        return bool(getattr(self.config, name) if value is None else value)

    def _result(self, output: ModelOutput, return_dict: bool | None) -> Any:
        return output if self._wanted(return_dict, "return_dict") else output.to_tuple()
