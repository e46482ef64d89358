"""Pack an item for the data preprocessor."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from ...registry import TRANSFORMS
from ...structures import ExpressionGroup

_IMAGE_KEYS = (
    'image_id',
    'img_path',
    'dataset',
    'split',
    'ori_shape',
    'img_shape',
    'scale_factor',
    'letterbox',
)
_EXPRESSION_KEYS = ('expression', 'ref_id', 'sent_id', 'ann_ids')


@TRANSFORMS.register_module()
class PackRISInputs(BaseTransform):
    """Make ``inputs``, a uint8 tensor (3, h, w), and ``data_samples``, one per expression.

    Each ``SegDataSample`` has ``gt_sem_seg`` (1, H, W) uint8 {0, 1} if masks are loaded, and
    as metainfo whatever is known of: expression, ref_id, sent_id, ann_ids, no_target,
    image_id, img_path, dataset, split, ori_shape, img_shape, pad_shape, scale_factor,
    letterbox. Soft masks (of ``Letterbox``) become ``gt_soft_mask`` (1, H, W) float.

    Args:
        with_segmentation: Also keep the targets' COCO segmentations as metainfo
            ``segmentation``, for evaluation protocols that rasterise polygons.
    """

    def __init__(self, with_segmentation: bool = False) -> None:
        self.with_segmentation = with_segmentation
        self.expression_keys = _EXPRESSION_KEYS + ('segmentation',) * with_segmentation

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pack ``results``.

        Raises:
            ValueError: If a transform before it has moved the photograph alone.
        """
        _check_sizes(results)
        pixels = results['img']
        pixels = pixels.copy() if min(pixels.strides) < 0 else pixels  # a flipped view
        image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
        common = {key: results[key] for key in _IMAGE_KEYS if key in results}
        common['pad_shape'] = results['img_shape']
        samples = [
            _sample(common, expression, masks, self.expression_keys)
            for expression, masks in zip(results['expressions'], _masks_of(results))
        ]
        for sample, soft in zip(samples, results.get('gt_soft_masks', [])):
            sample.set_data(dict(gt_soft_mask=PixelData(data=torch.from_numpy(soft)[None])))
        return dict(inputs=image, data_samples=ExpressionGroup(samples))


def _masks_of(results: dict[str, Any]) -> list[torch.Tensor | None]:
    if 'gt_masks' not in results:
        return [None] * len(results['expressions'])
    return list(torch.from_numpy(np.ascontiguousarray(results['gt_masks'])).split(1))


def _check_sizes(results: dict[str, Any]) -> None:
    """A transform of one's own may have moved one and not the other."""
    image, sizes = results['img'], {results['img_shape'], results['ori_shape']}
    masks = results['gt_masks'].shape[1:] if 'gt_masks' in results else results['img_shape']
    fits = image.shape[:2] == results['img_shape'] and masks in sizes
    if image.dtype != np.uint8 or image.shape[2:] != (3,) or not fits:
        raise ValueError(
            f'img is {image.dtype} {image.shape}, img_shape {results["img_shape"]}, gt_masks '
            f'{masks}: a transform must keep img uint8 (H, W, 3), move gt_masks (K, H, W) with it, '
            'and set img_shape'
        )


def _sample(
    common: dict[str, Any],
    expression: dict[str, Any],
    mask: torch.Tensor | None,
    keys: tuple[str, ...],
) -> SegDataSample:
    meta = {key: expression[key] for key in keys if key in expression}
    if 'segmentation' in expression:
        meta['no_target'] = not expression['segmentation']
    sample = SegDataSample(metainfo={**common, **meta})
    if mask is not None:
        sample.gt_sem_seg = PixelData(data=mask)  # (1, H, W)
    return sample
