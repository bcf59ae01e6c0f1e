"""The Conformer block and the encoder that stacks it (arXiv 2005.08100, section 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.model import reference
from wavconformer.model.activations import activation
from wavconformer.model.attention import SCHEMES, SelfAttention
from wavconformer.model.batch_norm import FrameBatchNorm, checkpoint_contexts, several_processes
from wavconformer.model.convolution import depthwise_convolution
from wavconformer.model.layers import DepthwiseConv, LayerNorm, Linear, PointwiseConv
from wavconformer.model.packing import MULTIPLE, Packing

# On a CPU, without autograd, the frames that a feed-forward takes at a time: its wide middle then stays in the cache.
PIECE = 512


class FeedForward(nn.Module):
    """Two linear layers with an activation between."""

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__()
        self.intermediate_dense = Linear(config.hidden_size, config.intermediate_size)
        self.output_dense = Linear(config.intermediate_size, config.hidden_size)
        self.activation = activation(config.hidden_act)
        self.inner_dropout = config.activation_dropout
        self.dropout = config.hidden_dropout

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        if reference.is_unseen() and x.device.type == "cpu":
            pieces = [self._through(piece) for piece in torch.split(x.flatten(0, -2), PIECE)]
            return torch.cat(pieces).view(x.shape) if len(pieces) > 1 else pieces[0].view(x.shape)
        return self._through(x)

    def _through(self, x: Tensor) -> Tensor:
        x = F.dropout(self.activation(self.intermediate_dense(x)), self.inner_dropout, self.training)
        return F.dropout(self.output_dense(x), self.dropout, self.training)


class ConvolutionModule(nn.Module):
    """Gate, depthwise convolution, batch norm: the block's view of a frame's neighbourhood."""

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__()
        size, kernel = config.hidden_size, config.conv_depthwise_kernel_size
        self.layer_norm = LayerNorm(size)
        self.pointwise_conv1 = PointwiseConv(size, 2 * size)
        self.depthwise_conv = DepthwiseConv(size, kernel)
        self.batch_norm = FrameBatchNorm(size)
        self.pointwise_conv2 = PointwiseConv(size, size)
        self.activation = activation(config.hidden_act)
        self.dropout = config.conformer_conv_dropout

    def forward(self, x: Tensor, mask: Tensor | Packing | None) -> Tensor:
        """(B, T, D) → (B, T, D); mask (B, T) is True on real frames."""
        x = F.glu(self.pointwise_conv1(self.layer_norm(x)), dim=-1)
        x = self.activation(self._neighbourhood(x, mask))
        return F.dropout(self.pointwise_conv2(x), self.dropout, self.training)

    def _neighbourhood(self, x: Tensor, mask: Tensor | Packing | None) -> Tensor:
        """The depthwise convolution and its batch norm, in eval mode folded into one: (B, T, D) → (B, T, D)."""
        if isinstance(mask, Packing):
            reach = self.depthwise_conv.kernel_size[0] // 2
            if self.training:
                alike: Tensor = self.batch_norm(mask.spread(x, reach, self.depthwise_conv), None)
                return alike
            return mask.spread(x, reach, lambda x: self._neighbourhood(x, None))
        if mask is not None:
            # Alone, an utterance has zeros beyond its end; in a batch the layer norm's bias has filled them in.
            x = x.masked_fill(~mask[..., None], 0.0)
        if self.training or reference.is_plain():
            normed: Tensor = self.batch_norm(self.depthwise_conv(x), mask)
            return normed
        scale, shift = self.batch_norm.scale_and_shift()
        return depthwise_convolution(x, self.depthwise_conv.weight * scale[:, None, None], shift)


class LanguageAdapter(nn.Module):
    """Residual bottleneck after a block, with weights for one language (arXiv 2305.13516, section 5.2)."""

    def __init__(self, size: int, bottleneck: int) -> None:
        super().__init__()
        self.norm = LayerNorm(size)
        self.linear_1 = Linear(size, bottleneck)
        self.linear_2 = Linear(bottleneck, size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        change: Tensor = self.linear_2(F.relu(self.linear_1(self.norm(x))))
        return x + change


class ConformerBlock(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, each with its residual; then a norm."""

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.ffn1_layer_norm = LayerNorm(size)
        self.ffn1 = FeedForward(config)
        self.self_attn_layer_norm = LayerNorm(size)
        self.self_attn: SelfAttention = SCHEMES[config.position_embeddings_type][1](config)
        self.conv_module = ConvolutionModule(config)
        self.ffn2_layer_norm = LayerNorm(size)
        self.ffn2 = FeedForward(config)
        self.final_layer_norm = LayerNorm(size)
        self.attention_dropout = config.attention_dropout
        if config.adapter_attn_dim is not None:
            self.adapter_layer: LanguageAdapter | None = LanguageAdapter(size, config.adapter_attn_dim)
        else:
            self.adapter_layer = None

    def forward(
        self, x: Tensor, positions: object, mask: Tensor | Packing | None, output_attentions: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T, D) → (B, T, D) and, if asked for, the attention weights (B, H, T, T).

        Of a line of utterances, whose Packing stands for the mask, likewise; then there are no weights.
        """
        x = torch.add(x, self.ffn1(self.ffn1_layer_norm(x)), alpha=0.5)
        context, weights = self.self_attn(self.self_attn_layer_norm(x), positions, mask, output_attentions)
        x = x + F.dropout(context, self.attention_dropout, self.training)
        x = x + self.conv_module(x, mask)
        x = self.final_layer_norm(torch.add(x, self.ffn2(self.ffn2_layer_norm(x)), alpha=0.5))
        return (x if self.adapter_layer is None else self.adapter_layer(x)), weights


class WeightNorm(nn.Module):
    """Magnitude `original0` and direction `original1` of a weight, under PyTorch's names for them."""

    def __init__(self, size: int, inputs: int, kernel: int) -> None:
        super().__init__()
        self.original0 = nn.Parameter(torch.empty(1, 1, kernel))
        self.original1 = nn.Parameter(torch.empty(size, inputs, kernel))


class PositionalConvWeights(nn.Module):
    """Bias and normed weight of the convolutional position embedding."""

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__()
        inputs = config.hidden_size // config.num_conv_pos_embedding_groups
        self.bias = nn.Parameter(torch.empty(config.hidden_size))
        weight = WeightNorm(config.hidden_size, inputs, config.num_conv_pos_embeddings)
        self.parametrizations = nn.ModuleDict({"weight": weight})


class UnusedPositionalConv(nn.Module):
    """The convolutional position embedding that each checkpoint holds and no Conformer forward uses.

    It is kept so that files stay whole in both directions.
    """

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__()
        self.conv = PositionalConvWeights(config)


class ConformerEncoder(nn.Module):
    """The stack of blocks."""

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__()
        positions = SCHEMES[config.position_embeddings_type][0]
        self.embed_positions = None if positions is None else positions(config)
        self.pos_conv_embed = UnusedPositionalConv(config)
        self.layer_norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(ConformerBlock(config) for _ in range(config.num_hidden_layers))
        self.dropout = config.hidden_dropout
        self.layerdrop = config.layerdrop
        self.gradient_checkpointing = False

    def forward(
        self, hidden: Tensor, mask: Tensor | None, output_hidden_states: bool, output_attentions: bool
    ) -> tuple[Tensor, tuple[Tensor, ...] | None, tuple[Tensor, ...] | None]:
        """(B, T, D) → the normed output (B, T, D), and if asked for all hidden states and all attentions.

        mask: (B, T), True on real frames; None where nothing is padded.
        """
        positions = None if self.embed_positions is None else self.embed_positions(hidden)
        real: Tensor | Packing | None = mask
        if mask is not None and self._may_pack(hidden, output_hidden_states or output_attentions):
            real = packing = Packing(mask.sum(1).tolist(), mask.shape[1], MULTIPLE if reference.is_unseen() else 1)
            if isinstance(positions, tuple):
                positions = tuple(packing.repeat(part) for part in positions)
            hidden = packing.pack(hidden)
        elif mask is not None:
            hidden = hidden.masked_fill(~mask[..., None], 0.0)
        hidden = F.dropout(hidden, self.dropout, self.training)
        states, attentions = [hidden], []
        for layer, is_kept in zip(self.layers, self._kept_layers(hidden.device), strict=True):
            if is_kept:
                hidden, weights = self._run(layer, hidden, positions, real, output_attentions)
                attentions.append(weights)
            if output_hidden_states:
                states.append(hidden)
        hidden = self.layer_norm(hidden)
        if isinstance(real, Packing):
            hidden = real.unpack(hidden)
        elif mask is not None:
            hidden = hidden.masked_fill(~mask[..., None], 0.0)
        return (
            hidden,
            tuple(states) if output_hidden_states else None,
            tuple(weights for weights in attentions if weights is not None) if output_attentions else None,
        )

    def _may_pack(self, hidden: Tensor, is_watched: bool) -> bool:
        """Whether nobody looks at the layers, and the lengths are at hand."""
        if is_watched or reference.is_special() or hidden.device.type != "cpu" or reference.is_hooked(self.layers):
            return False
        # A norm that counts frames may not count those that belong to no utterance.
        return torch.is_grad_enabled() or not any(module.training for module in self.modules())

    def _kept_layers(self, device: torch.device) -> list[bool]:
        """LayerDrop (arXiv 1909.11556): in training a block is skipped now and then.

        Several processes skip the same blocks, as the batch norms of a block wait for each other.
        """
        if not self.training or self.layerdrop == 0:
            return [True] * len(self.layers)
        draws = torch.rand(len(self.layers))
        if several_processes():
            draws = draws.to(device)
            torch.distributed.broadcast(draws, src=0)
        return [draw >= self.layerdrop for draw in draws.tolist()]

    def _run(
        self,
        layer: nn.Module,
        hidden: Tensor,
        positions: object,
        mask: Tensor | Packing | None,
        output_attentions: bool,
    ) -> tuple[Tensor, Tensor | None]:
        if not (self.gradient_checkpointing and self.training):
            output: tuple[Tensor, Tensor | None] = layer(hidden, positions, mask, output_attentions)
            return output
        recomputed: tuple[Tensor, Tensor | None] = checkpoint(
            layer,
            hidden,
            positions,
            mask,
            output_attentions,
            use_reentrant=False,
            context_fn=checkpoint_contexts,
        )
        return recomputed
