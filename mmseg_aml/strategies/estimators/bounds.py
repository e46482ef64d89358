"""The bounds of every estimator: one that knows everything, one that knows nothing."""

from __future__ import annotations

import torch
from mmengine.model import BaseModule

from ...registry import MODELS
from ...transfer import to_device
from ..base import Alignment, View
from ..iteration import StepGenerator


@MODELS.register_module()
class GroundTruth(BaseModule):
    """Oracle: the target itself as the map, 1 on its pixels and 0 elsewhere."""

    def forward(self, view: View) -> Alignment:
        """Scores (E, H, W)."""
        return Alignment(view.targets.float())


@MODELS.register_module()
class UniformNoise(BaseModule):
    """Noise in [0, 1), one number per patch.

    Args:
        level: Level of ``features.visual`` that gives the grid.
        seed: Of the noise. Default: the Runner's.
    """

    def __init__(self, *, level: int = -1, seed: int | None = None) -> None:
        super().__init__()
        self.level = level
        self._generator = StepGenerator(seed, stream=1)

    def forward(self, view: View) -> Alignment:
        """Scores on the patch grid, new ones in every step."""
        level = view.features.visual[self.level]
        shape = (len(level), *level.shape[-2:])
        return Alignment(to_device(torch.rand(shape, generator=self._generator()), level.device))
