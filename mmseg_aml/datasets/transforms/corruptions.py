"""Corruptions of photographs and expressions at severities 1 to 5, to measure robustness.

Every draw is a function of (seed, kind, image) or (seed, kind, expression) alone, and not of the
severity: a higher severity is the same corruption, stronger. Lengths are relative to the image,
so that small and large photographs are corrupted alike.

Anchors: ImageNet-C (Hendrycks and Dietterich, ICLR 2019) and R2-Bench for the kinds and the
severity scale. What AML's and MaskRIS' papers used is not published in numbers.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from ...registry import TRANSFORMS
from ..refer import decode_masks

SEVERITIES = (1, 2, 3, 4, 5)
HAZE = (0.4, 0.8, 1.2, 1.7, 2.3)  # optical depth at the far end
AIRLIGHT = 0.9
GAMMA = (2.2, 2.9, 3.6, 4.3, 5.0)
HIDDEN = (0.10, 0.175, 0.25, 0.375, 0.50)  # share of the image, or of each target
BLUR = (0.015, 0.03, 0.045, 0.065, 0.09)  # path of the camera / shorter side
PHOTONS = (60, 25, 12, 5, 3)  # at white, as ImageNet-C's shot noise
READ_NOISE = 0.02
JPEG_QUALITY = (25, 18, 15, 10, 7)  # as ImageNet-C
HUE = (15, 30, 45, 60, 90)  # degrees
CHARACTERS = (0.04, 0.08, 0.12, 0.16, 0.20)  # R2-Bench: 4 % per severity
WORDS = (0.1, 0.2, 0.3, 0.4, 0.5)
PUNCTUATION = ',.;:!?-'


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)


def haze(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Scattering I = J t + A (1 - t), t = exp(-beta d); d grows to the top, in soft banks."""
    height, width = image.shape[:2]
    banks = cv2.resize(rng.random((5, 5)), (width, height), interpolation=cv2.INTER_CUBIC)
    depth = 0.4 + 0.4 * np.linspace(1, 0, height)[:, None] + 0.2 * banks
    clear = np.exp(-HAZE[severity - 1] * depth)[..., None]
    return _to_uint8(image / 255 * clear + AIRLIGHT * (1 - clear))


def low_light(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Gamma 2.2 to 5."""
    return _to_uint8((image / 255) ** GAMMA[severity - 1])


def hidden_blocks(
    region: np.ndarray, share: float, rng: np.random.Generator, side: int
) -> np.ndarray:
    """Whole blocks of a grid, in random order, that hide about ``share`` of ``region``.

    Whole, because a block cut to the region would draw its outline.

    Args:
        region: (H, W) bool, not empty.
        share: Of its pixels, in [0, 1]; met as nearly as blocks allow, by at least one.
        rng: Draws the order of the blocks.
        side: Of a block, in pixels.

    Returns:
        (H, W) bool, may reach beyond ``region``.
    """
    rows, columns = (np.arange(length) // side for length in region.shape)
    block = rows[:, None] * (columns[-1] + 1) + columns
    pixels = np.bincount(block[region], minlength=block.max() + 1)
    order = rng.permutation(np.flatnonzero(pixels))
    count = 1 + np.argmin(np.abs(np.cumsum(pixels[order]) - share * region.sum()))
    return np.isin(block, order[:count])


def occlusion(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Blocks of the image's mean colour over 10 to 50 % of it."""
    region = np.ones(image.shape[:2], bool)
    side = max(1, min(region.shape) // 8)
    hidden = hidden_blocks(region, HIDDEN[severity - 1], rng, side)
    return _paint(image, hidden)


def occlusion_target(
    image: np.ndarray, severity: int, rng: np.random.Generator, masks: list[np.ndarray]
) -> np.ndarray:
    """Blocks of the image's mean colour over 10 to 50 % of each target in ``masks`` (H, W)."""
    hidden = np.zeros(image.shape[:2], bool)
    for mask in masks:
        rows, columns = np.nonzero(mask)
        if len(rows):
            side = max(1, round(min(np.ptp(rows) + 1, np.ptp(columns) + 1) / 4))
            hidden |= hidden_blocks(mask.astype(bool), HIDDEN[severity - 1], rng, side)
    return _paint(image, hidden)


def _paint(image: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    mean = np.rint(image.mean((0, 1))).astype(np.uint8)
    return np.where(hidden[..., None], mean, image)


def motion_blur(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Mean along a straight path of the camera, in a random direction."""
    length = max(3.0, BLUR[severity - 1] * min(image.shape[:2]))
    size = int(np.ceil(length)) // 2 * 2 + 1
    angle = np.deg2rad(rng.uniform(0, 180))
    reach = length / 2 * np.array([np.cos(angle), np.sin(angle)])
    kernel = np.zeros((size, size), np.float32)
    for step in np.linspace(-1, 1, 16 * size):
        column, row = np.rint(size // 2 + step * reach).astype(int).clip(0, size - 1)
        kernel[row, column] += 1
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101)


def sensor_noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Photon (Poisson) noise and Gaussian read noise."""
    photons = PHOTONS[severity - 1]
    noisy = rng.poisson(image / 255 * photons) / photons
    return _to_uint8(noisy + rng.normal(0, READ_NOISE, image.shape))


def jpeg(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Compression at quality 25 to 7."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, 'JPEG', quality=JPEG_QUALITY[severity - 1])
    return np.array(Image.open(buffer))


def colour_shift(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Hues turned by 15 to 90 degrees, one way or the other."""
    turn = HUE[severity - 1] * rng.choice([-1, 1])
    hsv = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + turn) % 360
    return _to_uint8(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


def _count(rate: float, length: int) -> int:
    """How many of ``length`` to change: at least one, where there is one."""
    return min(length, max(1, round(rate * length)))


def char_swap(text: str, severity: int, rng: np.random.Generator) -> str:
    """4 to 20 % of the characters trade places with the next one in their word."""
    letters = list(text)
    places = [i for i in range(len(text) - 1) if not {text[i], text[i + 1]} & {' '}]
    for i in rng.permutation(places)[: _count(CHARACTERS[severity - 1], len(text))]:
        i = int(i)
        letters[i], letters[i + 1] = letters[i + 1], letters[i]
    return ''.join(letters)


def char_delete(text: str, severity: int, rng: np.random.Generator) -> str:
    """4 to 20 % of the characters are missing; one letter stays."""
    places = rng.permutation([i for i, letter in enumerate(text) if letter != ' '])[1:]
    gone = set(places[: _count(CHARACTERS[severity - 1], len(text))].tolist())
    return ' '.join(''.join(c for i, c in enumerate(text) if i not in gone).split())


def word_drop(text: str, severity: int, rng: np.random.Generator) -> str:
    """10 to 50 % of the words are missing; one stays."""
    words = text.split()
    gone = set(rng.permutation(len(words))[1:][: _count(WORDS[severity - 1], len(words))].tolist())
    return ' '.join(word for i, word in enumerate(words) if i not in gone)


def punctuation(text: str, severity: int, rng: np.random.Generator) -> str:
    """Marks are put at random places, 4 to 20 % of the characters."""
    places = rng.permutation(len(text) + 1)
    marks = rng.choice(list(PUNCTUATION), len(text) + 1)
    added = set(places[: _count(CHARACTERS[severity - 1], len(text))].tolist())
    letters = [*text, '']
    return ''.join(f'{marks[i] if i in added else ""}{letter}' for i, letter in enumerate(letters))


IMAGE_CORRUPTIONS: dict[str, Callable[..., np.ndarray]] = {
    'haze': haze,
    'low_light': low_light,
    'occlusion': occlusion,
    'occlusion_target': occlusion_target,
    'motion_blur': motion_blur,
    'sensor_noise': sensor_noise,
    'jpeg': jpeg,
    'colour_shift': colour_shift,
}
TEXT_CORRUPTIONS: dict[str, Callable[[str, int, np.random.Generator], str]] = {
    'char_swap': char_swap,
    'char_delete': char_delete,
    'word_drop': word_drop,
    'punctuation': punctuation,
}


def _check(kind: str, known: dict[str, Any], severity: int) -> None:
    if kind not in known:
        raise ValueError(f'kind must be one of {list(known)}, got {kind!r}')
    if severity not in SEVERITIES:
        raise ValueError(f'severity must be one of {list(SEVERITIES)}, got {severity!r}')


def _rng(seed: int, *key: object) -> np.random.Generator:
    return np.random.default_rng((seed, zlib.crc32(repr(key).encode())))


@TRANSFORMS.register_module()
class CorruptImage(BaseTransform):
    """Corrupt ``img``; put it right after ``LoadRefImage``.

    ``occlusion_target`` hides a part of every target that the item's expressions refer to.

    Args:
        kind: A key of ``IMAGE_CORRUPTIONS``.
        severity: 1 to 5.
        seed: Draws depend on it, on ``kind`` and on the item's ``image_id`` (without one: on
            the image's content).

    Raises:
        ValueError: If ``kind`` or ``severity`` is unknown.
    """

    def __init__(self, kind: str, severity: int, seed: int = 0) -> None:
        _check(kind, IMAGE_CORRUPTIONS, severity)
        self.kind, self.severity, self.seed = kind, severity, seed

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace ``img``, RGB uint8 (H, W, 3)."""
        image = results['img']
        key = results['image_id'] if 'image_id' in results else zlib.crc32(image.tobytes())
        extra = {'masks': _masks(results)} if self.kind == 'occlusion_target' else {}
        results['img'] = IMAGE_CORRUPTIONS[self.kind](
            image, self.severity, _rng(self.seed, self.kind, key), **extra
        )
        return results


def _masks(results: dict[str, Any]) -> list[np.ndarray]:
    """One mask per target of the item, in the order of their ids."""
    targets = {tuple(e['ann_ids']): e['segmentation'] for e in results['expressions']}
    height, width = results['img'].shape[:2]
    return [decode_masks(targets[ids], height, width) for ids in sorted(targets)]


@TRANSFORMS.register_module()
class CorruptText(BaseTransform):
    """Corrupt the text of each expression.

    Args:
        kind: A key of ``TEXT_CORRUPTIONS``.
        severity: 1 to 5.
        seed: Draws depend on it, on ``kind`` and on the expression (its text and ``sent_id``).

    Raises:
        ValueError: If ``kind`` or ``severity`` is unknown.
    """

    def __init__(self, kind: str, severity: int, seed: int = 0) -> None:
        _check(kind, TEXT_CORRUPTIONS, severity)
        self.kind, self.severity, self.seed = kind, severity, seed

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace the texts; the item's other fields stay."""
        results['expressions'] = [self._corrupt(e) for e in results['expressions']]
        return results

    def _corrupt(self, expression: dict[str, Any]) -> dict[str, Any]:
        text = expression['expression']
        rng = _rng(self.seed, self.kind, expression.get('sent_id'), text)
        return {**expression, 'expression': TEXT_CORRUPTIONS[self.kind](text, self.severity, rng)}
