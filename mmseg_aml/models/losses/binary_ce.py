"""Binary cross entropy of labels without waiting for the device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...registry import MODELS


@MODELS.register_module()
class BinaryCrossEntropy(nn.Module):
    """The value of mmseg's ``CrossEntropyLoss(use_sigmoid=True)``, bit for bit.

    (That one looks at the labels, and counts the pixels, on the host.)

    Args:
        avg_non_ignore: Divide by the number of pixels that count, instead of by all.
        loss_weight: Factor of the loss.
        loss_name: Key in the loss dict; must contain ``loss`` to be optimised.
    """

    def __init__(
        self,
        *,
        avg_non_ignore: bool = False,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_ce',
    ) -> None:
        super().__init__()
        self.avg_non_ignore = avg_non_ignore
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(
        self, logits: Tensor, target: Tensor, weight: None = None, ignore_index: int = 255
    ) -> Tensor:
        """Scalar loss.

        Args:
            logits: (E, 1, H, W).
            target: (E, H, W) labels {0, 1}; ``ignore_index`` does not count.
            weight: Pixel weights, which mmseg's heads pass as None: not supported.
            ignore_index: Label that does not count.
        """
        if weight is not None:
            raise ValueError('BinaryCrossEntropy takes no pixel weights (no sampler)')
        counted = (target != ignore_index).float()
        pixels = F.binary_cross_entropy_with_logits(
            logits.squeeze(1), target.float(), reduction='none'
        )
        pixels = pixels * counted
        if not self.avg_non_ignore:
            return self.loss_weight * pixels.mean()
        count = counted.sum() + torch.finfo(torch.float32).eps
        return self.loss_weight * (pixels.sum() / count)
