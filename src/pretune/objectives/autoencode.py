"""Turn audio or images into codes and back (VQ-VAE), then learn which codes follow which, class by class.

A. van den Oord et al., "Neural Discrete Representation Learning", 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pretune.backbones import Backbone
from pretune.config import Within
from pretune.objectives._autoencoder import AutoencodeLearner
from pretune.objectives._base import Objective, Suggested


@dataclass(frozen=True, kw_only=True)
class Autoencode(Objective):
    """An encoder (the backbone), a codebook and a decoder first; then a prior over the codes, which `generate` draws from."""

    requires_targets: ClassVar[bool] = True
    suggested: ClassVar = {
        "audio": Suggested(
            backbone="scratch:audiovqvae", lr=1e-3, batch_size=32, epochs=40, weight_decay=0.01, augment="light", continued_heads=10
        ),
        "image": Suggested(backbone="scratch:vqvae", lr=1e-3, batch_size=64, epochs=20, weight_decay=0.01, continued_heads=10),
    }

    codes: Annotated[int, Within(2, 65_536)] = 256
    """Size of the codebook."""
    code_width: Annotated[int, Within(1)] = 32
    """Channels of a code; few keep all of them in use."""
    commitment: Annotated[float, Within(0)] = 0.25
    """Weight of the commitment loss, which pulls encodings towards their codes."""

    def learner(self, backbone: Backbone) -> AutoencodeLearner:
        """Return the learner."""
        return AutoencodeLearner(backbone, self.codes, self.code_width, self.commitment)
