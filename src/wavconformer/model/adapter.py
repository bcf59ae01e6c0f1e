"""Strided convolutions on top of the encoder, which shorten the sequence."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.model.layers import LayerNorm, Linear, StridedConv
from wavconformer.model.lengths import ADAPTER_PADDING, conv_length, length_mask


class AdapterLayer(nn.Module):
    """A strided convolution with a gate."""

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__()
        size = config.output_hidden_size or config.hidden_size
        self.conv = StridedConv(size, 2 * size, config.adapter_kernel_size, stride=config.adapter_stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) → (B, T', D)."""
        x = F.pad(x, (0, 0, ADAPTER_PADDING, ADAPTER_PADDING))
        return F.glu(self.conv(x), dim=-1)


class Adapter(nn.Module):
    """Projection to the output size where that differs, then the convolutions.

    They are never dropped in training: without one of them the sequence would have another length.
    """

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__()
        self.proj: nn.Linear | None = None
        self.proj_layer_norm: nn.LayerNorm | None = None
        if config.output_hidden_size and config.output_hidden_size != config.hidden_size:
            self.proj = Linear(config.hidden_size, config.output_hidden_size)
            self.proj_layer_norm = LayerNorm(config.output_hidden_size)
        self.layers = nn.ModuleList(AdapterLayer(config) for _ in range(config.num_adapter_layers))

    def forward(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, T, D) → (B, T', D') and the lengths (B,) that remain; frames beyond them are zero."""
        if self.proj is not None and self.proj_layer_norm is not None:
            x = self.proj_layer_norm(self.proj(x))
        for layer in self.layers:
            assert isinstance(layer, AdapterLayer)
            x = layer(_zero_beyond(x, lengths))
            if lengths is not None:
                conv = layer.conv
                lengths = conv_length(lengths, conv.kernel_size[0], conv.stride[0], ADAPTER_PADDING)
        return _zero_beyond(x, lengths), lengths


def _zero_beyond(x: Tensor, lengths: Tensor | None) -> Tensor:
    return x if lengths is None else x.masked_fill(~length_mask(lengths, x.shape[1])[..., None], 0.0)
