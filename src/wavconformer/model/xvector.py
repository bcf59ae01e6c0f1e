"""The parts of the speaker model: time-delay layers, statistics pooling, additive-margin softmax."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavconformer.config import Wav2Vec2ConformerConfig
from wavconformer.model.layers import Linear
from wavconformer.model.lengths import masked_mean, masked_std


class TDNNLayer(nn.Module):
    """A dilated convolution over time, as a linear layer over the frames it sees, with ReLU (Snyder et al. 2018)."""

    def __init__(self, config: Wav2Vec2ConformerConfig, index: int) -> None:
        super().__init__()
        inputs = config.tdnn_dim[max(index - 1, 0)]
        self.width = config.tdnn_kernel[index]
        self.dilation = config.tdnn_dilation[index]
        self.kernel = Linear(inputs * self.width, config.tdnn_dim[index])

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) → (B, T - dilation · (width - 1), C')."""
        count = x.shape[1] - self.dilation * (self.width - 1)
        seen = [x[:, tap * self.dilation : tap * self.dilation + count] for tap in range(self.width)]
        return F.relu(self.kernel(torch.cat(seen, dim=-1)))


def statistics_pooling(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean and standard deviation over the real frames: (B, T, C), (B, T) → (B, 2C)."""
    return torch.cat((masked_mean(x, mask), masked_std(x, mask)), dim=-1)


class AMSoftmaxLoss(nn.Module):
    """Cross-entropy over scaled cosines, that of the true class lowered by a margin (arXiv 1801.05599)."""

    def __init__(self, size: int, num_labels: int, scale: float = 30.0, margin: float = 0.4) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size, num_labels))
        self.scale = scale
        self.margin = margin

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """(B, size) and class numbers (B,) → the mean loss."""
        cosine = F.normalize(x.float(), dim=1) @ F.normalize(self.weight.float(), dim=0)
        margins = self.margin * F.one_hot(labels, cosine.shape[1]).to(cosine.dtype)
        return F.cross_entropy(self.scale * (cosine - margins), labels)
