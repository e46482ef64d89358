"""Hand-made data samples as the metrics get them: flat dicts with an image_index."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch


def make_sample(
    logits: np.ndarray, target: np.ndarray, *, sent_id: int = 0, image_index: int = 0, **extra
) -> dict:
    """logits (C, h, w), target (H, W)."""
    return {
        'seg_logits': {'data': torch.as_tensor(logits, dtype=torch.float32)},
        'gt_sem_seg': {'data': torch.as_tensor(target, dtype=torch.uint8)[None]},
        'ori_shape': tuple(target.shape),
        'expression': 'the thing',
        'sent_id': sent_id,
        'image_index': image_index,
        'img_path': 'photo.jpg',
        'dataset': 'toy',
        'split': 'val',
        **extra,
    }


@pytest.fixture
def sample() -> Callable[..., dict]:
    return make_sample


@pytest.fixture
def columns() -> Callable[[int, int, int], np.ndarray]:
    """Masks of given height and width whose first columns are foreground."""

    def build(count: int, height: int, width: int) -> np.ndarray:
        mask = np.zeros((height, width), np.uint8)
        mask[:, :count] = 1
        return mask

    return build
