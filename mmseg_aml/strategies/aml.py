"""AML: Alignment-aware Masked Learning (AMLRIS, ICLR 2026, arXiv 2602.22740)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ..registry import MODELS
from ..structures import TextImageFeatures
from .afm import apply_blocks, pool_blocks, redistribute, valid_pixels
from .base import (
    LossWrapper,
    StepGenerator,
    frozen_batch_statistics,
    per_expression,
    scaled,
    valid_sizes,
)
from .pmme import SoftmaxEstimator

if TYPE_CHECKING:
    from ..models.segmentors.text_image_segmentor import TextImageSegmentor


class AMLRecord(NamedTuple):
    """What the last training step masked and why; for diagnostics and pictures.

    scores: (E, h, w), one 0 per expression if no estimator chose. entropy: (E,) of the
    soft-max in nats, None if there is no soft-max.
    masked: (E, H_b, W_b) bool. targets: (E, H, W) bool.
    valid_sizes: (h, w) of every image without padding.
    """

    scores: Tensor
    entropy: Tensor | None
    masked: Tensor
    targets: Tensor
    valid_sizes: list[tuple[int, int]]


def score_with(estimator: nn.Module, features: TextImageFeatures) -> tuple[Tensor, Tensor | None]:
    """Scores (E, h, w), and the entropy (E,) of an estimator's soft-max if it has one."""
    if isinstance(estimator, SoftmaxEstimator):
        return estimator.score(features)
    return estimator(features), None


class BlockMasking(LossWrapper):
    """A strategy that blacks out blocks of the image: which ones, and the record of it.

    Args:
        estimator: Scores from :class:`TextImageFeatures`; None if ``filter`` needs none.
        filter: Blocks from scores.
        control: ``'random'`` masks as many blocks anywhere (no map), ``'shuffled'`` uses
            the map of the next sample of the batch.
        seed: Of the draws.
    """

    def __init__(
        self,
        *,
        estimator: dict[str, Any] | None,
        filter: dict[str, Any],
        control: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_option('control', control, (None, 'random', 'shuffled'))
        self.estimator = None if estimator is None else MODELS.build(estimator)
        self.filter = MODELS.build(filter)
        self.control = control
        self.mode = 'aligned'  # PMMEHook's warm-up sets 'none' or 'random'
        self.last: AMLRecord | None = None
        self._generator = StepGenerator(seed)

    @torch.no_grad()
    def blocks(
        self,
        features: TextImageFeatures | None,
        inputs: Tensor,
        data_samples: Sequence[SegDataSample],
        generator: torch.Generator,
    ) -> Tensor:
        """Blocks to mask (E, H_b, W_b); keeps an :class:`AMLRecord` in ``last``."""
        size: tuple[int, int] = tuple(inputs.shape[-2:])  # type: ignore[assignment]
        scores, entropy = self._scores(features, inputs.new_zeros(len(data_samples), 1, 1))
        sizes = valid_sizes(inputs, data_samples)
        truth = [sample.gt_sem_seg.data for sample in data_samples]  # type: ignore[attr-defined]
        targets = torch.stack(truth)[:, 0] == 1
        used = self._shuffled(scores) if self.control == 'shuffled' else scores
        masked = self.filter(used, size, valid_sizes=sizes, targets=targets, generator=generator)
        if self.control == 'random' or self.mode == 'random':
            valid = valid_pixels(sizes, size, inputs.device)
            inside = pool_blocks(valid, self.filter.block_size, 'max') > 0
            draws = torch.rand(masked.shape, generator=generator).to(masked.device)
            masked = redistribute(masked, inside, draws)
        if self.estimator is not None:
            # A sample without a target (gRefCOCO) has no aligned region: nothing is masked.
            masked = masked & targets.flatten(1).any(1)[:, None, None]
        self.last = AMLRecord(scores, entropy, masked, targets, sizes)
        return masked

    def _scores(
        self, features: TextImageFeatures | None, nothing: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        if self.estimator is None or features is None:
            return nothing, None
        return score_with(self.estimator, features)

    @staticmethod
    def _shuffled(scores: Tensor) -> Tensor:
        if len(scores) < 2:
            raise ValueError("control='shuffled' needs at least two expressions per batch and rank")
        return scores.roll(1, 0)


@MODELS.register_module()
class AMLLossWrapper(BlockMasking):
    """Trains on images whose badly aligned blocks are blacked out.

    An alignment *estimator* scores patches, a *filter* turns the scores into blocks. The
    variants are settings:

    ================  ===========================  ==========================  ============
    variant           estimator                    filter                      clean_weight
    ================  ===========================  ==========================  ============
    paper (default)   PMME()                       AFM()                       0
    paper-literal     PMME(temperature=1)          AFM(select='pixel')         0
    release           UntrainedLinear()            ReleaseAFM()                0.5
    ================  ===========================  ==========================  ============

    Without a clean view (``clean_weight=0``), stage 1 runs the encoders alone, without
    gradient, and never the decoder. With one, its features are scored: no stage 1.

    BatchNorm: of several views, one updates the running statistics, by default the clean
    one where it is trained, since inference sees clean images only.

    Args:
        estimator: Scores from :class:`TextImageFeatures`. Default :class:`PMME`.
        filter: Blocks from scores. Default :class:`AFM`.
        clean_weight: Weight of the clean view, the masked one gets 1 - clean_weight.
        control: ``'random'`` masks as many blocks anywhere (no map), ``'shuffled'`` uses
            the map of the next sample of the batch: controls that separate masking from
            alignment.
        text_view: ``'own'`` encodes the text anew with the masked image, ``'clean'`` takes
            the text features of the clean view, as the release does.
        stage1_scale: Size of stage 1's image; 0.5 costs a quarter (use the level of
            stride 16 in the estimator to keep the map's resolution).
        statistics_view: Which view updates BatchNorm: ``'clean'`` or ``'masked'``.
        seed: Of the draws.
    """

    def __init__(
        self,
        *,
        estimator: dict[str, Any] | None = None,
        filter: dict[str, Any] | None = None,
        clean_weight: float = 0.0,
        control: str | None = None,
        text_view: str = 'own',
        stage1_scale: float = 1.0,
        statistics_view: str = 'clean',
        seed: int = 0,
    ) -> None:
        super().__init__(
            estimator=estimator or dict(type='mmseg_aml.PMME'),
            filter=filter or dict(type='mmseg_aml.AFM'),
            control=control,
            seed=seed,
        )
        check_option('text_view', text_view, ('own', 'clean'))
        check_option('statistics_view', statistics_view, ('clean', 'masked'))
        if not 0 <= clean_weight <= 1:
            raise ValueError(f'clean_weight must lie in [0, 1], got {clean_weight}')
        if text_view == 'clean' and clean_weight == 0:
            raise ValueError("text_view='clean' needs a clean view: set clean_weight > 0")
        self.clean_weight = clean_weight
        self.text_view = text_view
        self.stage1_scale = stage1_scale
        self.statistics_view = statistics_view

    def forward(
        self,
        segmentor: TextImageSegmentor,
        inputs: Tensor,
        data_samples: list[SegDataSample],
    ) -> dict[str, Tensor]:
        """Losses ``decode.loss_*`` (clean view) and ``aml.decode.loss_*`` (masked view)."""
        if self.mode == 'none' or self.clean_weight == 1:
            self.last = None
            return segmentor.supervised_loss(segmentor.encode(inputs, data_samples), data_samples)
        losses: dict[str, Tensor] = {}
        if self.clean_weight > 0:
            with frozen_batch_statistics(segmentor, self.statistics_view == 'masked'):
                clean = segmentor.encode(inputs, data_samples)
                losses.update(
                    scaled(segmentor.supervised_loss(clean, data_samples), self.clean_weight)
                )
        else:
            clean = self.stage1(segmentor, inputs, data_samples)
        blocks = self.blocks(clean, inputs, data_samples, self._generator())
        views = apply_blocks(per_expression(inputs, data_samples), blocks, self.filter.block_size)
        text = clean.text if self.text_view == 'clean' else None
        freeze = self.clean_weight > 0 and self.statistics_view == 'clean'
        with frozen_batch_statistics(segmentor, freeze):
            masked = segmentor.encode(views, data_samples, text=text, paired=True)
            masked_losses = segmentor.supervised_loss(masked, data_samples)
        return {**losses, **scaled(masked_losses, 1 - self.clean_weight, 'aml.')}

    @torch.no_grad()
    def stage1(
        self, segmentor: TextImageSegmentor, inputs: Tensor, data_samples: list[SegDataSample]
    ) -> TextImageFeatures:
        """Encoders alone, without gradient and without touching running statistics."""
        if self.stage1_scale != 1:
            size = [round(side * self.stage1_scale) for side in inputs.shape[-2:]]
            inputs = F.interpolate(inputs, size, mode='bilinear', antialias=True)
        with frozen_batch_statistics(segmentor):
            return segmentor.encode(inputs, data_samples)


def check_option(name: str, value: str | None, allowed: tuple[str | None, ...]) -> None:
    """Refuses a setting that is not among the allowed ones."""
    if value not in allowed:
        raise ValueError(f'{name} must be one of {allowed}, got {value!r}')
