"""Self-attention under three position schemes: none, rotary, relative.

All three go through PyTorch's fused attention; the matrix of weights is made only when asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.model import reference
from wavconformer.model.layers import Linear
from wavconformer.model.linear import linear
from wavconformer.model.packing import Packing

# Queries that relative attention handles at once: bounds its memory to O(block · T). For long recordings they are
# fewer, so that a block has no more scores than this (24 MB): a larger matrix is slower to be had than to be filled.
QUERY_BLOCK = 256
BLOCK_SCORES = 6_000_000
LEAST_BLOCK = 128
# From so many scores a head on, a CPU without autograd takes the heads one after the other: more queries of one are a
# better shape for both products than few of all, and oneDNN can do the position product.
HEAD_SCORES = 400_000
HEAD_QUERY_BLOCK = 1024
# Up to so many scores fused attention on a CPU is slower in training than its parts; in half precision up to four times
# where utterances are short.
SCORES = 1_000_000
HALF_SCORES = 8_000_000
# Projected positions are kept between calls for at most a minute of frames: 24 MB a layer of the large shape then.
KEPT_FRAMES = 3000


class RotaryPositions(nn.Module):
    """Cosines and sines of the rotary embedding (arXiv 2104.09864, equation 34)."""

    inv_freq: Tensor

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__()
        self.head_size = config.head_size
        self.base = config.rotary_embedding_base
        self.register_buffer("inv_freq", torch.empty(self.head_size // 2))

    @torch.no_grad()
    def reset_buffers(self) -> None:
        """Fills the frequencies in."""
        self.inv_freq.copy_(self._frequencies(self.inv_freq.device))

    def _frequencies(self, device: torch.device) -> Tensor:
        """One for each pair of a head's values."""
        exponent = torch.arange(0, self.head_size, 2, dtype=torch.float32, device=device)
        return self.base ** -(exponent / self.head_size)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RotaryPositions:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # Whatever the type of the weights: what is saved of a half-precision model stays exact.
        self.inv_freq = self.inv_freq.float()
        self.reset_buffers()
        return self

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The cosines and sines (T, 1, K) for hidden states (B, T, D), in their dtype."""
        # Not from the buffer, which is there for the files' sake: rounded to half precision, its frequencies would be
        # some radians wrong after half a minute.
        time = torch.arange(hidden.shape[1], device=hidden.device, dtype=torch.float32)
        angles = (time[:, None] * self._frequencies(hidden.device)).repeat(1, 2)[:, None]
        return angles.cos().to(hidden.dtype), angles.sin().to(hidden.dtype)


class RelativePositions(nn.Module):
    """Sinusoids of the distances T-1 … -(T-1) between query and key (arXiv 1901.02860, section 3.3)."""

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__()
        self.hidden_size = config.hidden_size

    def forward(self, hidden: Tensor) -> Tensor:
        """(2T - 1, D) for hidden states (B, T, D), in their dtype; row r stands for query - key = T - 1 - r."""
        frames = hidden.shape[1]
        distance = torch.arange(frames - 1, -frames, -1, device=hidden.device, dtype=torch.float32)
        even = torch.arange(0, self.hidden_size, 2, device=hidden.device, dtype=torch.float32)
        angles = distance[:, None] * torch.exp(even * -(math.log(10_000.0) / self.hidden_size))
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1).to(hidden.dtype)


class SelfAttention(nn.Module):
    """Multi-head self-attention that knows no positions."""

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.scale = config.head_size**-0.5
        self.dropout = config.attention_dropout
        self.linear_q = Linear(size, size)
        self.linear_k = Linear(size, size)
        self.linear_v = Linear(size, size)
        self.linear_out = Linear(size, size)

    def forward(
        self, hidden: Tensor, positions: object, mask: Tensor | Packing | None, output_attentions: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T, D) → (B, T, D) and, if asked for, the weights (B, H, T, T).

        positions: what the encoder's position module gave. mask: (B, T), True on the keys to attend to.
        """
        q, k, v = self._project(hidden, positions)
        weights = None
        if isinstance(mask, Packing):
            context = self._attend_packed(q, k, v, positions, mask)
        else:
            context, weights = self._attend(q, k, v, positions, mask, output_attentions)
        return self.linear_out(context.transpose(1, 2).flatten(2)), weights

    def _attend_packed(self, q: Tensor, k: Tensor, v: Tensor, positions: object, packing: Packing) -> Tensor:
        """What the queries of a line (1, H, L, K) gather, each from its utterance."""
        if torch.is_grad_enabled():  # a backward pass takes many steps for each utterance by itself
            q, k, v = (packing.unpack(x.transpose(1, 2)).transpose(1, 2) for x in (q, k, v))
            context, _ = self._attend(q, k, v, positions, packing.mask(q.device), False)
            return packing.pack(context.transpose(1, 2)).transpose(1, 2)
        parts = zip(packing.apart(q, 2), packing.apart(k, 2), packing.apart(v, 2), strict=True)
        return packing.together([self._attend(*part, positions, None, False)[0] for part in parts], 2)

    def _project(self, hidden: Tensor, positions: object) -> tuple[Tensor, Tensor, Tensor]:
        heads = (self.linear_q(hidden), self.linear_k(hidden), self.linear_v(hidden))
        q, k, v = (self._split(x) for x in heads)
        return q, k, v

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, D) → (B, H, T, K)."""
        return x.view(*x.shape[:-1], self.num_heads, -1).transpose(1, 2)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, positions: object, mask: Tensor | None, output_attentions: bool
    ) -> tuple[Tensor, Tensor | None]:
        keys = None if mask is None else mask[:, None, None, :]
        if output_attentions or reference.is_plain():
            return self._attend_visibly(q, k, v, keys)
        return self._attend_unseen(q, k, v, keys), None

    def _attend_unseen(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """Fused attention, or what is faster."""
        if _is_fused_slow(q, v):
            return self._attend_visibly(q, k, v, bias)[0]
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, scale=self.scale)

    def _attend_visibly(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Attention whose weights are an output; what fused attention computes, in the open.

        bias: as fused attention takes it, summands of the scores or True on the keys that count.
        """
        if bias is not None and bias.dtype is torch.bool:
            bias = q.new_zeros(()).masked_fill(~bias, -math.inf)
        weights = F.dropout(reference.attention_weights(q, k, bias, self.scale), self.dropout, self.training)
        return weights @ v, weights


class RotarySelfAttention(SelfAttention):
    """Attention whose queries and keys are projected from rotated hidden states, its values from unrotated ones.

    The usual rotary embedding rotates after the projection; these models were trained with this one.
    """

    def _project(self, hidden: Tensor, positions: object) -> tuple[Tensor, Tensor, Tensor]:
        assert isinstance(positions, tuple)
        cos, sin = positions
        heads = hidden.view(*hidden.shape[:-1], self.num_heads, -1)
        first, second = heads.chunk(2, dim=-1)
        rotated = (heads * cos + torch.cat((-second, first), dim=-1) * sin).flatten(2)
        q, k, v = self.linear_q(rotated), self.linear_k(rotated), self.linear_v(hidden)
        return self._split(q), self._split(k), self._split(v)


class RelativeSelfAttention(SelfAttention):
    """Attention with relative positions as in Transformer-XL (arXiv 1901.02860, section 3.3).

    The score of query i and key j is (q_i + u)·k_j + (q_i + v)·p_{i-j}, p the projected sinusoids.
    """

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__(config)
        self.linear_pos = Linear(config.hidden_size, config.hidden_size, bias=False)
        self.pos_bias_u = nn.Parameter(torch.empty(self.num_heads, config.head_size))
        self.pos_bias_v = nn.Parameter(torch.empty(self.num_heads, config.head_size))
        self._kept: tuple[tuple[object, ...], Tensor] | None = None

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, positions: object, mask: Tensor | None, output_attentions: bool
    ) -> tuple[Tensor, Tensor | None]:
        assert isinstance(positions, Tensor)
        frames = q.shape[2]
        p = self._project_positions(positions.narrow(0, positions.shape[0] // 2 + 1 - frames, 2 * frames - 1))
        q_u = q + self.pos_bias_u[:, None]
        q_v = (q + self.pos_bias_v[:, None]) * self.scale
        keys = None if mask is None else mask[:, None, None, :]
        if reference.is_plain():
            bias = reference.position_scores(q_v, p.transpose(1, 2))
            return self._attend_visibly(q_u, k, v, bias if keys is None else bias.masked_fill(~keys, -math.inf))
        if output_attentions:
            return self._attend_visibly(q_u, k, v, self._position_scores(q_v, p, 0, frames, keys))
        heads, queries = _block_size(q)
        if queries == frames and heads == self.num_heads:
            return self._attend_block(q_u, q_v, k, v, p, keys, 0, frames), None
        if torch.is_grad_enabled():
            return self._attend_blocks(q_u, q_v, k, v, p, keys, queries), None
        if heads == 1:
            q_u, q_v = q_u.contiguous(), q_v.contiguous()
        # Not a list of blocks: small tensors that outlive the large scores between them leave holes in the memory.
        context = v.new_empty(v.shape[0], frames, *v.shape[1::2]).transpose(1, 2)
        for head in range(0, self.num_heads, heads):
            some = slice(head, head + heads)
            for start in range(0, frames, queries):
                now = slice(start, start + queries)
                parts = (q_u[:, some, now], q_v[:, some, now], k[:, some], v[:, some], p[some])
                context[:, some, now] = self._attend_block(*parts, keys, start, frames)
        return context, None

    def _attend_blocks(
        self, q_u: Tensor, q_v: Tensor, k: Tensor, v: Tensor, p: Tensor, keys: Tensor | None, size: int
    ) -> Tensor:
        """What all queries gather, `size` of them at a time, for a backward pass.

        A block's scores are made again in it: kept, they would be O(T²) after all.
        """
        frames = q_u.shape[2]
        random = self.training and self.dropout > 0
        blocks = []
        for start in range(0, frames, size):
            now = slice(start, start + size)
            arguments = (q_u[:, :, now], q_v[:, :, now], k, v, p, keys, start, frames)
            blocks.append(checkpoint(self._attend_block, *arguments, use_reentrant=False, preserve_rng_state=random))
        return torch.cat(blocks, dim=2)

    def _attend_block(
        self,
        q_u: Tensor,
        q_v: Tensor,
        k: Tensor,
        v: Tensor,
        p: Tensor,
        keys: Tensor | None,
        start: int,
        frames: int,
    ) -> Tensor:
        """What the queries from `start` on, of `frames` in all, gather."""
        return self._attend_unseen(q_u, k, v, self._position_scores(q_v, p, start, frames, keys))

    def _project_positions(self, positions: Tensor) -> Tensor:
        """(2T - 1, D) → (H, 2T - 1, K): a row for each distance between query and key.

        They depend on the weights and on T alone, so without autograd they are kept for the next call. Those for fewer
        frames are the middle of those for more.
        """
        weight = self.linear_pos.weight
        rows = positions.shape[0]
        changing = self.training or not reference.is_unseen() or weight.is_inference()
        if changing or rows > 2 * KEPT_FRAMES:
            return self._split(self.linear_pos(positions)[None])[0].contiguous()
        version = (weight.data_ptr(), weight._version, positions.dtype, weight.dtype)
        kept = self._kept  # another thread may put its own there meanwhile
        if kept is None or kept[0] != version or kept[1].shape[1] < rows:
            kept = self._kept = (version, self._split(self.linear_pos(positions)[None])[0].contiguous())
        return kept[1].narrow(1, (kept[1].shape[1] - rows) // 2, rows)

    def train(self, mode: bool = True) -> RelativeSelfAttention:
        """Training changes the weights that the kept positions were projected with: they go."""
        self._kept = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_kept": None}  # no part of a copy or a pickle

    @staticmethod
    def _position_scores(q: Tensor, p: Tensor, start: int, frames: int, keys: Tensor | None) -> Tensor:
        """(B, H, n, T): the position term for the n queries from `start` on; -inf on keys that don't count.

        Query i = start + a and key j are T - 1 - i + j columns apart from the first. Of the columns that these
        queries need, row a starts at n - 1 - a: read as rows one shorter, from the offset n - 1 on, the product
        is in place, without a copy.
        """
        count = q.shape[2]
        width = frames + count - 1
        near = p.narrow(1, frames - start - count, width)
        # One head's is a product of two matrices, which has a faster way than a batch of them.
        scores = linear(q[:, 0].contiguous(), near[0])[:, None] if near.shape[0] == 1 else q @ near.transpose(1, 2)
        skewed = scores.flatten(2)[..., count - 1 : -1]
        # One query: the row isn't skewed, and a width of T - 1 would cut its last key off.
        rows = skewed.view(*q.shape[:2], count, width - 1).narrow(3, 0, frames) if count > 1 else scores
        return rows if keys is None else rows.masked_fill(~keys, -math.inf)


def _is_fused_slow(q: Tensor, v: Tensor) -> bool:
    """Whether fused attention is slower than its parts, with a backward pass."""
    if v.device.type != "cpu" or not torch.is_grad_enabled() or reference.is_traced():
        return False
    most = HALF_SCORES if v.dtype in (torch.bfloat16, torch.float16) else SCORES
    return q.shape[:3].numel() * v.shape[2] <= most


def _block_size(q: Tensor) -> tuple[int, int]:
    """Heads and queries, of (B, H, T, K), to handle at once."""
    batch, heads, frames, _ = q.shape
    if reference.is_traced() or reference.is_transformed():
        return heads, frames
    if reference.is_unseen() and q.device.type == "cpu" and batch * frames**2 >= HEAD_SCORES:
        # A third of the queries: the columns that a block computes beside those it needs are as many as its rows.
        heads, most = 1, min(HEAD_QUERY_BLOCK, max(QUERY_BLOCK, frames // 3))
    else:
        most = QUERY_BLOCK
    return heads, min(frames, most, max(LEAST_BLOCK, BLOCK_SCORES // (batch * heads * frames)))


SCHEMES: dict[str | None, tuple[type[nn.Module] | None, type[SelfAttention]]] = {
    None: (None, SelfAttention),
    "rotary": (RotaryPositions, RotarySelfAttention),
    "relative": (RelativePositions, RelativeSelfAttention),
}
"""Of each `position_embeddings_type` the encoder's position module and the blocks' attention."""
