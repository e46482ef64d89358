"""mIoU, oIoU and Pr@X of referring image segmentation."""

from __future__ import annotations

import numpy as np

from ..registry import METRICS
from .base import ExpressionMetric, ImageEntry
from .protocols import Protocol
from .scores import ris_scores


@METRICS.register_module()
class RISMetric(ExpressionMetric):
    """mIoU, oIoU and Pr@0.5 ... 0.9 in percent over all expressions, per named protocol.

    Keys are ``ris/{protocol}/{score}``, for example ``ris/original/mIoU``; the scores are mIoU,
    oIoU, Pr@0.5, Pr@0.6, Pr@0.7, Pr@0.8, Pr@0.9 and empty_unions (a number of expressions).
    ``ris/expressions`` is the number of expressions. ``save_best='ris/original/mIoU'`` works as
    it is, oIoU needs ``rule='greater'`` beside it.

    Args: see :class:`ExpressionMetric`.
    """

    default_prefix = 'ris'

    def scores(self, results: list[ImageEntry], index: int, protocol: Protocol) -> dict[str, float]:
        """See :func:`~.scores.ris_scores`."""
        return ris_scores(np.concatenate([entry.counts[index] for entry in results]), protocol)
