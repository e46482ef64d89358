"""What the model sees for one referring expression; everything but the mask is made when asked."""

from __future__ import annotations

import copy
import json
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from ..evaluation.masks import encode_masks, foreground_logit
from ..visualization.panels import PRED_COLOR, overlay_mask
from ..visualization.visualizer import RISVisualizer


class RISPrediction:
    """One expression about one photograph (H, W).

    expression: The sentence. image: (H, W, 3) uint8 RGB, the photograph, upright.
    mask: (H, W) bool. no_target: the model's decision that the sentence refers to nothing here,
    which leaves ``mask`` as it is; None for models that do not decide. maps: what the head looked
    at, (h, w) float arrays by name (``test_cfg.with_maps``), else empty. logits: (1 or 2, h, w)
    float tensor at the network's size.

    Made when first asked for: :attr:`probability`, :attr:`score`, :attr:`overlay`,
    :attr:`picture`.
    """

    def __init__(self, image: np.ndarray, sample: SegDataSample) -> None:
        sample = cast(SegDataSample, sample.cpu())
        self.image = image
        self.expression: str = sample.metainfo['expression']
        self.mask: np.ndarray = _data(sample, 'pred_sem_seg')[0].bool().numpy()
        self.no_target: bool | None = sample.get('pred_no_target')
        self.maps: dict[str, np.ndarray] = {
            name: np.asarray(values) for name, values in (sample.get('maps') or {}).items()
        }
        self.logits = _data(sample, 'seg_logits')
        self._sample = sample

    @cached_property
    def probability(self) -> np.ndarray:
        """(H, W) float32 in [0, 1] that a pixel belongs to what is meant.

        ``mask`` is where it exceeds the head's threshold (0.5 in every shipped config); another
        threshold is :meth:`at`. It is the network's own and not calibrated.
        """
        logits = F.interpolate(self.logits[None], self.mask.shape, mode='bilinear')
        return foreground_logit(logits)[0, 0].sigmoid().numpy()

    @cached_property
    def score(self) -> float:
        """How sure the network is of its mask: mean probability inside it, 0 if it is empty."""
        return float(self.probability[self.mask].mean()) if self.mask.any() else 0.0

    def at(self, threshold: float) -> RISPrediction:
        """The same prediction with the mask where :attr:`probability` exceeds ``threshold``."""
        if not 0 <= threshold <= 1:
            raise ValueError(f'threshold must lie in [0, 1], got {threshold}')
        other = copy.copy(self)
        for name in ('score', 'picture'):
            other.__dict__.pop(name, None)
        other.mask = self.probability > threshold
        other._sample = cast(SegDataSample, self._sample.clone())
        mask = PixelData(data=torch.from_numpy(other.mask.astype(np.uint8))[None])
        other._sample.set_data(dict(pred_sem_seg=mask))
        return other

    @property
    def overlay(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB: the photograph with the mask in colour."""
        return overlay_mask(self.image, self.mask, PRED_COLOR)

    @cached_property
    def picture(self) -> np.ndarray:
        """uint8 RGB: sentence, photograph, mask and maps side by side, at screen size."""
        return RISVisualizer().draw(self.image, self._sample)

    @property
    def rle(self) -> dict[str, Any]:
        """The mask as COCO RLE: ``{'size': [H, W], 'counts': str}``."""
        return encode_masks(torch.from_numpy(self.mask)[None])[0]

    def record(self) -> dict[str, Any]:
        """What :meth:`save` writes as JSON: expression, score, area, box and COCO RLE."""
        return dict(
            expression=self.expression,
            score=round(self.score, 4),
            area=int(self.mask.sum()),
            bbox=_box(self.mask),
            no_target=self.no_target,
            segmentation=self.rle,
        )

    def save(
        self,
        mask: str | Path | None = None,
        *,
        overlay: str | Path | None = None,
        picture: str | Path | None = None,
        probability: str | Path | None = None,
        rle: str | Path | None = None,
    ) -> None:
        """Writes the files that are named; their folders are made.

        Args:
            mask: ``.png``, 8 bits: 255 where the mask is, else 0.
            overlay: Any picture: :attr:`overlay`, at the photograph's size.
            picture: Any picture: :attr:`picture`.
            probability: ``.npy``, float32 (H, W); or ``.png``, 8 bits, 255 = 1.
            rle: ``.json``: :meth:`record`.

        Raises:
            ValueError: Nothing named, or a suffix that would lose what is written.
        """
        files = dict(mask=mask, overlay=overlay, picture=picture, probability=probability, rle=rle)
        named = {what: Path(path).expanduser() for what, path in files.items() if path is not None}
        if not named:
            raise ValueError("nothing to save: name a file, as in save('mask.png')")
        for what, path in named.items():
            _check_suffix(what, path)
        for what, path in named.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if what == 'rle':
                path.write_text(json.dumps(self.record()) + '\n', encoding='utf-8')
            elif path.suffix.lower() == '.npy':
                np.save(path, self.probability)
            else:
                Image.fromarray(self._pixels(what)).save(path)

    def _pixels(self, what: str) -> np.ndarray:
        if what == 'mask':
            return self.mask.astype(np.uint8) * 255
        if what == 'probability':
            return np.rint(self.probability * 255).astype(np.uint8)
        return getattr(self, what)

    def __repr__(self) -> str:
        height, width = self.mask.shape
        share = 100 * self.mask.mean()
        return f'RISPrediction({self.expression!r}, {width} x {height}, mask {share:.1f} %)'


SUFFIXES = {'mask': ('.png',), 'probability': ('.npy', '.png'), 'rle': ('.json',)}


def _check_suffix(what: str, path: Path) -> None:
    allowed = SUFFIXES.get(what) or tuple(Image.registered_extensions())
    if path.suffix.lower() not in allowed:
        shown = ' or '.join(SUFFIXES.get(what, ('.png', '.jpg')))
        lossy = ' (others would change its values)' if what in ('mask', 'probability') else ''
        raise ValueError(f'{what} is saved as {shown}{lossy}, got {path}')


def _data(sample: SegDataSample, name: str) -> torch.Tensor:
    field: PixelData = sample.get(name)
    return field.data  # type: ignore[return-value]


def _box(mask: np.ndarray) -> list[int]:
    """COCO's [x, y, width, height]; zeros if the mask is empty."""
    if not mask.any():
        return [0, 0, 0, 0]
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1]
