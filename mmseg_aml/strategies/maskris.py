"""MaskRIS: semantic distortion-aware masking and self-distillation (arXiv 2411.19067).

Masks, losses and gradients equal those of the published training step; the clean and the
masked view are added before one backward pass instead of two.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from ..registry import MODELS
from ..structures import TextTokens
from ..transfer import to_device
from .base import Masked, View
from .masking.blocks import block_grid, pool_blocks, valid_pixels
from .masking.masker import Masker
from .masking.text import Vocabulary, mask_batch
from .two_views import TwoViews

if TYPE_CHECKING:
    from ..models.segmentors.text_image_segmentor import TextImageSegmentor


# --- pure functions ----------------------------------------------------------


def random_patch_mask(noise: Tensor, ratio: float, maskable: Tensor | None = None) -> Tensor:
    """Masks the same share of patches in every image.

    Of an image's n maskable patches, the int(n (1 - ratio)) with the smallest noise stay.

    Args:
        noise: (E, N), compared by rank; ties go by position.
        ratio: Share of the patches that is masked.
        maskable: (E, N) bool; all by default.

    Returns:
        (E, N) bool, True = masked.
    """
    if maskable is None:
        maskable = torch.ones_like(noise, dtype=torch.bool)
    # A table for every count there may be: reading the counts would make the host wait.
    kept = torch.tensor([int(count * (1 - ratio)) for count in range(maskable.shape[1] + 1)])
    kept = to_device(kept, noise.device)[maskable.sum(1)]
    rank = noise.masked_fill(~maskable, math.inf).argsort(dim=1, stable=True).argsort(1)
    return maskable & (rank >= kept[:, None])


def soft_target_loss(
    logits: Tensor, teacher: Tensor, class_weight: Tensor, valid: Tensor | None = None
) -> Tensor:
    """Cross entropy of a prediction to the soft prediction of a teacher.

    -sum_c w_c p_c log q_c, divided by the number of pixels (not by the sum of the weights):
    PyTorch's semantics for probability targets, which the published code uses.

    Args:
        logits: (E, C, h, w), two channels (soft-max) or one (sigmoid).
        teacher: Logits of the same shape; no gradient reaches them.
        class_weight: (2,), background and foreground.
        valid: (E, h, w) bool, pixels that count; all by default.
    """
    loss = F.cross_entropy(
        as_two_channels(logits),
        as_two_channels(teacher.detach()).softmax(1),
        weight=to_device(class_weight, logits.device),
        reduction='none',
    )
    return loss.mean() if valid is None else (loss * valid).sum() / valid.sum()


def as_two_channels(logits: Tensor) -> Tensor:
    """(E, 1, h, w) -> (E, 2, h, w) whose soft-max is (1 - sigmoid, sigmoid); in float32."""
    logits = logits.float()
    return F.pad(logits, (0, 0, 0, 0, 1, 0)) if logits.shape[1] == 1 else logits


def main_logits(output: Any) -> Tensor:
    """Logits of what a head's ``forward`` gives: a tensor, or a tuple with them first.

    Raises:
        TypeError: The head predicts in another form (Mask2Former, K-Net).
    """
    logits = output[0] if isinstance(output, tuple) else output
    if not isinstance(logits, Tensor) or logits.ndim != 4 or logits.shape[1] > 2:
        raise TypeError(
            'self-distillation needs a head that gives logits (E, 1 or 2, h, w), got '
            f'{type(output).__name__}: set model.loss_wrapper.distillation=False'
        )
    return logits


# --- modules -----------------------------------------------------------------


@MODELS.register_module()
class RandomBlocks(BaseModule):
    """Masks a fixed share of an image's blocks, whatever the scores.

    Only whole blocks count and are masked: those that the image's lower or right edge cuts,
    or that reach into padding, stay visible.

    Args:
        ratio: Share of the blocks that is masked.
        block_size: Side of a block in pixels.
    """

    def __init__(self, *, ratio: float = 0.75, block_size: int = 32) -> None:
        super().__init__()
        self.ratio = ratio
        self.block_size = block_size

    @torch.no_grad()
    def forward(self, scores: Tensor, view: View, generator: torch.Generator) -> Masked:
        """Of ``scores`` only the length and the device matter; weak = all whole blocks."""
        size, grid = self.block_size, block_grid(view.size, self.block_size)
        noise = to_device(torch.rand(len(scores), *grid, generator=generator), scores.device)
        whole = pool_blocks(view.valid, size, 'sum') == size**2
        masked = random_patch_mask(noise.flatten(1), self.ratio, whole.flatten(1))
        return Masked(masked.view(noise.shape), whole, size)


@MODELS.register_module()
class MaskRISLossWrapper(TwoViews):
    """Learns from the clean view, and from a masked view that should predict the same.

    The masked view hides blocks of the image and words of the expression. Its target is the
    detached soft prediction of the clean view at the head's own resolution (distortion-aware
    contextual learning), so the decoder runs once per view.

    ==========================================  =======================================
    ablation                                    settings
    ==========================================  =======================================
    image masking only                          text_ratio=0
    text masking only                           image_ratio=0
    both views against the ground truth         distillation=False
    masking as plain augmentation (one view)    distillation=False, clean_weight=0
    AML's blocks (not in the paper)             estimator=dict(type='mmseg_aml.PMME')
    ==========================================  =======================================

    Losses: ``decode.loss_*`` (clean view) and ``maskris.decode.loss_*`` (masked view).
    Auxiliary heads and further outputs of the head learn from the ground truth
    only.

    Args:
        image_ratio: Share of the image's blocks that is masked.
        patch_size: Side of a block in pixels.
        text_ratio: Share of the words that is chosen for masking.
        text_shares: Of these, the shares that become the mask token and a random word.
        whole_words: Whether all pieces of a word are masked together; as published, each alone.
        distillation: Whether the masked view learns from the clean one (else from the
            ground truth).
        clean_weight: Weight of the clean view, the masked one gets 1 - clean_weight.
        class_weight: Of background and foreground in the self-distillation.
        estimator: Alignment scores; if set, ``filter`` instead of chance chooses the blocks,
            and ``image_ratio`` and ``patch_size`` do not act.
        filter: Blocks from the estimator's scores. Default :class:`AFM`.
        warmup: Share of the training (0 to 1) before masking starts.
        seed: Of the draws. Default: the Runner's.
    """

    prefix = 'maskris.'

    def __init__(
        self,
        *,
        image_ratio: float = 0.75,
        patch_size: int = 32,
        text_ratio: float = 0.15,
        text_shares: tuple[float, float] = (0.8, 0.1),
        whole_words: bool = False,
        distillation: bool = True,
        clean_weight: float = 0.5,
        class_weight: tuple[float, float] = (0.9, 1.1),
        estimator: dict[str, Any] | None = None,
        filter: dict[str, Any] | None = None,
        warmup: float = 0.0,
        seed: int | None = None,
    ) -> None:
        for name, share in dict(image_ratio=image_ratio, text_ratio=text_ratio).items():
            if not 0 <= share <= 1:
                raise ValueError(f'{name} must lie in [0, 1], got {share}')
        if distillation and clean_weight == 0:
            raise ValueError('distillation needs a clean view: set clean_weight > 0')
        if filter is not None and estimator is None:
            raise ValueError(
                "filter needs an estimator, e.g. estimator=dict(type='mmseg_aml.PMME')"
            )
        masker = None
        if estimator is not None:
            masker = Masker(estimator, filter or dict(type='mmseg_aml.AFM'))
        elif image_ratio > 0:
            blocks = dict(type='mmseg_aml.RandomBlocks', ratio=image_ratio, block_size=patch_size)
            masker = Masker(None, blocks)
        super().__init__(masker, clean_weight=clean_weight, warmup=warmup, seed=seed)
        self.text_ratio = text_ratio
        self.text_shares = (text_shares[0], text_shares[1])  # a config may give a list
        self.whole_words = whole_words
        self.distillation = distillation
        self.class_weight: Tensor
        self.register_buffer('class_weight', torch.tensor(class_weight), persistent=False)

    def masked_text(self, clean: View, generator: torch.Generator) -> dict[str, Any]:
        """Token ids with masked words (E, L)."""
        tokens = clean.tokens
        assert tokens is not None
        return dict(tokens=self.mask_text(clean.segmentor, tokens, generator))

    def mask_text(
        self, segmentor: TextImageSegmentor, tokens: TextTokens, generator: torch.Generator
    ) -> TextTokens:
        """Masks words of (E, L) token ids."""
        if self.text_ratio == 0:
            return tokens
        vocabulary = Vocabulary.of(segmentor.text_encoder.tokenizer)
        return mask_batch(
            tokens,
            generator,
            vocabulary,
            ratio=self.text_ratio,
            shares=self.text_shares,
            whole_words=self.whole_words,
        )

    def teacher(self, clean: View) -> Tensor | None:
        """Logits of the clean view."""
        return main_logits(clean.output) if self.distillation else None

    def masked_loss(self, masked: View, teacher: Tensor | None) -> dict[str, Tensor]:
        """The teacher's soft prediction is the target; without one, the ground truth."""
        if teacher is None:
            return masked.supervised_loss()
        return {'decode.loss_distill': self.distill(main_logits(masked.output), teacher, masked)}

    def distill(self, logits: Tensor, teacher: Tensor, view: View) -> Tensor:
        """Loss of the masked view; padding does not count."""
        rows, columns = logits.shape[-2:]
        height, width = view.size
        inside = [  # cells that the image reaches
            (-(-h * rows // height), -(-w * columns // width)) for h, w in view.valid_sizes
        ]
        valid = valid_pixels(inside, (rows, columns), logits.device)
        return soft_target_loss(logits, teacher, self.class_weight, valid)
