"""Maps that are studied and not trained with."""

from __future__ import annotations

import torch
from torch import Tensor

from ...registry import MODELS
from ..aml.pmme import PMME


@MODELS.register_module()
class SharedPMME(PMME):
    """PMME with one projection for both modalities; the narrower one is padded with zeros.

    The inner product is then (nearly) kept, which means something only if patches and words
    live in one space.
    """

    def projections(self, visual: int, text: int, seed: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        both = torch.randn(max(visual, text), self.dim, generator=generator) * self.dim**-0.5
        return both[:visual], both[:text]
