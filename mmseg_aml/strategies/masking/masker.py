"""Which pixels go dark, and why: estimator -> filter -> blocks, with a record of both."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...registry import MODELS
from ...transfer import to_device
from ..base import Alignment, LearningEstimator, Masked, View, check_estimator, check_filter
from .blocks import apply_blocks, pool_blocks, redistribute
from .controls import check_control, partners


class Record(NamedTuple):
    """What one step masked and why; for diagnostics and pictures.

    scores: (E, h, w), the map that was used, None if no estimator chose. entropy: (E,) in
    nats, None without a soft-max. masked, weak: (E, H_b, W_b) bool. targets, valid: (E, H, W) bool.
    """

    scores: Tensor | None
    entropy: Tensor | None
    masked: Tensor
    weak: Tensor
    block_size: int
    targets: Tensor
    valid: Tensor


class Masker(nn.Module):
    """Scores a view, turns the scores into blocks, and keeps a record.

    Samples without a target (gRefCOCO) have no aligned region: with an estimator, nothing
    of them is masked. Nor of those whose control finds no other map.

    Args:
        estimator: Config of an :class:`AlignmentEstimator`; None if ``filter`` needs no map.
        filter: Config of a :class:`BlockFilter`.
        control: None, or one of :mod:`.controls`.
    """

    def __init__(
        self,
        estimator: dict[str, Any] | None,
        filter: dict[str, Any],
        control: str | None = None,
    ) -> None:
        super().__init__()
        check_control(control)
        self.estimator = None if estimator is None else MODELS.build(estimator)
        self.filter = MODELS.build(filter)
        self.control = control
        if self.estimator is not None:
            check_estimator(self.estimator)
        elif control is not None:
            raise ValueError(f'control={control!r} needs an estimator to be a control of')
        check_filter(self.filter)

    @torch.no_grad()
    def forward(self, view: View, generator: torch.Generator) -> Record:
        """What goes dark in ``view``; ``generator`` gives the draws."""
        if self.estimator is None:
            nothing = view.inputs.new_zeros(len(view.samples), 1, 1)
            return record_of(None, self.filter(nothing, view, generator), view)
        alignment: Alignment = self.estimator(view)
        maskable = view.targets.flatten(1).any(1)
        if self.control not in (None, 'random'):
            rows = partners(self.control, view.samples)
            alone = [row is None for row in rows]
            if any(alone):
                maskable &= ~to_device(torch.tensor(alone), maskable.device)
            alignment = alignment.of([own if row is None else row for own, row in enumerate(rows)])
        found = self.filter(alignment.scores, view, generator)
        masked = found.masked
        if self.control == 'random':
            area = pool_blocks(view.valid, found.block_size, 'sum')
            draws = to_device(torch.rand(masked.shape, generator=generator), masked.device)
            masked = redistribute(masked, area, draws)
        found = found._replace(masked=masked & maskable[:, None, None])
        return record_of(alignment, found, view)

    def learn(self, view: View) -> dict[str, Tensor]:
        """Losses of an estimator that learns; else none."""
        return self.estimator.loss(view) if isinstance(self.estimator, LearningEstimator) else {}


def record_of(alignment: Alignment | None, found: Masked, view: View) -> Record:
    """Puts together what was seen and what was chosen."""
    scores, entropy = alignment or (None, None)
    return Record(
        scores, entropy, found.masked, found.weak, found.block_size, view.targets, view.valid
    )


def masked_images(view: View, record: Record) -> tuple[Tensor, list[int] | None]:
    """Images with dark blocks, each different one once, and every expression's row in them.

    With one expression per image that is one image each (row: None, the image's own). With
    several, those of which nothing is masked share the clean image.
    """
    rows = [sample.metainfo['image_index'] for sample in view.samples]
    if rows == list(range(len(view.inputs))):
        return apply_blocks(view.inputs, record.masked, record.block_size), None
    dark = record.masked.flatten(1).any(1).tolist()
    views = [(row, e if dark[e] else None) for e, row in enumerate(rows)]
    first: dict[tuple[int, int | None], int] = {}
    for expression, key in enumerate(views):
        first.setdefault(key, expression)
    order = {key: row for row, key in enumerate(first)}
    shown, chosen = (
        to_device(torch.tensor(rows), view.inputs.device)
        for rows in ([row for row, _ in first], list(first.values()))
    )
    images, blocks = view.inputs[shown], record.masked[chosen]
    return apply_blocks(images, blocks, record.block_size), [order[key] for key in views]
