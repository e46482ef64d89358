"""A picture and its K masks, moved together by a transform that knows one label map."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..refer_files import ReferError
from .sides import exchange_sides

IGNORED = 255
REDRAWS = 20

RESIZE = 'resize'  # of the whole picture
GEOMETRY = 'geometry'
FLIP = 'flip'
COLOUR = 'colour'
CONTAINER = 'container'


class MovesTogether:
    """One transform of mmcv or MMSegmentation, applied to a picture with its K masks.

    Pixels that come in from outside (padding, corners of a rotation) are
    ``gt_masks == 255``, which losses ignore. A crop that leaves a target without a pixel is
    drawn again, up to 20 times; then this picture is not cropped. A mirror whose effect on one
    of the sentences cannot be told (:func:`~.sides.exchange_sides`) is not made.

    Draws come from ``results['draw_seed']`` where the data set gives it: they are the same for
    every number of workers.
    """

    def __init__(self, transform: Callable[[dict[str, Any]], Any], kind: str, number: int) -> None:
        self.transform = transform
        self.kind = kind
        self.number = number  # in the pipeline, so that no two draw alike

    @property
    def leaves_original(self) -> bool:
        """Whether the picture may become another than the original, scaled."""
        if self.kind == CONTAINER:
            inner: Any = self.transform
            parts = inner.transforms if isinstance(inner.transforms, list) else [inner.transforms]
            return any(isinstance(part, MovesTogether) and part.leaves_original for part in parts)
        return self.kind in (GEOMETRY, FLIP)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Transform ``results``: ``img`` (H, W, 3) uint8, ``gt_masks`` (K, H, W) if loaded."""
        if self.kind == CONTAINER:
            with _drawing(results.get('draw_seed'), self.number):
                return self.transform(results)
        if self.kind in (GEOMETRY, FLIP) and 'gt_masks' not in results:
            raise ValueError(
                f'{type(self.transform).__name__} stands before LoadRefMasks and would move the '
                'picture alone: put LoadRefMasks first'
            )
        if self.kind == FLIP:
            return self._mirror(results)
        if self.kind == GEOMETRY:
            return self._keep_targets(results)
        return self._apply(results)

    def _keep_targets(self, results: dict[str, Any]) -> dict[str, Any]:
        had = (results['gt_masks'] == 1).any((1, 2))
        for redraw in range(REDRAWS):
            moved = self._apply(results, redraw)
            if (moved['gt_masks'] == 1).any((1, 2))[had].all():
                return moved
        return results

    def _mirror(self, results: dict[str, Any]) -> dict[str, Any]:
        sentences = [exchange_sides(item['expression']) for item in results['expressions']]
        if None in sentences:
            return results
        moved = self._apply(results)
        if moved.get('flip'):
            moved['expressions'] = [
                {**item, 'expression': sentence}
                for item, sentence in zip(results['expressions'], sentences)
            ]
        return moved

    def _apply(self, results: dict[str, Any], redraw: int = 0) -> dict[str, Any]:
        moved = dict(results, img=results['img'].copy())
        table = None
        if self.kind != COLOUR and 'gt_masks' in results:
            moved['gt_seg_map'], table = to_label_map(moved.pop('gt_masks'))
            moved['seg_fields'] = ['gt_seg_map']
        with _drawing(results.get('draw_seed'), self.number, redraw):
            moved = self.transform(moved)
        moved['img'] = self._picture(moved['img'], results)
        moved['img_shape'] = moved['img'].shape[:2]
        if table is not None:
            moved['gt_masks'] = from_label_map(moved.pop('gt_seg_map'), table)
            del moved['seg_fields']
        return moved

    def _picture(self, image: np.ndarray, results: dict[str, Any]) -> np.ndarray:
        if image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ReferError(
                f'{self.transform!r} made {image.shape} of image {results.get("img_path")} of size '
                f'{results["img_shape"]}: the network reads (H, W, 3)'
            )
        if image.dtype != np.uint8:
            image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(image)

    def __repr__(self) -> str:
        return repr(self.transform)


@contextlib.contextmanager
def _drawing(seed: int | None, *place: int) -> Iterator[None]:
    """NumPy's global stream, from which frameworks draw, seeded for one call."""
    if seed is None:
        yield
        return
    state = np.random.get_state()
    np.random.seed([seed, *place])
    try:
        yield
    finally:
        np.random.set_state(state)


def to_label_map(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """K masks as one map of labels, which stand for the combinations of masks at a pixel.

    Args:
        masks: (K, H, W) uint8 {0, 1, 255}.

    Returns:
        The map (H, W), uint8 or uint16: 0 = no mask, 255 = ignored; and the table
        (labels, K) uint8 of what a label stands for.
    """
    count = len(masks)
    ignored = (masks == IGNORED).any(0)
    bits = np.packbits(masks == 1, axis=0)  # (ceil(K / 8), H, W)
    flat = bits.reshape(len(bits), -1)
    if len(bits) == 1:
        codes, labels = np.unique(flat[0], return_inverse=True)
        codes = codes[None]
    else:
        codes, labels = np.unique(flat, axis=1, return_inverse=True)
    table = np.unpackbits(codes, axis=0, count=count).T  # (combinations, K)
    table = np.concatenate([np.zeros((1, count), np.uint8), table])  # label 0 in every case
    labels = labels.reshape(-1) + 1
    labels[~table[labels].any(1)] = 0
    if len(table) > IGNORED:
        table = np.insert(table, IGNORED, IGNORED, axis=0)
        labels += labels >= IGNORED
    else:
        empty = np.full((IGNORED + 1 - len(table), count), IGNORED, np.uint8)
        table = np.concatenate([table, empty])
    labels[ignored.reshape(-1)] = IGNORED
    kind = np.uint8 if len(table) <= IGNORED + 1 else np.uint16
    return np.ascontiguousarray(labels.astype(kind).reshape(masks.shape[1:])), table


def from_label_map(labels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """(H, W) labels and their table (labels, K) -> masks (K, H, W) uint8 {0, 1, 255}."""
    return np.ascontiguousarray(table[labels].transpose(2, 0, 1))
