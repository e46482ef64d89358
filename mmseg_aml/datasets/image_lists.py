"""Which photographs a data set uses, whatever form it comes in.

Photographs are told apart by :func:`photo_key`, so that sets of different origin can be
compared: COCO's own number if the file name carries it (``COCO_train2014_000000000009.jpg``,
``000000000009.jpg``, RefCOCO's ``COCO_train2014_000000000009_3.jpg``), else the image id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union

import numpy as np

from .refer import ReferError, ReferIndex
from .refer_files import read_json

Key = Union[int, str]
_COCO_NUMBER = re.compile(r'(?<!\d)(\d{12})(?!\d)')
_REFER_SOURCE = re.compile(r'^(?P<folder>.*?)(?:\((?P<by>\w+)\))?:(?P<splits>[\w,*-]+)$')
_NAME_KEYS = ('file_name', 'img_name', 'image_name', 'img_path', 'image_path', 'image', 'img')
_ID_KEYS = ('original_id', 'image_id', 'img_id', 'id')


def photo_key(file_name: str | None, image_id: int | str | None = None) -> Key:
    """What identifies a photograph: COCO's number, else the id, else the file's stem.

    >>> photo_key('train2014/COCO_train2014_000000000009_3.jpg'), photo_key(None, '9')
    (9, 9)

    Raises:
        ReferError: If neither is given.
    """
    number = _COCO_NUMBER.search(Path(file_name).name) if file_name else None
    if number:
        return int(number[1])
    if image_id is not None:
        return int(image_id) if str(image_id).isdigit() else str(image_id)
    if file_name:
        stem = Path(file_name).stem
        return int(stem) if stem.isdigit() else stem
    raise ReferError('an image has neither file name nor id')


def photos_of(source: str) -> set[Key]:
    """Photographs of one source.

    Args:
        source: One of

            - ``FOLDER(BY):SPLITS``: REFER annotations, such as
              ``data/refer/refcocog(umd):val,test``; ``(BY)`` may be left out, ``*`` means
              all splits but ``train``;
            - a ``.json`` file: COCO style (``images``; MDETR's too), or a list of records or
              of ids or file names;
            - a ``.txt`` file: one id or file name a line.

    Raises:
        FileNotFoundError: If it does not exist.
        ReferError: If it is of none of these forms, or empty.
    """
    path = Path(source)
    if path.suffix in ('.json', '.txt'):
        if not path.is_file():
            raise FileNotFoundError(f'{source} does not exist')
        items = read_json(path) if path.suffix == '.json' else path.read_text().split('\n')
        keys = set(_keys_of_items(items, source))
    else:
        keys = _refer_photos(source)
    if not keys:
        raise ReferError(f'{source} names no image')
    return keys


def _refer_photos(source: str) -> set[Key]:
    match = _REFER_SOURCE.match(source)
    if not match:
        raise ReferError(
            f'cannot read {source!r}: give FOLDER(BY):SPLITS, such as '
            '"data/refer/refcocog(umd):val,test", or a .json or .txt file'
        )
    folder = Path(match['folder'])
    index = ReferIndex.open(folder.parent, folder.name, match['by'])
    names = match['splits'].split(',')
    if names == ['*']:
        names = [name for name in index.split_names if name != 'train']
    keys: set[Key] = set()
    for name in names:
        rows = np.unique(index.arrays['ref_image'][index.rows(name)])
        images = (index.image(row) for row in rows.tolist())
        keys |= {photo_key(image.file_name, image.image_id) for image in images}
    return keys


def _keys_of_items(items: Any, source: str) -> Iterator[Key]:
    if isinstance(items, dict):
        if not isinstance(items.get('images'), list):
            raise ReferError(f"{source}: expected a list, or a dict with a list 'images'")
        items = items['images']
    if not isinstance(items, list):
        raise ReferError(f'{source}: expected a list of images, got {type(items).__name__}')
    for item in items:
        if isinstance(item, dict):
            yield _key_of_record(item, source)
        elif isinstance(item, int):
            yield item
        elif str(item).strip():
            text = str(item).strip()
            yield photo_key(text, text if text.isdigit() else None)


def _key_of_record(record: dict[str, Any], source: str) -> Key:
    name = next((record[key] for key in _NAME_KEYS if isinstance(record.get(key), str)), None)
    image_id = next((record[key] for key in _ID_KEYS if record.get(key) is not None), None)
    if name is None and image_id is None:
        raise ReferError(
            f'{source}: a record has none of {", ".join(_NAME_KEYS + _ID_KEYS)}; '
            f'its keys: {", ".join(map(str, record))}'
        )
    return photo_key(name, image_id)
