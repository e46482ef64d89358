"""Predictions and ground truth as a protocol wants them, and their overlap.

K = expressions of one image, C = channels of the logits (1 sigmoid or 2 softmax).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from pycocotools import mask as _coco_mask
from torch import Tensor

from ..datasets.transforms.resize import nearest_index
from .protocols import Protocol

Segmentation = Union[list, dict]
# Its stubs know only one of the forms that its functions take.
coco_mask: Any = _coco_mask


def resize_nearest(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (K, H, W) to (K, *size) as PIL's nearest resize of each mask would."""
    rows, columns = (
        torch.from_numpy(nearest_index(old, new)).to(masks.device)
        for old, new in zip(masks.shape[-2:], size)
    )
    return masks[:, rows][:, :, columns]


def foreground_logit(logits: Tensor) -> Tensor:
    """(K, C, h, w) -> (K, 1, h, w), the log odds of the foreground."""
    return logits if logits.shape[1] == 1 else logits[:, 1:] - logits[:, :1]


def _resize(maps: Tensor, size: tuple[int, int], protocol: Protocol) -> Tensor:
    """(K, C, h, w) -> (K, C, *size)."""
    if protocol.resize != 'affine-bicubic':
        align = protocol.align_corners
        return F.interpolate(maps, size=size, mode=protocol.resize, align_corners=align)
    source = np.array([[maps.shape[-1] / size[1], 0, 0], [0, maps.shape[-2] / size[0], 0]])
    warped = [
        cv2.warpAffine(
            plane,
            source,
            size[::-1],
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,  # zeros, as CRIS
        )
        for plane in maps.flatten(0, 1).cpu().numpy()
    ]
    return torch.from_numpy(np.stack(warped)).view(*maps.shape[:2], *size).to(maps.device)


def binary_prediction(logits: Tensor, size: tuple[int, int], protocol: Protocol) -> Tensor:
    """Bring logits to ``size`` and binarise them, both as the protocol says.

    Args:
        logits: (K, C, h, w) at network input size without padding; C = 1 or 2.
        size: (height, width) of the result.
        protocol: See :class:`Protocol`.

    Returns:
        (K, *size) bool.

    Raises:
        ValueError: If the logits have another number of channels.
    """
    if logits.ndim != 4 or logits.shape[1] not in (1, 2):
        raise ValueError(
            f'expected logits (K, C, h, w) with C = 1 (sigmoid) or 2 (softmax), got '
            f'{tuple(logits.shape)}'
        )
    logits = logits.float()
    if protocol.binarise == 'probability':
        probability = foreground_logit(logits).sigmoid()
        return _resize(probability, size, protocol)[:, 0] > protocol.threshold
    logits = _resize(logits, size, protocol)
    if protocol.binarise == 'logit':
        return foreground_logit(logits)[:, 0] > protocol.threshold
    if logits.shape[1] == 1:
        return logits[:, 0] > 0  # probability > 0.5, without the rounding of the sigmoid
    if protocol.binarise == 'sigmoid-argmax':
        logits = logits.sigmoid()
    return logits[:, 1] > logits[:, 0]


def _scaled_mask(part: Segmentation, ori_shape: tuple[int, int], size: tuple[int, int]) -> list:
    """RLEs at ``size`` of one COCO segmentation: one per polygon; runs are resized nearest."""
    if isinstance(part, dict):
        rle = coco_mask.frPyObjects(part, *ori_shape) if isinstance(part['counts'], list) else part
        if size == ori_shape:
            return [rle]
        mask = torch.from_numpy(coco_mask.decode(rle))[None]
        return [coco_mask.encode(np.asfortranarray(resize_nearest(mask, size)[0].numpy()))]
    scale = np.array([size[1] / ori_shape[1], size[0] / ori_shape[0]])
    # Fewer than three points enclose nothing; pycocotools takes four numbers for a box.
    polygons = [np.reshape(polygon, (-1, 2)) * scale for polygon in part if len(polygon) >= 6]
    rings = [polygon.ravel().tolist() for polygon in polygons]
    return coco_mask.frPyObjects(rings, *size) if rings else []


def rasterise(
    segmentation: Sequence[Segmentation],
    ori_shape: tuple[int, int],
    size: tuple[int, int],
    exclusive: bool = False,
) -> Tensor:
    """Scale COCO segmentations from ``ori_shape`` to ``size``, then rasterise them.

    Args:
        segmentation: Polygon lists or RLE dicts in pixels of the original image; [] = no target.
        ori_shape: (height, width) of the original image.
        size: (height, width) of the result.
        exclusive: Keep only pixels covered by exactly one polygon, instead of the union.

    Returns:
        ``size`` bool.
    """
    rles = [rle for part in segmentation for rle in _scaled_mask(part, ori_shape, size)]
    if not rles:
        return torch.zeros(size, dtype=torch.bool)
    covered = torch.from_numpy(coco_mask.decode(rles)).sum(-1)
    return covered == 1 if exclusive else covered > 0


def ground_truth(
    masks: Tensor, segmentations: Sequence[Sequence[Segmentation]] | None, protocol: Protocol
) -> Tensor:
    """Ground truth of K expressions as the protocol wants it.

    Args:
        masks: (K, H, W) {0, 1} at original size.
        segmentations: Per expression its COCO segmentations, where the protocol needs them.
        protocol: See :class:`Protocol`.

    Returns:
        (K, *protocol.size((H, W))) bool.

    Raises:
        KeyError: If the protocol needs segmentations and there are none.
    """
    ori_shape = (masks.shape[-2], masks.shape[-1])
    size = protocol.size(ori_shape)
    if protocol.needs_segmentation:
        if segmentations is None:
            raise KeyError(
                f'protocol {protocol.name!r} rasterises polygons, but the data samples have no '
                "metainfo 'segmentation': set PackRISInputs(with_segmentation=True) in the test "
                'pipeline, or leave this protocol out'
            )
        scaled = protocol.ground_truth == 'polygons-scaled'
        exclusive = protocol.overlap == 'lavt-exclusive'
        target = size if scaled else ori_shape
        rasters = [rasterise(part, ori_shape, target, exclusive) for part in segmentations]
        masks = torch.stack(rasters).to(masks.device)
    masks = masks.bool()
    return masks if masks.shape[-2:] == size else resize_nearest(masks, size)


def intersection_and_union(prediction: Tensor, target: Tensor) -> np.ndarray:
    """Pixels in both and in either of two stacks of masks (K, H, W) bool.

    Returns:
        (K, 2) int64: I and U.
    """
    intersection = (prediction & target).flatten(1).sum(1)
    union = (prediction | target).flatten(1).sum(1)
    return torch.stack([intersection, union], 1).cpu().numpy().astype(np.int64)


def encode_masks(masks: Tensor) -> list[dict[str, Any]]:
    """(K, H, W) bool -> K COCO RLEs ``{'size': [H, W], 'counts': str}``, ready for JSON."""
    planes = np.asfortranarray(masks.permute(1, 2, 0).cpu().numpy().astype(np.uint8))
    return [
        {'size': [int(side) for side in rle['size']], 'counts': rle['counts'].decode('ascii')}
        for rle in coco_mask.encode(planes)
    ]
