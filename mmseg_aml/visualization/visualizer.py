"""One picture per referring expression."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import master_only
from mmengine.structures import PixelData
from mmengine.visualization import Visualizer
from mmseg.structures import SegDataSample
from PIL import Image

from mmseg_aml.registry import VISUALIZERS

from .panels import (
    GT_COLOR,
    PRED_COLOR,
    Panel,
    black_out,
    compose,
    edges,
    overlay_heat,
    overlay_mask,
    resize,
    show_image,
)


def to_map(value: Any, name: str) -> np.ndarray:
    """A (1, h, w) or (h, w) tensor, array or PixelData as a finite array (h, w).

    Raises:
        ValueError: On another shape or a value that is not finite, naming ``name``.
    """
    data = value.get('data') if isinstance(value, PixelData) else value
    array = np.asarray(data.detach().float().cpu() if isinstance(data, torch.Tensor) else data)
    array = array[0] if array.ndim == 3 and array.shape[0] == 1 else array
    if array.ndim != 2 or not array.size:
        raise ValueError(f'{name}: expected (h, w) or (1, h, w), got {array.shape}')
    if not np.isfinite(array).all():
        raise ValueError(f'{name} holds values that are not finite')
    return array


def cut_padding(array: np.ndarray, sample: SegDataSample) -> np.ndarray:
    """The part of a network-sized map (h, w) that lies on the image, not on its padding."""
    image, padded = sample.get('img_shape'), sample.get('pad_shape')
    if image is None or padded is None:
        return array
    h, w = (max(1, round(n * i / p)) for n, i, p in zip(array.shape, image, padded))
    return array[:h, :w]


def intersection_over_union(a: np.ndarray, b: np.ndarray) -> float:
    """IoU of two bool masks (H, W); 0 if both are empty, as in the default protocol."""
    return float((a & b).sum() / max((a | b).sum(), 1))


@VISUALIZERS.register_module()
class RISVisualizer(Visualizer):
    """Photograph, expression, masks, alignment map and masked blocks in one picture.

    All of MMEngine's visualizer (scalars; Local, TensorBoard, WandB... backends) works as usual.
    """

    def draw(
        self,
        image: np.ndarray,
        data_sample: SegDataSample,
        *,
        alignment: Any = None,
        masked_blocks: Any = None,
        maps: Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """Draw one expression. Maps are tensors, arrays or PixelData, (h, w) or (1, h, w).

        Args:
            image: the photograph, uint8 RGB (H, W, 3).
            data_sample: metainfo ``expression``; ``gt_sem_seg`` and ``pred_sem_seg`` (1, H, W)
                {0, 1} are drawn if present, and their IoU is named.
            alignment: scores in [0, 1] on the network's input; default: the sample's own
                ``alignment``, if any.
            masked_blocks: grid on the network's input, true = masked; default: the sample's own
                ``masked_blocks``, if any.
            maps: further maps by name, each coloured over its own range; default: the sample's
                own ``maps``, if any.

        Returns:
            uint8 RGB; its size depends on the image's shape, the panels and the sentence.

        Raises:
            ValueError: If an array has a wrong shape, dtype or range.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f'image: expected uint8 (H, W, 3), got {image.dtype} {image.shape}')
        shown = show_image(image)
        panels = [Panel('photograph', shown), *self._mask_panels(shown, image, data_sample)]
        alignment = data_sample.get('alignment') if alignment is None else alignment
        if alignment is not None:
            scores = cut_padding(to_map(alignment, 'alignment'), data_sample)
            if scores.min() < -1e-4 or scores.max() > 1 + 1e-4:
                raise ValueError(
                    f'alignment: expected [0, 1], got [{scores.min():.4g}, {scores.max():.4g}]'
                )
            panels.append(Panel('alignment', overlay_heat(shown, scores, (0, 1)), (0, 1)))
        blocks = data_sample.get('masked_blocks') if masked_blocks is None else masked_blocks
        if blocks is not None:
            hidden = cut_padding(to_map(blocks, 'masked_blocks') > 0, data_sample)
            caption = f'masked blocks: {100 * hidden.mean():.0f} %'
            panels.append(Panel(caption, black_out(shown, hidden)))
        for name, values in (maps or data_sample.get('maps') or {}).items():
            values = cut_padding(to_map(values, name), data_sample)
            limits = float(values.min()), float(values.max())
            panels.append(Panel(name, overlay_heat(shown, values, limits), limits))
        return compose(data_sample.get('expression', ''), panels)

    def _mask_panels(
        self, shown: np.ndarray, image: np.ndarray, sample: SegDataSample
    ) -> list[Panel]:
        """Ground truth, and prediction with the ground truth's outline; those that there are."""
        masks: dict[str, np.ndarray] = {}
        for name in ('gt_sem_seg', 'pred_sem_seg'):
            if name in sample:
                masks[name] = to_map(sample.get(name), name) == 1
                if masks[name].shape != image.shape[:2]:
                    raise ValueError(
                        f"{name}: expected the image's {image.shape[:2]}, got {masks[name].shape}"
                    )
        truth, predicted = masks.get('gt_sem_seg'), masks.get('pred_sem_seg')
        panels = []
        if truth is not None:
            caption = 'ground truth' if truth.any() else 'ground truth: no target'
            panels.append(Panel(caption, overlay_mask(shown, truth, GT_COLOR)))
        if predicted is not None:
            caption = 'prediction' if predicted.any() else 'prediction: empty'
            picture = overlay_mask(shown, predicted, PRED_COLOR)
            if truth is not None:
                caption += f', IoU {intersection_over_union(truth, predicted):.2f}'
                big = resize(truth.astype(np.uint8), shown.shape[:2], smooth=False).astype(bool)
                picture[edges(big)] = GT_COLOR
            panels.append(Panel(caption, picture))
        return panels

    @master_only
    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: SegDataSample,
        *,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | Path | None = None,
        step: int = 0,
        **maps: Any,
    ) -> np.ndarray:
        """Draw one expression and give the picture to a window, a file or the backends.

        Args:
            name: name of the picture in the backends; no path separator.
            image: as in :meth:`draw`, like ``data_sample`` and ``maps``.
            show: open a window for ``wait_time`` seconds (0 = until a key is pressed).
            out_file: write here instead of to the backends; parent folders are made.
            step: step in the backends.
            maps: ``alignment``, ``masked_blocks``, ``maps`` of :meth:`draw`.

        Returns:
            The picture.
        """
        picture = self.draw(image, data_sample, **maps)
        self.set_image(picture)
        if show:
            self.show(picture, win_name=name, wait_time=wait_time)
        if out_file is not None:
            Path(out_file).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(out_file)
        else:
            self.add_image(name, picture, step)
        return picture
