"""Metrics of generalised referring expressions: several targets, or none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ..registry import METRICS
from .base import ExpressionMetric, ImageEntry
from .protocols import Protocol, ProtocolLike
from .scores import gres_scores


@METRICS.register_module()
class GRESMetric(ExpressionMetric):
    """gIoU, cIoU, N-acc, T-acc and Pr@0.7 ... 0.9 (Liu et al., GRES, CVPR 2023), in percent.

    Keys are ``gres/{protocol}/{score}`` and ``gres/expressions``. ``save_best`` needs
    ``rule='greater'`` beside ``gres/original/gIoU``. An expression has no target if its ground
    truth at the original size is empty.

    Args:
        protocols: See :class:`ExpressionMetric`; ReLA's numbers are under ``rela-480``.
        area_threshold: An expression is predicted to have no target if its predicted mask has
            fewer pixels than this, at the protocol's size. None: the model decides, each data
            sample has a bool ``pred_no_target``.
        out_file: See :class:`ExpressionMetric`.
        prefix: See :class:`ExpressionMetric`.
    """

    default_prefix = 'gres'

    def __init__(
        self,
        protocols: ProtocolLike | Sequence[ProtocolLike] = 'original',
        *,
        area_threshold: int | None = 50,
        out_file: str | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(protocols, out_file=out_file, prefix=prefix)
        self.area_threshold = area_threshold

    @property
    def note(self) -> str:
        """Names the no-target decision in the title of the table."""
        if self.area_threshold is None:
            return ', no-target by the model'
        return f', no-target: predicted area < {self.area_threshold} px'

    def flag(self, samples: list[dict], prediction: Tensor) -> np.ndarray:
        """Predicted no-target, (K,) bool.

        Raises:
            KeyError: If the model should decide and did not.
        """
        if self.area_threshold is not None:
            return (prediction.flatten(1).sum(1) < self.area_threshold).cpu().numpy()
        if not all('pred_no_target' in sample for sample in samples):
            raise KeyError(
                "area_threshold=None needs the model's decision 'pred_no_target' in each data "
                'sample; give an area_threshold for models without a no-target head'
            )
        return np.array([bool(sample['pred_no_target']) for sample in samples])

    def scores(self, results: list[ImageEntry], index: int, protocol: Protocol) -> dict[str, float]:
        """See :func:`~.scores.gres_scores`."""
        flags = [entry.flags[index] for entry in results if entry.flags is not None]
        return gres_scores(
            np.concatenate([entry.counts[index] for entry in results]),
            np.concatenate([entry.no_target for entry in results]),
            np.concatenate(flags),
            protocol,
        )
