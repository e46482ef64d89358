"""Which blocks AML would hide of a photograph, as in a step of training; changes nothing."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dataset import pseudo_collate

from ..registry import MODELS
from ..strategies.base import View
from .images import read_image
from .inferencer import RISInferencer

DEFAULTS = dict(
    estimator=dict(type='mmseg_aml.PMME'),
    filter=dict(type='mmseg_aml.AFM'),
)


class AMLBlocks(NamedTuple):
    """scores: (h, w) float32 in [0, 1], higher = better aligned with the sentence, on what the
    network sees of the photograph without padding. masked: (h_b, w_b) bool, one draw of the
    blocks that go dark. weak: likewise, all that may."""

    scores: np.ndarray
    masked: np.ndarray
    weak: np.ndarray


@torch.no_grad()
def aml_blocks(segment: RISInferencer, image: Any, expression: str, seed: int = 0) -> AMLBlocks:
    """AML's alignment map and blocks for one sentence about one image.

    Estimator and filter are those of the config's ``AMLLossWrapper``, else PMME and AFM with
    their defaults. The filter cannot know the target here: ``keep_target`` is left out.

    Raises:
        ValueError: The estimator learned in training; its parameters are not in the model.
    """
    wrapper = segment.cfg.model.get('loss_wrapper') or {}
    parts = {key: dict(wrapper.get(key) or default) for key, default in DEFAULTS.items()}
    parts['filter'].pop('keep_target', None)
    estimator = MODELS.build(parts['estimator']).to(segment.device).eval()
    if any(True for _ in estimator.parameters()):
        raise ValueError(
            f'{type(estimator).__name__} learns in training, and a model in use has no such part'
        )
    pixels = read_image(image)
    data = segment.prepare(pixels, [expression])
    batch = segment.model.data_preprocessor(pseudo_collate([data]), False)  # type: ignore[operator]
    view = View(segment.model, batch['inputs'], batch['data_samples'], learns=False)  # type: ignore[arg-type]
    scores = estimator(view).scores
    found = MODELS.build(parts['filter'])(scores, view, torch.Generator().manual_seed(seed))
    share = [inside / side for inside, side in zip(view.valid_sizes[0], view.size)]

    def cut(grid: torch.Tensor) -> np.ndarray:
        height, width = (max(1, round(n * s)) for n, s in zip(grid.shape[-2:], share))
        return grid[0, :height, :width].cpu().numpy()

    return AMLBlocks(cut(scores.float()), cut(found.masked), cut(found.weak))
