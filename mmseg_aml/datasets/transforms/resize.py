"""Resize photograph and masks to what the network reads."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from PIL import Image

from ...registry import TRANSFORMS


def resize_bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image (H, W, 3) uint8 to (h, w, 3), bilinear with antialiasing.

    PyTorch's uint8 kernel follows PIL's BILINEAR to the rounding, in a third of its time. The
    result is a view of three planes, which is how the network wants them.
    """
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]  # (1, 3, H, W), no copy
    resized = torch.nn.functional.interpolate(planes, size, mode='bilinear', antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


@lru_cache(maxsize=4096)
def nearest_index(length: int, new_length: int) -> np.ndarray:
    """Source index of each of ``new_length`` positions under PIL's NEAREST, int64.

    PIL takes floor((i + 0.5) * length / new_length), and rounds exact ties in its own way; they
    are common (640 -> 480 has one every three pixels). So PIL itself resizes a ramp.
    """
    ramp = Image.fromarray(np.arange(length, dtype=np.int32)[None])
    return np.array(ramp.resize((new_length, 1), Image.Resampling.NEAREST))[0].astype(np.int64)


def resize_nearest(masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize masks (K, H, W) to (K, h, w), each as PIL's NEAREST does."""
    rows, columns = (nearest_index(old, new) for new, old in zip(size, masks.shape[1:]))
    planes = masks.transpose(0, 2, 1)[:, columns][:, :, rows]  # columns first, as they are decoded
    return np.ascontiguousarray(planes.transpose(0, 2, 1))


@TRANSFORMS.register_module()
class ResizeRIS(BaseTransform):
    """Resize the photograph, and the masks if they are loaded already.

    Bilinear with antialiasing for the photograph, nearest for masks, both as PIL. Put it before
    ``LoadRefMasks`` to keep the masks at the original size, as evaluation needs them. Sets
    ``img_shape`` (h, w) and ``scale_factor`` (w scale, h scale).

    Args:
        size: (height, width) in pixels.
        keep_ratio: Scale by one factor to fit into ``size``, instead of squashing. The data
            preprocessor pads the rest.
    """

    def __init__(self, size: tuple[int, int], keep_ratio: bool = False) -> None:
        height, width = size
        if min(height, width) < 1:
            raise ValueError(f'size must be a positive (height, width), got {size}')
        self.size = (int(height), int(width))
        self.keep_ratio = keep_ratio

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize what is in ``results``."""
        height, width = results['img'].shape[:2]
        new_height, new_width = self._new_size(height, width)
        if (new_height, new_width) != (height, width):
            results['img'] = resize_bilinear(results['img'], (new_height, new_width))
        if 'gt_masks' in results:
            results['gt_masks'] = resize_nearest(results['gt_masks'], (new_height, new_width))
        results['img_shape'] = (new_height, new_width)
        results['scale_factor'] = (new_width / width, new_height / height)
        return results

    def _new_size(self, height: int, width: int) -> tuple[int, int]:
        if not self.keep_ratio:
            return self.size
        scale = min(self.size[0] / height, self.size[1] / width)
        return (
            min(self.size[0], max(1, round(height * scale))),
            min(self.size[1], max(1, round(width * scale))),
        )

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size}, keep_ratio={self.keep_ratio})'
