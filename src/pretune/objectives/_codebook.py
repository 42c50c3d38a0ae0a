"""A codebook that follows what it is used for, and gives unused codes something to do.

A. van den Oord et al., "Neural Discrete Representation Learning", 2017, appendix A.1 (moving averages instead of a
gradient); codes that nothing uses begin again at an encoding of the batch (J. Williams et al., "Hierarchical Quantized
Autoencoders", 2020).

Shapes: N encodings, K codes, E channels of a code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_DECAY = 0.98
_DEAD = 0.1
"""Share of an even use below which a code begins again."""


class Codebook(nn.Module):
    """K vectors in buffers: what a code means, how often it was used of late, and the sum of what used it."""

    vectors: Tensor
    uses: Tensor
    sums: Tensor

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.randn(codes, width))
        self.register_buffer("uses", torch.zeros(codes))
        self.register_buffer("sums", torch.zeros(codes, width))

    @torch.no_grad()
    def codes(self, z_NE: Tensor) -> Tensor:
        """Return the nearest code of each encoding, (N,) int64."""
        with torch.autocast(z_NE.device.type, enabled=False):  # near codes differ by less than bfloat16 tells
            return torch.addmm(self.vectors.square().sum(1), z_NE.float(), self.vectors.t(), alpha=-2).argmin(1)

    @torch.no_grad()
    def learn(self, z_NE: Tensor, codes_N: Tensor) -> None:
        """Move the vectors to the mean of what used them, and dead ones to random encodings of this batch."""
        z_NE = z_NE.float()
        used_NK = F.one_hot(codes_N, len(self.vectors)).to(z_NE.dtype)
        first = not bool(self.uses.any())
        self.uses.lerp_(used_NK.sum(0), 1 - _DECAY)
        with torch.autocast(z_NE.device.type, enabled=False):
            self.sums.lerp_(used_NK.t() @ z_NE, 1 - _DECAY)
        even = float(self.uses.sum()) / len(self.uses)
        dead_K = torch.ones_like(self.uses, dtype=torch.bool) if first else self.uses < _DEAD * even
        if count := int(dead_K.sum()):
            sampled = torch.randint(len(z_NE), (count,), device=z_NE.device)
            self.uses[dead_K] = even
            self.sums[dead_K] = z_NE[sampled] * even
        self.vectors.copy_(self.sums / self.uses[:, None])

    def perplexity(self) -> float:
        """Return how many codes, used evenly, would be used as these are; K at most."""
        p_K = self.uses / self.uses.sum().clamp(min=1e-9)
        return float(torch.special.entr(p_K).sum().exp())

    def unigram(self, codes_N: Tensor) -> float:
        """Return the nats a code by how often each was used: what a prior has to beat."""
        p_K = (self.uses + 1e-3) / (self.uses + 1e-3).sum()
        return float(-p_K[codes_N].log().mean())


def straight_through(z_NE: Tensor, quantised_NE: Tensor) -> Tensor:
    """Return the quantised encodings with the gradient going to the encodings."""
    return z_NE + (quantised_NE - z_NE).detach()
