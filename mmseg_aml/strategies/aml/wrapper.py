"""AML: Alignment-aware Masked Learning (AMLRIS, ICLR 2026, arXiv 2602.22740)."""

from __future__ import annotations

from typing import Any

from ...registry import MODELS
from ..masking.masker import Masker
from ..two_views import TwoViews


@MODELS.register_module()
class AMLLossWrapper(TwoViews):
    """Trains on images whose badly aligned blocks are blacked out.

    An alignment *estimator* scores patches, a *filter* turns the scores into blocks. As in
    the paper, stage 1 runs the encoders alone, without gradient, and never the decoder;
    only the masked view is learned from. With ``clean_weight`` > 0 the clean view is, too,
    and its features are scored: no stage 1.

    Losses: ``aml.decode.loss_*`` (masked view) and ``decode.loss_*`` (clean view).

    Args:
        estimator: Config of an :class:`AlignmentEstimator`. Default :class:`PMME`.
        filter: Config of a :class:`BlockFilter`. Default :class:`AFM`.
        clean_weight: Weight of the clean view, the masked one gets 1 - clean_weight.
        control: None, or what separates masking from alignment: ``'random'`` (the same area
            anywhere), ``'other-image'``, ``'other-sentence'`` (another one's map).
        warmup: Share of the training (0 to 1) before masking starts.
        stage1_scale: Size of stage 1's image; 0.5 costs a quarter (use the level of
            stride 16 in the estimator to keep the map's resolution).
        seed: Of the draws. Default: the Runner's.
    """

    prefix = 'aml.'

    def __init__(
        self,
        *,
        estimator: dict[str, Any] | None = None,
        filter: dict[str, Any] | None = None,
        clean_weight: float = 0.0,
        control: str | None = None,
        warmup: float = 0.0,
        stage1_scale: float = 1.0,
        seed: int | None = None,
    ) -> None:
        masker = Masker(
            estimator or dict(type='mmseg_aml.PMME'),
            filter or dict(type='mmseg_aml.AFM'),
            control,
        )
        super().__init__(
            masker,
            clean_weight=clean_weight,
            warmup=warmup,
            stage1_scale=stage1_scale,
            seed=seed,
        )
