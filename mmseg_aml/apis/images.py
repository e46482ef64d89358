"""Whatever a caller names as an image -> RGB uint8 pixels, by the rule of ``docs/images.md``."""

from __future__ import annotations

import io
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..datasets.transforms.images import decode_rgb, read_rgb, to_rgb

SCHEMES = ('http://', 'https://')
LARGEST_DOWNLOAD = 100 * 2**20  # bytes
SECONDS = 30
TYPES = (
    'a path, an http(s) address, a PIL image, the bytes of an image file, or an array of RGB uint8 '
    '(H, W, 3)'
)


def read_image(image: Any) -> np.ndarray:
    """An image as RGB uint8 (H, W, 3), turned upright as viewers show it.

    Args:
        image: Path (``~`` is the home folder), http(s) address, PIL image, the bytes of an image
            file, or an array, RGB uint8 (H, W, 3), which is taken as it is.

    Raises:
        TypeError: Anything else, such as a grey or a float array or a tensor; says what to do.
        FileNotFoundError: No such file; lists the images beside it.
        OSError: It is no image, damaged, of a refused form, or the address gives none.
    """
    if isinstance(image, str) and image.lower().startswith(SCHEMES):
        return decode_rgb(io.BytesIO(_download(image)), image)
    if isinstance(image, (str, Path)):
        return read_rgb(_existing(Path(image).expanduser()))
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return decode_rgb(io.BytesIO(image), f'of {len(image)} bytes')
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] == (3,):
        if image.size:
            return np.ascontiguousarray(image)
    raise TypeError(f'image must be {TYPES}, got {_described(image)}')


def name_of(image: Any) -> str:
    """What to call the image in records: its path or address, else nothing."""
    return str(image) if isinstance(image, (str, Path)) else ''


def _existing(path: Path) -> Path:
    if path.is_dir():
        raise IsADirectoryError(
            f'image {path} is a folder: name its files, or use tools/predict.py for all of them'
        )
    if not path.is_file():
        kinds = Image.registered_extensions()
        beside = sorted(p.name for p in path.parent.glob('*') if p.suffix.lower() in kinds)
        there = f'beside it: {beside[:5]}' if beside else 'no images beside it'
        raise FileNotFoundError(f'image {path} is missing ({there})')
    return path


def _download(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            content = answer.read(LARGEST_DOWNLOAD + 1)
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, 'reason', error)
        raise OSError(
            f'image {url} cannot be fetched ({reason}): download it and name the file'
        ) from error
    if len(content) > LARGEST_DOWNLOAD:
        raise OSError(f'image {url} has more than {LARGEST_DOWNLOAD >> 20} MiB: download it first')
    return content


def _described(image: Any) -> str:
    if isinstance(image, np.ndarray):
        mend = ''
        if image.ndim == 4:
            mend = ': give several images as a list'
        elif image.ndim == 2:
            mend = ': give a grey one as Image.fromarray(array)'
        elif image.dtype != np.uint8:
            mend = ': scale its values to 0..255 and cast them'
        return f'an array of {image.dtype} {image.shape}{mend}'
    if type(image).__module__.split('.')[0] == 'torch':
        return (
            f'a tensor {tuple(image.shape)}: give image.permute(1, 2, 0).numpy() of a uint8 one '
            '(3, H, W), not normalised'
        )
    return f'{type(image).__name__} {image!r:.60}'
