"""Read the photograph and rasterise the masks of its expressions."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from ...registry import TRANSFORMS
from ..refer import ReferError, decode_masks


@TRANSFORMS.register_module()
class LoadRefImage(BaseTransform):
    """Read ``img_path`` as RGB, without EXIF rotation (COCO's masks lie on the raw pixels).

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
            image = read_rgb(results['img_path'])
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(
                f'img must be RGB uint8 of shape (H, W, 3), got {image.dtype} {image.shape}'
            )
        results['img'] = image
        results['ori_shape'] = results['img_shape'] = image.shape[:2]
        return results


def read_rgb(path: str) -> np.ndarray:
    """Decode an image file to RGB uint8 (H, W, 3).

    Raises:
        FileNotFoundError: If it is missing.
        OSError: If it is truncated or no image.
    """
    try:
        with Image.open(path) as image:
            return np.array(image if image.mode == 'RGB' else image.convert('RGB'))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'image {path} is missing; set image_dir of the data set to the folder that holds it'
        ) from error
    except (OSError, SyntaxError) as error:
        raise OSError(
            f'image {path} cannot be decoded ({error}); replace the file by an intact copy'
        ) from error


@TRANSFORMS.register_module()
class LoadRefMasks(BaseTransform):
    """Rasterise the target of each expression at the annotation's resolution.

    Adds ``gt_masks`` (K, H, W) uint8 {0, 1}: the union of an expression's polygons and RLEs,
    all zero where it refers to nothing.

    Raises:
        ReferError: If a target has an empty mask, or the photograph is not of the size that
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
    mask = decode_masks(segmentation, results['height'], results['width'])
    if segmentation and not mask.any():
        raise ReferError(
            f'the mask of ref {expression["ref_id"]} (annotation '
            f'{str(expression["ann_ids"])[1:-1]}, data set {results.get("dataset")}) is empty: no '
            f'pixel of image {results["image_id"]} lies inside; correct the annotation'
        )
    return mask
