"""Cross entropy with class weights, as the RIS releases take its mean."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmseg_aml.registry import MODELS


@MODELS.register_module()
class WeightedCrossEntropy(nn.Module):
    """Class-weighted cross entropy with PyTorch's weighted mean.

    With labels the sum of w * nll is divided by the sum of w over the pixels of the whole
    batch (mmseg's ``CrossEntropyLoss`` divides by the number of pixels). With probability
    targets (MaskRIS) PyTorch divides by the number of pixels.

    Args:
        class_weight: One weight per channel; (0.9, 1.1) in LAVT, CARIS and MaskRIS.
        loss_weight: Factor of the loss.
        loss_name: Key in the loss dict; must contain ``loss`` to be optimised.
    """

    def __init__(
        self,
        *,
        class_weight: Sequence[float] = (0.9, 1.1),
        loss_weight: float = 1.0,
        loss_name: str = 'loss_ce',
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.loss_name = loss_name
        self.class_weight: Tensor
        self.register_buffer('class_weight', torch.tensor(class_weight), persistent=False)

    def forward(
        self, logits: Tensor, target: Tensor, weight: None = None, ignore_index: int = 255
    ) -> Tensor:
        """Scalar loss.

        Args:
            logits: (E, C, H, W).
            target: Labels (E, H, W), or probabilities (E, C, H, W) in floating point.
            weight: Pixel weights, which mmseg's heads pass as None: not supported.
            ignore_index: Label that does not count; labels only.
        """
        if weight is not None:
            raise ValueError('WeightedCrossEntropy takes no pixel weights (no sampler)')
        logits = logits.float()
        if target.is_floating_point():
            loss = F.cross_entropy(logits, target.float(), weight=self.class_weight)
        elif torch.are_deterministic_algorithms_enabled():
            loss = self._repeatable(logits, target)
        else:
            loss = F.cross_entropy(
                logits, target.long(), weight=self.class_weight, ignore_index=ignore_index
            )
        return self.loss_weight * loss

    def _repeatable(self, logits: Tensor, target: Tensor) -> Tensor:
        """The same without nll_loss2d, which PyTorch refuses on GPUs in its repeatable mode."""
        classes = torch.arange(logits.shape[1], device=target.device)[:, None, None]
        one_hot = (target[:, None] == classes).float()  # ignore_index is no class
        total = F.cross_entropy(logits, one_hot, weight=self.class_weight, reduction='sum')
        return total / (one_hot * self.class_weight[:, None, None]).sum()
