"""Random windows out of a finite number, for towers whose features are kept."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from ...registry import TRANSFORMS

# A place in a row changes when the row is cut; a superlative does not.
_COUNTED = re.compile(r'\b(first|second|third|fourth|fifth|middle|cent(er|re))\b', re.I)


@TRANSFORMS.register_module()
class RandomWindow(BaseTransform):
    """Cut a window from the photograph, one of ``windows`` that are fixed for each image.

    Window 0 is the whole photograph. Expressions stay if the window holds most of their target
    and they count no objects ("second from the left"); where none would stay, the photograph is
    left whole. Objects that the window cuts away can only make an expression more unique.

    Needs ``img`` and ``gt_masks``, before resizing.

    Args:
        windows: How many different ones an image has.
        scale: Smallest and largest side of a window over that of the photograph.
        keep: Share of the target that must be inside.
    """

    def __init__(
        self, windows: int = 3, *, scale: tuple[float, float] = (0.6, 0.95), keep: float = 0.85
    ) -> None:
        if windows < 1 or not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f'need windows >= 1 and 0 < scale <= 1, got {windows} and {scale}')
        self.windows = windows
        self.scale = scale
        self.keep = keep

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Cut the image and masks, and list the expressions that stay."""
        number = np.random.randint(self.windows)
        if number == 0:
            return results
        masks = results['gt_masks']  # (K, H, W)
        rows, columns = self.window(results['image_id'], number, masks.shape[1:])
        inside = masks[:, rows, columns]
        whole = masks.sum((1, 2), dtype=np.int64)
        share = inside.sum((1, 2), dtype=np.int64) / np.maximum(whole, 1)
        stay = [
            k
            for k, expression in enumerate(results['expressions'])
            if (share[k] >= self.keep or not whole[k])
            and not _COUNTED.search(expression['expression'])
        ]
        if not stay:
            return results
        results['gt_masks'] = inside[stay]
        results['expressions'] = [results['expressions'][k] for k in stay]
        results['img'] = np.ascontiguousarray(results['img'][rows, columns])
        results['ori_shape'] = results['img_shape'] = results['img'].shape[:2]
        return results

    def window(self, image_id: int, number: int, size: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of one window of a photograph of ``size`` (H, W)."""
        random = np.random.default_rng((image_id, number))
        sides = random.uniform(*self.scale, 2)
        lengths = [max(1, round(side * full)) for side, full in zip(sides, size)]
        starts = [random.integers(full - n + 1) for full, n in zip(size, lengths)]
        rows, columns = (slice(start, start + n) for start, n in zip(starts, lengths))
        return rows, columns

    def __repr__(self) -> str:
        return f'{type(self).__name__}(windows={self.windows}, scale={self.scale})'
