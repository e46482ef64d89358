"""Dice loss of one foreground channel."""

from __future__ import annotations

from torch import Tensor, nn

from ...registry import MODELS


@MODELS.register_module()
class BinaryDiceLoss(nn.Module):
    """1 - 2 |P G| / (|P| + |G|) per expression, averaged; P = sigmoid of the logits.

    Counts a small target as much as a large one, which cross entropy does not.
    (mmseg's ``DiceLoss`` expects a channel for the background, too.)

    Args:
        loss_weight: Factor of the loss.
        loss_name: Key in the loss dict; must contain ``loss`` to be optimised.
        smooth: Added to numerator and denominator, in pixels.
    """

    def __init__(
        self, *, loss_weight: float = 1.0, loss_name: str = 'loss_dice', smooth: float = 1.0
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.loss_name = loss_name
        self.smooth = smooth

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
            raise ValueError('BinaryDiceLoss takes no pixel weights (no sampler)')
        valid = (target != ignore_index).flatten(1)
        predicted = logits[:, 0].float().sigmoid().flatten(1) * valid
        truth = (target == 1).flatten(1).float()
        overlap = 2 * (predicted * truth).sum(1) + self.smooth
        loss = 1 - overlap / (predicted.sum(1) + truth.sum(1) + self.smooth)
        return self.loss_weight * loss.mean()
