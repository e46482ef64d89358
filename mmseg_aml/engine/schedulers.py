"""The learning-rate schedule of the published LAVT and CARIS training, step for step."""

from __future__ import annotations

from typing import Any

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler

from mmseg_aml.registry import PARAM_SCHEDULERS


def published_poly(
    base: float,
    step: int,
    total: int,
    *,
    warmup: int = 0,
    warmup_ratio: float = 1e-3,
    power: float = 0.9,
    eta_min: float = 0.0,
) -> float:
    """Rate of update ``step`` (0, 1, 2, ...) of ``total`` in the published schedule.

    Two oddities are part of it: update 0 runs at the full ``base`` although a warm-up
    follows, and the polynomial counts from update 0, so that it is entered after the
    warm-up at (1 - warmup / total) ** power instead of at 1.
    """
    if step == 0:
        return base
    if step <= warmup:
        return base * (1 - (1 - step / warmup) * (1 - warmup_ratio))
    return (base - eta_min) * (1 - min(step, total) / total) ** power + eta_min


@PARAM_SCHEDULERS.register_module()
class PublishedPolyLR(LRSchedulerMixin, _ParamScheduler):
    """:func:`published_poly` as a scheduler; it must be the only one of the learning rate.

    For new work prefer MMEngine's ``LinearLR`` + ``PolyLR``. Without warm-up this is
    LAVT's schedule, which differs from ``PolyLR`` only in its end: ``PolyLR`` reaches
    ``eta_min`` at the last update, this one would reach it one update later.

    Args:
        optimizer: Optimizer or optimizer wrapper.
        warmup: Number of warm-up iterations; iterations also in a config written in epochs.
        warmup_ratio: Fraction of the base rate from which the warm-up line starts.
        power: Power of the polynomial.
        eta_min: Rate at ``end``.
        begin: First step; must be 0, because both oddities are tied to the first update.
        end: Total number of iterations T.
        last_step: Index of the last step, for resuming.
        by_epoch: Must be False; write ``by_epoch=True, convert_to_iter_based=True`` in a
            config to give ``end`` in epochs.
        verbose: Print every change.

    Raises:
        ValueError: If ``begin`` is not 0, ``by_epoch`` is True or the warm-up is not
            shorter than the training.
    """

    def __init__(
        self,
        optimizer: Any,
        *,
        warmup: int = 0,
        warmup_ratio: float = 1e-3,
        power: float = 0.9,
        eta_min: float = 0.0,
        begin: int = 0,
        end: int,
        last_step: int = -1,
        by_epoch: bool = False,
        verbose: bool = False,
    ) -> None:
        if begin != 0 or by_epoch:
            raise ValueError(
                'PublishedPolyLR counts iterations from the first update: expected begin=0 and '
                f'by_epoch=False (or convert_to_iter_based=True), got {begin=}, {by_epoch=}'
            )
        if warmup >= end:
            raise ValueError(f'warm-up of {warmup} iterations in a training of {end}')
        self.total = end
        self.warmup = warmup
        self.warmup_ratio = warmup_ratio
        self.power = power
        self.eta_min = eta_min
        # One step more than MMEngine's usual range, so that the rate after the last update
        # is the published one (eta_min) too.
        super().__init__(
            optimizer, begin=0, end=end + 1, last_step=last_step, by_epoch=False, verbose=verbose
        )

    @classmethod
    def build_iter_from_epoch(
        cls,
        *args: Any,
        end: float,
        begin: int = 0,
        by_epoch: bool = True,
        epoch_length: int,
        **kwargs: Any,
    ) -> PublishedPolyLR:
        """MMEngine's entry for ``convert_to_iter_based=True``: ``end`` in epochs."""
        return cls(*args, begin=begin, end=int(end * epoch_length), by_epoch=False, **kwargs)

    def _get_value(self) -> list[float]:
        return [
            published_poly(
                base,
                self.last_step,
                self.total,
                warmup=self.warmup,
                warmup_ratio=self.warmup_ratio,
                power=self.power,
                eta_min=self.eta_min,
            )
            for base in self.base_values
        ]
