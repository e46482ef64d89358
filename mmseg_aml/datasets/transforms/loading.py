"""Read the photograph and rasterise the masks of its expressions."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from ...registry import TRANSFORMS
from ..refer import ReferError, decode_masks
from .images import read_rgb


@TRANSFORMS.register_module()
class LoadRefImage(BaseTransform):
    """Read ``img_path`` as RGB, by the rule of :func:`~.images.read_rgb`.

    A ready ``img``, RGB uint8 (H, W, 3), is taken as it is. Sets ``img``, ``ori_shape`` and
    ``img_shape`` (H, W).

    Raises:
        FileNotFoundError: If the file is missing.
        OSError: If it is truncated or no image.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the image to ``results``."""
        image = results.get('img')
        if image is None:
            image = self._read(results)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(
                f'img must be RGB uint8 of shape (H, W, 3), got {image.dtype} {image.shape}'
            )
        results['img'] = image
        results['ori_shape'] = results['img_shape'] = image.shape[:2]
        return results

    @staticmethod
    def _read(results: dict[str, Any]) -> np.ndarray:
        annotated = (results['height'], results['width']) if 'height' in results else None
        try:
            return read_rgb(results['img_path'], annotated)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'{error}; set image_dir of the data set to the folder that holds it'
            ) from error


@TRANSFORMS.register_module()
class LoadRefMasks(BaseTransform):
    """Rasterise the target of each expression at the annotation's resolution.

    Adds ``gt_masks`` (K, H, W) uint8 {0, 1}: the union of an expression's polygons and RLEs,
    all zero where it refers to nothing.

    Raises:
        ReferError: If a mask is damaged or empty, or the photograph is not of the size that
            the annotations say.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the masks to ``results``."""
        height, width = results['height'], results['width']
        if results.get('ori_shape', (height, width)) != (height, width):
            raise ReferError(
                f'image {results["img_path"]} is of size {results["ori_shape"]} (height, width), '
                f'its annotations say {(height, width)}: it is not the annotated file'
            )
        expressions = results['expressions']
        # pycocotools decodes column by column; in its own order the copy and the resize are fast
        masks = np.empty((len(expressions), width, height), np.uint8).transpose(0, 2, 1)
        decoded: dict[int, int] = {}  # expressions of one ref share its segmentation object
        for k, expression in enumerate(expressions):
            same = decoded.setdefault(id(expression['segmentation']), k)
            masks[k] = masks[same] if same < k else _target(results, expression)
        results['gt_masks'] = masks
        return results


def _target(results: dict[str, Any], expression: dict[str, Any]) -> np.ndarray:
    segmentation = expression['segmentation']
    whose = (
        f'the mask of ref {expression["ref_id"]} (annotation {str(expression["ann_ids"])[1:-1]}, '
        f'data set {results.get("dataset")}, image {results["image_id"]})'
    )
    try:
        mask = decode_masks(segmentation, results['height'], results['width'])
    except Exception as error:  # damaged run lengths and polygons raise nearly anything
        raise ReferError(f'{whose} cannot be decoded ({error}); correct the annotation') from error
    if segmentation and not mask.any():
        raise ReferError(f'{whose} is empty: no pixel lies inside; correct the annotation')
    return mask
