"""What every training strategy shares: the slot's contract and the views of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.logging import MessageHub
from mmengine.model import BaseModule
from mmseg.structures import SegDataSample
from torch import Tensor, nn

if TYPE_CHECKING:
    from ..models.segmentors.text_image_segmentor import TextImageSegmentor

Schedule = Sequence[Sequence[float]]


class LossWrapper(BaseModule):
    """A training strategy: what happens inside ``forward(mode='loss')``.

    ``__call__(segmentor, inputs, data_samples)`` returns one dict for one backward pass.
    Keys with "loss" are summed by MMEngine; statistics must not contain that word. A
    wrapper owns no parameters and only non-persistent buffers, so that ``state_dict``
    is that of plain training, and it does nothing at inference.
    """

    def forward(
        self,
        segmentor: TextImageSegmentor,
        inputs: Tensor,
        data_samples: list[SegDataSample],
    ) -> dict[str, Tensor]:
        """Losses of one batch.

        Args:
            segmentor: The network, unchanged.
            inputs: (B, 3, H, W) normalised images.
            data_samples: E expressions with ground truth and ``image_index``.
        """
        raise NotImplementedError


class StepGenerator:
    """Random numbers that depend on (seed, rank, iteration) only.

    So a resumed run draws what the uninterrupted one would have drawn, no two ranks draw
    the same, and the global generators are left alone (switching a strategy off gives
    plain training bit for bit). The iteration is the Runner's; outside a Runner, calls
    are counted.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._calls = 0

    def __call__(self) -> torch.Generator:
        iteration = MessageHub.get_current_instance().get_info('iter', None)
        if iteration is None:
            iteration, self._calls = self._calls, self._calls + 1
        # An affine mix is enough: Philox/MT seeding scrambles neighbouring seeds.
        mixed = (self.seed * 1_000_003 + get_rank()) * 1_000_003 + int(iteration)
        return torch.Generator().manual_seed(mixed % 2**63)


@contextmanager
def frozen_batch_statistics(module: nn.Module, frozen: bool = True) -> Iterator[None]:
    """Normalise with batch statistics but leave the running ones alone."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    tracking = [m for m in norms if frozen and m.track_running_stats]
    for norm in tracking:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in tracking:
            norm.track_running_stats = True


def per_expression(inputs: Tensor, data_samples: Sequence[SegDataSample]) -> Tensor:
    """One image per expression: (B, 3, H, W) -> (E, 3, H, W)."""
    from ..models.segmentors.text_image_segmentor import expand, image_index

    return expand(inputs, image_index(data_samples))


def valid_sizes(inputs: Tensor, data_samples: Sequence[SegDataSample]) -> list[tuple[int, int]]:
    """(h, w) of every expression's image without padding."""
    whole = tuple(inputs.shape[-2:])
    return [tuple(s.metainfo.get('img_shape', whole))[:2] for s in data_samples]  # type: ignore[misc]


def scaled(losses: dict[str, Tensor], weight: float, prefix: str = '') -> dict[str, Tensor]:
    """Weights the losses of one view and prefixes its keys; statistics keep their value."""
    return {
        prefix + key: value * weight if 'loss' in key and weight != 1 else value
        for key, value in losses.items()
    }


def interpolate(schedule: Schedule, iteration: int) -> float:
    """Value of a piecewise linear schedule of (iteration, value) pairs, constant outside."""
    iterations, values = zip(*schedule)
    return float(np.interp(iteration, iterations, values))
