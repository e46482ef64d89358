"""One's own photographs, masks and sentences -> the REFER layout.

Three forms: a COCO instance file and a table of sentences; a folder of mask images and a table;
a folder of LabelMe files. A table is CSV (separated by commas, semicolons or tabs) or JSON lines;
its columns are given with each function.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from ..progress import track
from .mirrors import ReferWriter
from .refer import decode_masks
from .refer_files import ReferError, read_json
from .tables import Row, Splits, read_table
from .transforms.images import read_rgb

SENTENCE = ('sentence', 'sent', 'expression', 'caption', 'text')
ANNOTATION = ('ann_id', 'annotation_id')
IMAGE = ('image', 'file_name', 'image_name')


def add_coco_table(writer: ReferWriter, instances: Path, table: Path, splits: Splits) -> None:
    """Add sentences about annotations of a COCO file.

    Columns of the table: ``ann_id``, or ``image_id`` or ``image`` (file name) where the image has
    a single annotation; ``sentence``; ``split``.

    Raises:
        ReferError: If a row names something that is not there, or not a single thing.
    """
    data = read_json(instances)
    try:
        images = {image['id']: image for image in data['images']}
        annotations = {ann['id']: ann for ann in data['annotations']}
        by_name = {image['file_name']: image['id'] for image in data['images']}
        in_image: dict[int, list[int]] = {}
        for ann in data['annotations']:
            if not ann.get('iscrowd'):
                in_image.setdefault(ann['image_id'], []).append(ann['id'])
    except (KeyError, TypeError) as error:
        raise ReferError(
            f'{instances} is not of COCO form ({type(error).__name__}: {error})'
        ) from error
    for kind, known in (('images', images), ('annotations', annotations)):
        if len(known) < len(data[kind]):
            raise ReferError(f'{instances}: ids of {kind} are there twice; give each its own')
    for row in track(read_table(table), table.name, 'row'):
        ann_id = row.number(ANNOTATION)
        if ann_id is None:
            ann_id = _only_annotation(row, images, by_name, in_image)
        if ann_id not in annotations:
            raise ReferError(f'{row.where}: annotation {ann_id} is not in {instances}')
        annotation = annotations[ann_id]
        image = images.get(annotation['image_id'])
        if image is None:
            raise ReferError(f'{instances}: the image of annotation {ann_id} is not there')
        writer.add(splits.of(row, image), image, annotation, [row.need(SENTENCE)])


def _only_annotation(
    row: Row, images: Mapping[int, Any], by_name: Mapping[str, int], in_image: Mapping
) -> int:
    image_id = row.number(['image_id'])
    if image_id is None:
        name = row.need([*ANNOTATION, 'image_id', *IMAGE])
        image_id = by_name.get(name)
        if image_id is None:
            raise ReferError(f'{row.where}: image {name!r} is not in the COCO file')
    if image_id not in images:
        raise ReferError(f'{row.where}: image {image_id} is not in the COCO file')
    found = in_image.get(image_id, [])
    if len(found) != 1:
        raise ReferError(
            f'{row.where}: image {image_id} has {len(found)} annotations, so the row must name '
            f'one: add a column ann_id ({", ".join(map(str, found[:5])) or "none"})'
        )
    return found[0]


def add_mask_table(
    writer: ReferWriter, masks: Path, table: Path, images: Path, splits: Splits
) -> None:
    """Add sentences about mask images (PNG or any lossless form).

    Columns of the table: ``image`` and ``mask`` (file names in their folders), ``sentence``,
    ``split``, and ``value`` where a mask image numbers several objects. Without ``value``, every
    pixel that is not 0 belongs to the object. Rows of the same mask and value are one object.

    Raises:
        ReferError: If a mask cannot be read, is empty, or is of another size than its image.
    """
    known: dict[str, dict[str, Any]] = {}
    targets: dict[tuple[str, str, int | None], dict[str, Any]] = {}
    for row in track(read_table(table), table.name, 'row'):
        name, mask, value = row.need(IMAGE), row.need(['mask']), row.number(['value'])
        if name not in known:
            known[name] = image_record(images, name, len(known) + 1, row.where)
        image = known[name]
        key = (name, mask, value)
        if key not in targets:
            pixels = _mask_pixels(masks / mask, value, row.where)
            targets[key] = annotation_of(pixels, len(targets) + 1, image, f'{row.where}: {mask}')
        writer.add(splits.of(row, image), image, targets[key], [row.need(SENTENCE)])


def image_record(folder: Path, name: str, image_id: int, where: str) -> dict[str, Any]:
    """COCO's record of an image file, of the size that training reads.

    Raises:
        ReferError: If it cannot be read.
    """
    try:
        height, width = read_rgb(folder / name).shape[:2]
    except (OSError, ValueError) as error:
        raise ReferError(f'{where}: {error}') from error
    return dict(id=image_id, file_name=name, width=width, height=height)


def _mask_pixels(path: Path, value: int | None, where: str) -> np.ndarray:
    """Bool (H, W)."""
    try:
        with Image.open(path) as image:
            colored = image.mode in ('RGB', 'RGBA', 'LA')
            pixels = np.asarray(image.convert('RGB') if colored else image)
    except OSError as error:
        raise ReferError(f'{where}: mask {path} cannot be read ({error})') from error
    if pixels.ndim == 3 and value is not None:
        raise ReferError(f'{where}: mask {path} is in colour: value={value} needs one channel')
    if value is not None:
        return np.asarray(pixels == value)
    return np.asarray(pixels.any(2) if pixels.ndim == 3 else pixels != 0)


def annotation_of(
    mask: np.ndarray, ann_id: int, image: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """COCO's record of a mask, bool (H, W), as compressed RLE.

    Raises:
        ReferError: If it is empty, or not of the image's size.
    """
    if mask.shape != (image['height'], image['width']):
        raise ReferError(
            f'{where}: the mask is of size {mask.shape} (height, width), image '
            f'{image["file_name"]} of {(image["height"], image["width"])}'
        )
    if not mask.any():
        raise ReferError(f'{where}: no pixel of the mask belongs to the object')
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    counts: Any = rle['counts']
    return dict(
        id=ann_id,
        image_id=image['id'],
        category_id=0,
        segmentation=dict(size=list(mask.shape), counts=counts.decode()),
        area=int(mask.sum()),
        bbox=coco_mask.toBbox(rle).tolist(),
        iscrowd=0,
    )


def add_labelme(writer: ReferWriter, files: Sequence[Path], images: Path, splits: Splits) -> None:
    """Add LabelMe files (one JSON an image).

    A shape's sentences are the lines of its ``description``, or else its ``label``. Shapes of the
    same ``group_id`` are one object. Outlines may be polygons, rectangles, circles or masks.

    Raises:
        ReferError: On a file of another form, or a shape that has no area.
    """
    ann_id = 0
    for number, path in enumerate(track(sorted(files), 'LabelMe', 'file'), 1):
        data = read_json(path)
        objects: dict[Any, list[dict[str, Any]]] = {}
        try:
            name = Path(data['imagePath'].replace('\\', '/')).name
            image = image_record(images, name, number, str(path))
            drawn = (data.get('imageHeight'), data.get('imageWidth'))
            if None not in drawn and drawn != (image['height'], image['width']):
                raise ReferError(
                    f'{path} was drawn on an image of {drawn} (height, width), {images / name} is '
                    f'read as {(image["height"], image["width"])}: if its EXIF data turn it, save '
                    'it upright without them'
                )
            for k, shape in enumerate(data['shapes']):
                group = shape.get('group_id')
                objects.setdefault(('alone', k) if group is None else group, []).append(shape)
            for shapes in objects.values():
                where = f'{path}: shape {shapes[0]["label"]!r}'
                ann_id += 1
                outline = _outline(shapes, image, where)
                mask = annotation_of(outline, ann_id, image, where)
                split = splits.of(Row({}, where), image)
                writer.add(split, image, mask, _sentences(shapes))
        except (KeyError, TypeError, AttributeError) as error:
            raise ReferError(
                f'{path} is not of LabelMe form ({type(error).__name__}: {error}): expected '
                'imagePath and shapes=[{label, points, shape_type}]'
            ) from error


def _sentences(shapes: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [line.strip() for s in shapes for line in (s.get('description') or '').splitlines()]
    found = [line for line in lines if line] or [shapes[0]['label'].strip()]
    return list(dict.fromkeys(found))


def _outline(
    shapes: Sequence[Mapping[str, Any]], image: Mapping[str, Any], where: str
) -> np.ndarray:
    """Union of shapes, bool (H, W)."""
    height, width = image['height'], image['width']
    found = np.zeros((height, width), bool)
    for shape in shapes:
        kind, points = shape.get('shape_type', 'polygon'), shape['points']
        if kind == 'mask':
            _paste(found, shape, where)
            continue
        if kind == 'rectangle' and len(points) == 2:
            (x0, y0), (x1, y1) = points
            points = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
        elif kind == 'circle' and len(points) == 2:
            (x, y), edge = points
            radius = math.dist((x, y), edge)
            turns = [2 * math.pi * k / 64 for k in range(64)]
            points = [(x + radius * math.cos(t), y + radius * math.sin(t)) for t in turns]
        elif kind not in ('polygon', 'rectangle') or len(points) < 3:
            raise ReferError(
                f'{where} is a {kind} of {len(points)} points, which encloses no object: draw a '
                'polygon, rectangle, circle or mask'
            )
        flat = [float(value) for point in points for value in point]
        found |= decode_masks([[flat]], height, width) > 0
    return found


def _paste(found: np.ndarray, shape: Mapping[str, Any], where: str) -> None:
    """Add a mask that LabelMe stores as PNG, at the first of its two corners."""
    (x0, y0), *_ = shape['points']
    left, top = round(x0), round(y0)
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape['mask']))) as image:
            part = np.asarray(image.convert('L')) > 0
    except (OSError, binascii.Error, KeyError) as error:
        raise ReferError(f'{where}: its mask cannot be decoded ({error})') from error
    room = found[top : top + part.shape[0], left : left + part.shape[1]]
    room |= part[: room.shape[0], : room.shape[1]]
