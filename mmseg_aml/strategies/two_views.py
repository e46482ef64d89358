"""What AML and MaskRIS have in common: a clean view, a masked view, one dict of losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from mmengine.model import BaseModule
from mmseg.structures import SegDataSample
from mmseg.utils import add_prefix
from torch import Tensor

from .base import View, scaled
from .folding import can_fold, cut, fold
from .iteration import StepGenerator, progress
from .masking.masker import Masker, Record, masked_images

if TYPE_CHECKING:
    from ..models.segmentors.text_image_segmentor import TextImageSegmentor


class TwoViews(BaseModule):
    """A :class:`LossWrapper` that trains on a masked view, and on the clean one if asked.

    1. The clean view is encoded: as part of the training where ``clean_weight`` > 0, else
       in eval mode without gradient (stage 1), and only if the masker asks for it.
    2. ``masker`` chooses what goes dark; ``last`` keeps its record.
    3. The masked view is encoded and gives its losses, under ``prefix``. A trained clean view
       has its backward pass before (:mod:`.folding`): two views take the memory of one.

    Of two trained views, the clean one updates BatchNorm's running statistics, since
    inference sees clean images.

    Args:
        masker: Chooses the blocks; None masks nothing of the image.
        clean_weight: Weight of the clean view, the masked one gets 1 - clean_weight. With 1
            it is plain training.
        warmup: Share of the training (0 to 1) before masking starts; plain until then.
        stage1_scale: Size of stage 1's images; 0.5 costs a quarter.
        seed: Of the draws. Default: the Runner's.
    """

    prefix: str
    reads_clean_graph = False  # whether gradients of the masked view reach the clean view's graph

    def __init__(
        self,
        masker: Masker | None,
        *,
        clean_weight: float,
        warmup: float = 0.0,
        stage1_scale: float = 1.0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        for name, share in dict(clean_weight=clean_weight, warmup=warmup).items():
            if not 0 <= share <= 1:
                raise ValueError(f'{name} must lie in [0, 1], got {share}')
        if not 0 < stage1_scale <= 1:
            raise ValueError(f'stage1_scale must lie in (0, 1], got {stage1_scale}')
        if stage1_scale != 1 and clean_weight > 0:
            raise ValueError('stage1_scale needs a stage 1: with clean_weight > 0 there is none')
        self.masker = masker
        self.clean_weight = clean_weight
        self.warmup = warmup
        self.stage1_scale = stage1_scale
        self.last: Record | None = None
        self._generator = StepGenerator(seed)

    def forward(
        self, segmentor: TextImageSegmentor, inputs: Tensor, data_samples: list[SegDataSample]
    ) -> dict[str, Tensor]:
        """Losses ``decode.loss_*`` (clean view) and, under ``prefix``, of the masked view."""
        tokens = segmentor.tokenize(data_samples)
        self.last = None
        if self.clean_weight == 1 or progress() < self.warmup:
            plain = View(segmentor, inputs, data_samples, tokens)
            # Under the key that goes on: a log repeats the last value of a key that ends.
            prefix = '' if self.clean_weight > 0 else self.prefix
            return {**scaled(plain.supervised_loss(), 1, prefix), **self._learn(plain)}
        trained = self.clean_weight > 0
        clean = View(
            segmentor, inputs, data_samples, tokens, learns=trained, scale=self.stage1_scale
        )
        generator = self._generator()
        images, index = inputs, None
        if self.masker is not None:
            record: Record = self.masker(clean, generator)
            images, index = masked_images(clean, record)
            self.last = record
        teacher = self.teacher(clean)
        losses = self._clean_losses(clean) if trained else {}
        masked = View(
            segmentor,
            images,
            data_samples,
            index=index,
            update_statistics=not trained,
            **self.masked_text(clean, generator),
        )
        found = self.masked_loss(masked, teacher)
        losses.update(scaled(found, 1 - self.clean_weight, self.prefix))
        return losses if trained else {**losses, **self._learn(clean)}

    def _clean_losses(self, clean: View) -> dict[str, Tensor]:
        """Of the clean view, whose graph is freed before the masked view is built."""
        features, pairs, folds = clean.features, [], can_fold(clean.inputs.device)
        if self.reads_clean_graph:
            folds = folds and 'output' not in clean.__dict__
            if folds:  # the encoders' graph stays, the decoder's is freed
                features, pairs = cut(features)
        losses = scaled(clean.supervised_loss(features), self.clean_weight)
        learned = self._learn(clean)
        if not folds:
            return {**losses, **learned}
        weights = (w for w in clean.segmentor.parameters() if w.requires_grad)
        pairs += [(weight, weight) for weight in weights]
        if learned:
            learned = fold(learned, pairs, keep_graph=True)
        folded = fold(losses, pairs)
        clean.__dict__.pop('output', None)
        return {**folded, **learned}

    def masked_text(self, clean: View, generator: torch.Generator) -> dict[str, Any]:
        """``tokens`` or ``text`` of the masked view; by default the sentences as they are."""
        return dict(tokens=clean.tokens)

    def teacher(self, clean: View) -> Any:
        """What the masked view learns beside the ground truth, made before the clean loss."""
        return None

    def masked_loss(self, masked: View, teacher: Any) -> dict[str, Tensor]:
        """Losses of the masked view; by default the host's."""
        return masked.supervised_loss()

    def _learn(self, view: View) -> dict[str, Tensor]:
        found = self.masker.learn(view) if self.masker is not None else {}
        return add_prefix(found, f'{self.prefix}estimator')
