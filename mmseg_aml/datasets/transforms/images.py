"""Image files of every form to RGB uint8, by one rule; what has no sure reading is refused.

The rule is written out in ``docs/images.md``. Training, tests, inference and pictures read
through this module.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO, Optional

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

Size = Optional[tuple[int, int]]
ORIENTATION = 0x0112  # EXIF tag
OPAQUE = ('1', 'L', 'P', 'RGB', 'RGBX', 'CMYK', 'YCbCr', 'HSV', 'LAB')
WITH_ALPHA = ('RGBA', 'RGBa', 'LA', 'La', 'PA')
DARKEST_16_BIT = 4096  # a picture that never reaches it would be read as nearly black


class ImageFormError(OSError):
    """An image that could only be guessed at; the message says what it is and the mend."""


def read_rgb(path: str | Path, annotated: Size = None) -> np.ndarray:
    """Decodes an image file to RGB uint8 (H, W, 3), as a viewer shows it.

    Args:
        path: JPEG, PNG, TIFF, WebP, BMP, GIF, or whatever else Pillow reads.
        annotated: (height, width) that annotations give. Where the file has it without being
            turned by its EXIF orientation, the masks lie on the pixels as stored (COCO).

    Raises:
        FileNotFoundError: If it is missing.
        ImageFormError: If its form is refused.
        OSError: If it is truncated or no image.
    """
    return decode_rgb(path, str(path), annotated)


def decode_rgb(file: str | Path | BinaryIO, name: str, annotated: Size = None) -> np.ndarray:
    """:func:`read_rgb` of an open file, too; errors say "image ``name``"."""
    try:
        with Image.open(file) as image:
            return to_rgb(image, annotated)
    except FileNotFoundError as error:
        raise FileNotFoundError(f'image {name} is missing') from error
    except ImageFormError as error:
        raise ImageFormError(f'image {name}: {error}') from error
    except UnidentifiedImageError as error:
        raise OSError(
            f'image {name} cannot be decoded: it is no form that is read. If a viewer shows it '
            '(HEIC, camera raw, SVG, floats in colour), save it there as JPEG or PNG; else replace '
            'the file by an intact copy'
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageFormError(f'image {name} is too large ({error}): shrink or crop it') from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise OSError(
            f'image {name} cannot be decoded ({error}); replace the file by an intact copy'
        ) from error


def to_rgb(image: Image.Image, annotated: Size = None) -> np.ndarray:
    """A Pillow image as RGB uint8 (H, W, 3); see :func:`read_rgb`.

    Raises:
        ImageFormError: If its form is refused.
    """
    if image.format == 'TIFF' and getattr(image, 'n_frames', 1) > 1:
        raise ImageFormError(
            f'it has {image.n_frames} pages, and none is the picture: save the page that is meant'  # type: ignore[attr-defined]
        )
    if annotated is None or image.size[::-1] != tuple(annotated):
        image = _upright(image)
    if image.mode in WITH_ALPHA or 'transparency' in image.info and image.mode in OPAQUE:
        return np.array(_on_white(image))
    if image.mode in OPAQUE:
        return np.array(_in_srgb(image))
    grey = _wide_grey(image)
    return np.repeat(grey[..., None], 3, axis=2)


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF orientation says; an unreadable EXIF block turns nothing."""
    try:
        turned = image.getexif().get(ORIENTATION, 1) in range(2, 9)
    except Exception:  # damaged blocks raise nearly anything, and the pixels are intact
        return image
    if not turned:
        return image
    info, kind = dict(image.info), image.format
    image = ImageOps.exif_transpose(image)
    image.info, image.format = {**image.info, **_colour(info)}, kind
    return image


def _colour(info: dict[Any, Any]) -> dict[str, Any]:
    return {key: info[key] for key in ('icc_profile', 'transparency') if key in info}


def _on_white(image: Image.Image) -> Image.Image:
    """Transparent parts show white, as paper and most pages do."""
    profile = image.info.get('icc_profile')
    rgba = image.convert('RGBA')
    page = Image.new('RGBA', rgba.size, (255, 255, 255, 255))
    flat = Image.alpha_composite(page, rgba).convert('RGB')
    if profile and image.mode not in ('LA', 'La', 'L', '1'):
        flat.info['icc_profile'] = profile
    return _in_srgb(flat)


def _in_srgb(image: Image.Image) -> Image.Image:
    """RGB; colours of another space (Display P3, Adobe RGB, CMYK of a press) become sRGB."""
    if image.mode == 'LAB':
        return ImageCms.profileToProfile(  # type: ignore[return-value]
            image, ImageCms.createProfile('LAB'), ImageCms.createProfile('sRGB'), outputMode='RGB'
        )
    profile = image.info.get('icc_profile')
    plain: Any = image if image.mode in ('RGB', 'CMYK') else image.convert('RGB')
    if profile and image.mode not in ('1', 'L'):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if 'sRGB' not in ImageCms.getProfileDescription(source):
                target = ImageCms.createProfile('sRGB')
                plain = ImageCms.profileToProfile(plain, source, target, outputMode='RGB')
        except (ImageCms.PyCMSError, OSError):
            pass  # a damaged or misplaced profile, which browsers leave out too
    return plain if plain.mode == 'RGB' else plain.convert('RGB')


def _wide_grey(image: Image.Image) -> np.ndarray:
    """Grey values of more than 8 bits, (H, W) uint8."""
    if image.mode.startswith('I;16') or image.mode == 'I' and image.format == 'PNG':
        values = np.asarray(image).astype(np.uint16)
        most = int(values.max())
        if 255 < most < DARKEST_16_BIT:
            raise ImageFormError(
                f'it has 16 bits a pixel and uses 0 to {most} of 65535, so that white is unknown '
                '(12 bits of a camera?): spread its values, or save it with 8 bits'
            )
        if most <= 255:
            return values.astype(np.uint8)
        return np.rint(values / 257).astype(np.uint8)
    if image.mode == 'F':
        values = np.asarray(image)
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):  # also NaN
            raise ImageFormError(
                f'it holds floats from {low:g} to {high:g}, and floats are read as 0 (black) to 1 '
                '(white): scale them, or save it with 8 bits'
            )
        return np.rint(values * 255).astype(np.uint8)
    raise ImageFormError(
        f'it is of mode {image.mode!r} (32-bit integers have no known white): save it with 8 or '
        '16 bits a channel'
    )
