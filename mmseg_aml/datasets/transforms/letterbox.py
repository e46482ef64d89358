"""Letterbox: the whole photograph in the middle of the network's input, as CRIS and DETRIS do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from ...registry import TRANSFORMS

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)


def letterbox_matrices(
    shape: Sequence[int], size: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, float]:
    """Affine maps between a photograph and its letterbox.

    Three corners go to the corners of the centred, scaled photograph: no shift by half a
    pixel, and no rounding of the new size.

    Args:
        shape: (h, w) of the photograph.
        size: (H, W) of the letterbox.

    Returns:
        Pixels of the photograph -> letterbox (2, 3), the way back (2, 3), and the scale.
    """
    height, width = shape[:2]
    scale = min(size[0] / height, size[1] / width)
    x, y = (size[1] - width * scale) / 2.0, (size[0] - height * scale) / 2.0
    photo = np.array([[0, 0], [width, 0], [0, height]], np.float32)
    box = np.array([[x, y], [width * scale + x, y], [x, height * scale + y]], np.float32)
    return cv2.getAffineTransform(photo, box), cv2.getAffineTransform(box, photo), scale


def warp(
    image: np.ndarray,
    matrix: np.ndarray,
    size: Sequence[int],
    *,
    cubic: bool,
    border: Sequence[float] = (0.0, 0.0, 0.0),
) -> np.ndarray:
    """OpenCV 4's ``warpAffine``, whatever version of OpenCV is installed.

    Source coordinates are rounded to 1/32 pixel, as the releases computed; OpenCV 5 does not
    round them, which moves edges by a few grey levels.

    Args:
        image: (h, w) or (h, w, 3), uint8 or float32.
        matrix: Pixels of ``image`` -> pixels of the result, (2, 3).
        size: (H, W) of the result.
        cubic: Bicubic (a = -0.75) instead of bilinear.
        border: Value outside the image, per channel.

    Returns:
        (H, W) or (H, W, 3).
    """
    corners, fractions = _fixed_point_maps(matrix.tobytes(), int(size[0]), int(size[1]))
    flags = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
    return cv2.remap(
        image, corners, fractions, flags, borderMode=cv2.BORDER_CONSTANT, borderValue=border
    )


@lru_cache(maxsize=32)
def _fixed_point_maps(matrix: bytes, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Source pixel (H, W, 2) int16 and index of its 32 x 32 fractions (H, W) uint16."""
    (a, b, x0), (c, d, y0) = np.frombuffer(matrix, np.float64).reshape(2, 3)
    scale = 1 / (a * d - b * c)
    a, b, c, d = d * scale, -b * scale, -c * scale, a * scale
    x0, y0 = -a * x0 - b * y0, -c * x0 - d * y0
    columns, rows = np.arange(width), np.arange(height)[:, None]

    def fixed(along: float, across: float, start: float) -> np.ndarray:
        steps = np.rint(along * columns * 1024).astype(np.int64)
        starts = np.rint((across * rows + start) * 1024).astype(np.int64) + 16
        return (starts + steps) >> 5  # in 1/32 pixel

    x, y = fixed(a, b, x0), fixed(c, d, y0)
    corners = np.stack([x >> 5, y >> 5], 2).clip(-32768, 32767).astype(np.int16)
    return corners, ((y & 31) * 32 + (x & 31)).astype(np.uint16)


@TRANSFORMS.register_module()
class Letterbox(BaseTransform):
    """Scale the photograph to fit and centre it; the rest gets a border colour.

    Photographs are warped bicubic. Masks that are loaded already are warped bilinear: kept
    soft as ``gt_soft_masks`` (K, H, W) float32 in [0, 1], and ``gt_masks`` is where they reach
    0.5. Put it before ``LoadRefMasks`` to keep masks at the original size for evaluation; the
    segmentor brings its predictions back. Sets ``img_shape`` (H, W), ``scale_factor`` and
    ``letterbox`` (H, W).

    Args:
        size: (height, width) in pixels.
        border: Colour of the border, R, G, B in [0, 255]. Default: CLIP's mean.
    """

    def __init__(
        self,
        size: Sequence[int],
        border: Sequence[float] = tuple(255 * mean for mean in CLIP_MEAN),
    ) -> None:
        height, width = size
        if min(height, width) < 1:
            raise ValueError(f'size must be a positive (height, width), got {size}')
        self.size = (int(height), int(width))
        self.border = tuple(float(value) for value in border)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Warp what is in ``results``."""
        matrix, _, scale = letterbox_matrices(results['img'].shape, self.size)
        image = np.ascontiguousarray(results['img'])
        results['img'] = warp(image, matrix, self.size, cubic=True, border=self.border)
        if 'gt_masks' in results:
            masks = np.ascontiguousarray(results['gt_masks']) * np.uint8(255)
            warped = np.stack([warp(mask, matrix, self.size, cubic=False) for mask in masks])
            results['gt_soft_masks'] = warped.astype(np.float32) / np.float32(255)
            results['gt_masks'] = (warped >= 128).astype(np.uint8)
        results['img_shape'] = results['letterbox'] = self.size
        results['scale_factor'] = (scale, scale)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size}, border={self.border})'
