"""Binary cross entropy on targets that may be probabilities."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ...registry import MODELS


@MODELS.register_module()
class SoftBinaryCrossEntropy(nn.Module):
    """Binary cross entropy with logits, mean over all pixels that are not ignored.

    (mmseg's ``CrossEntropyLoss(use_sigmoid=True)`` takes labels only.)

    Args:
        loss_weight: Factor of the loss.
        loss_name: Key in the loss dict; must contain ``loss`` to be optimised.
        ignored: Target value of pixels that do not count.
    """

    def __init__(
        self, loss_weight: float = 1.0, loss_name: str = 'loss_bce', ignored: float = 255
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.loss_name = loss_name
        self.ignored = ignored

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and target (E, 1, h, w), in [0, 1] or ignored -> scalar."""
        counted = (target != self.ignored).to(logits.dtype)
        loss = F.binary_cross_entropy_with_logits(
            logits, target * counted, weight=counted, reduction='sum'
        )
        return self.loss_weight * loss / counted.sum().clamp_min(1)
