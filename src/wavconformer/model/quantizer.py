"""The product quantizer that turns features into pretraining targets (arXiv 2006.11477, section 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.model.batch_norm import sum_over_processes
from wavconformer.model.layers import Linear


class GumbelVectorQuantizer(nn.Module):
    """Chooses one entry in each of G codebooks and puts them side by side.

    In training the choice is drawn by Gumbel-softmax with straight-through gradients (arXiv 1611.01144); in eval
    mode it is the likeliest entry.
    """

    def __init__(self, config: Wav2Vec2ConformerConfig) -> None:
        super().__init__()
        self.num_groups = config.num_codevector_groups
        self.num_entries = config.num_codevectors_per_group
        size = config.codevector_dim // self.num_groups
        self.codevectors = nn.Parameter(torch.empty(1, self.num_groups * self.num_entries, size))
        self.weight_proj = Linear(config.conv_dim[-1], self.num_groups * self.num_entries)
        self.temperature = 2.0

    def forward(
        self, features: Tensor, mask: Tensor | None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features (B, T, C) → codevectors (B, T, codevector_dim), the codebooks' perplexity, codes (B, T, G).

        The codes are the numbers of the chosen entries: two frames are quantized alike where these agree.

        mask: (B, T), the frames that count for the perplexity; None for all. generator: of the Gumbel noise.
        """
        logits = self.weight_proj(features).unflatten(-1, (self.num_groups, self.num_entries))
        if self.training:
            noise = -torch.empty_like(logits, dtype=torch.float32).exponential_(generator=generator).log()
            soft = ((logits.float() + noise) / self.temperature).softmax(-1)
            codes = soft.argmax(-1)
            choice = _one_hot(codes, soft) + (soft - soft.detach())
            usage = logits.float().softmax(-1)
        else:
            codes = logits.argmax(-1)
            choice = usage = _one_hot(codes, logits).float()
        codebooks = self.codevectors.view(self.num_groups, self.num_entries, -1)
        chosen = torch.einsum("btge,ged->btgd", choice.to(logits.dtype), codebooks)
        return chosen.flatten(2), perplexity(usage, mask, of_all_processes=self.training), codes


def _one_hot(codes: Tensor, scores: Tensor) -> Tensor:
    return torch.zeros_like(scores).scatter_(-1, codes[..., None], 1.0)


def perplexity(probabilities: Tensor, mask: Tensor | None, *, of_all_processes: bool = False) -> Tensor:
    """Sum over the groups of exp(entropy) of the mean distribution: (B, T, G, E) and (B, T) → scalar.

    It lies between G (each codebook collapsed to one entry) and G · E (all entries in equal use).

    of_all_processes: take the mean over the frames of all processes that train together.
    """
    if mask is None:
        mask = torch.ones(probabilities.shape[:2], dtype=torch.bool, device=probabilities.device)
    counted = mask[..., None, None].to(probabilities.dtype)
    total, count = (probabilities * counted).sum((0, 1)), counted.sum()
    if of_all_processes:
        total, count = sum_over_processes(total), sum_over_processes(count)
    mean = total / count.clamp(min=1)
    # Of an entry that is never used the logarithm's gradient would be infinite, and the softmax's 0 make it NaN.
    logarithm = mean.clamp(min=torch.finfo(mean.dtype).tiny).log()
    return torch.exp(-(mean * logarithm).sum(-1)).sum()
