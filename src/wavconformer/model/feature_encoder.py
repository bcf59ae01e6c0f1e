"""From the waveform to frames, of 320 samples as released: wav2vec 2.0's convolutions (arXiv 2006.11477, section 2)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.model import reference
from wavconformer.model.activations import activation
from wavconformer.model.layers import LayerNorm, Linear, StridedConv
from wavconformer.model.lengths import conv_length, length_mask
from wavconformer.model.packing import Packing, rounded

# On a CPU, without autograd, the layers go in pieces of time: all of them in pieces of so many of the encoder's frames
# (20 s), which bounds their memory; and within one the first layers, whose frames are many, in pieces of so many values
# of their output, which stay in the cache.
PIECE = 1024
FIRST_LAYERS = 2
FIRST_PIECE = 400_000


class NormOverTime(nn.Module):
    """Each channel of each utterance to zero mean and unit variance over its real frames, then scale and shift.

    That is group normalisation with a group for each channel. Its statistics are over an utterance's own frames
    alone, so that padding doesn't change them.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.eps = eps

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, C) → (B, T, C); mask (B, T) is True on real frames."""
        if mask is None:
            variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
        else:
            real = mask[..., None].float()  # in half precision half a minute of frames is too many to count
            count = real.sum(1, keepdim=True)
            mean = (x * real).sum(1, keepdim=True) / count
            variance = ((x - mean).square() * real).sum(1, keepdim=True) / count
        scale = (self.weight * torch.rsqrt(variance + self.eps)).to(self.weight.dtype)
        return x * scale + (self.bias - mean * scale).to(self.bias.dtype)


class ConvLayer(nn.Module):
    """One convolution, its norm if it has one, and the activation."""

    def __init__(self, config: Wav2Vec2ConformerConfig, index: int) -> None:
        super().__init__()
        channels = config.conv_dim[index]
        self.conv = StridedConv(
            config.conv_dim[index - 1] if index else 1,
            channels,
            kernel_size=config.conv_kernel[index],
            stride=config.conv_stride[index],
            bias=config.conv_bias,
        )
        self.layer_norm: nn.Module | None = None
        if config.feat_extract_norm == "layer":
            self.layer_norm = LayerNorm(channels)
        elif index == 0:
            self.layer_norm = NormOverTime(channels)
        self.activation = activation(config.feat_extract_activation)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T, C) → (B, T', C'); `lengths` (B,) counts the real frames of the output."""
        x = self.conv(x)
        if isinstance(self.layer_norm, NormOverTime):
            x = self.layer_norm(x, None if lengths is None else length_mask(lengths, x.shape[1]))
        elif self.layer_norm is not None:
            x = self.layer_norm(x)
        return self.activation(x)


class FeatureEncoder(nn.Module):
    """The stack of convolutions."""

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(ConvLayer(config, index) for index in range(len(config.conv_dim)))
        self.gradient_checkpointing = False

    def freeze(self) -> None:
        """Takes these parameters out of training."""
        self.requires_grad_(False)

    def forward(self, input_values: Tensor, lengths: Tensor | None) -> Tensor:
        """Waveforms (B, S) → features (B, T, C); `lengths` (B,) counts the real samples, None: all."""
        x = input_values[..., None]
        if lengths is not None and self._may_go_in_line(x):
            return self._in_line(x, lengths.tolist())
        return self._through_layers(x, lengths)

    @property
    def _layers(self) -> list[ConvLayer]:
        return [layer for layer in self.conv_layers if isinstance(layer, ConvLayer)]

    def _may_go_in_line(self, x: Tensor) -> bool:
        """Whether no layer looks over the whole time, and nobody looks at the layers."""
        if any(isinstance(layer.layer_norm, NormOverTime) for layer in self._layers):
            return False
        return x.device.type == "cpu" and not (reference.is_special() or reference.is_hooked(self.conv_layers))

    def _in_line(self, x: Tensor, lengths: list[int]) -> Tensor:
        """What is real of (B, S, 1) as features (B, T, C), zero on padding.

        The utterances go as one, each some whole frames behind the one before. Frames that see two are left out.
        """
        hop, field = hop_and_field(self._layers)
        counts = [conv_length(length, field, hop) for length in lengths]
        between = max(0, -((hop - field) // hop))
        starts = list(accumulate((count + between for count in counts), initial=0))
        line = x.new_zeros(1, (rounded(starts.pop()) - 1) * hop + field, 1)
        for row, start, count in zip(x, starts, counts, strict=True):
            samples = (count - 1) * hop + field
            line[0, start * hop : start * hop + samples] = row[:samples]
        made = self._through_layers(line, None)
        real = torch.cat([made[:, start : start + count] for start, count in zip(starts, counts, strict=True)], dim=1)
        return Packing(counts, conv_length(x.shape[1], field, hop), 1).unpack(real)

    def _through_layers(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        if lengths is None and reference.is_unseen() and self._may_go_in_line(x):
            return in_pieces(x, self._layers, PIECE, self._on_piece)
        for layer in self._layers:
            if lengths is not None:
                lengths = conv_length(lengths, layer.conv.kernel_size[0], layer.conv.stride[0])
            if self.gradient_checkpointing and self.training:
                x = checkpoint(layer, x, lengths, use_reentrant=False)
            else:
                x = layer(x, lengths)
        return x

    def _on_piece(self, x: Tensor) -> Tensor:
        first, later = self._layers[:FIRST_LAYERS], self._layers[FIRST_LAYERS:]
        frames = max(1, FIRST_PIECE // (x.shape[0] * first[-1].conv.out_channels))
        x = in_pieces(x, first, frames, lambda piece: _through(first, piece))
        return _through(later, x)


def _through(layers: list[ConvLayer], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x, None)
    return x


def in_pieces(x: Tensor, layers: list[ConvLayer], frames: int, run: Callable[[Tensor], Tensor]) -> Tensor:
    """What `run`, which goes through `layers`, makes of (B, T, C), so many frames of its output at a time.

    A piece reaches as far into the next as the layers see. Norms and activations then find in the cache what the
    convolution before has just written.
    """
    hop, field = hop_and_field(layers)
    count = conv_length(x.shape[1], field, hop)
    ends = [(start, min(start + frames, count)) for start in range(0, count, frames)]
    pieces = [run(x[:, start * hop : (end - 1) * hop + field]) for start, end in ends]
    return torch.cat(pieces, dim=1) if len(pieces) > 1 else pieces[0]


def hop_and_field(layers: list[ConvLayer]) -> tuple[int, int]:
    """The samples from one frame of their output to the next, and those that one sees."""
    hop, field = 1, 1
    for layer in layers:
        field += (layer.conv.kernel_size[0] - 1) * hop
        hop *= layer.conv.stride[0]
    return hop, field


class FeatureProjection(nn.Module):
    """Normalises the features and projects them to the hidden size."""

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__()
        self.layer_norm = LayerNorm(config.conv_dim[-1], eps=config.layer_norm_eps)
        self.projection = Linear(config.conv_dim[-1], config.hidden_size)
        self.dropout = config.feat_proj_dropout

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, C) → hidden states (B, T, D) and the normalised features (B, T, C), the quantizer's input."""
        normed = self.layer_norm(features)
        return F.dropout(self.projection(normed), self.dropout, self.training), normed
