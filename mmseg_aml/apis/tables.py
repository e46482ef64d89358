"""A folder of images, or a table of images and sentences, as requests."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from .requests import Request

COLUMNS = ('image', 'expression')


class InputError(ValueError):
    """An input that cannot be used; the message names the file, the line and the mend."""


def read_requests(source: Path, expressions: Sequence[str] | None = None) -> list[Request]:
    """One request per image, in order; its ``image`` is a path as a string.

    Args:
        source: A folder, searched with its subfolders, or a ``.csv`` (commas or semicolons) or
            ``.tsv`` with columns ``image`` and ``expression``; paths in it are relative to its
            folder. Rows about one image become one request.
        expressions: Sentences about every image of a folder.

    Raises:
        InputError: Nothing to do, no such column, an empty cell, or images that are missing.
    """
    source = source.expanduser()
    if source.is_dir():
        return _of_folder(source, expressions)
    if not source.is_file():
        raise InputError(f'{source} is missing: name a folder of images, or a .csv or .tsv')
    if source.suffix.lower() not in ('.csv', '.tsv'):
        raise InputError(f'{source} is neither a folder nor a .csv or .tsv')
    if expressions:
        raise InputError(f'--expressions is for folders: {source} has a column for them')
    return _of_table(source)


def _of_folder(folder: Path, expressions: Sequence[str] | None) -> list[Request]:
    if not expressions or not all(text.strip() for text in expressions):
        raise InputError(f'{folder} is a folder: say with --expressions what to look for')
    kinds = Image.registered_extensions()
    found = sorted(path for path in folder.rglob('*') if path.suffix.lower() in kinds)
    if not found:
        raise InputError(f'{folder} holds no images')
    texts = list(dict.fromkeys(expressions))
    return [Request(str(path), texts) for path in found if path.is_file()]


def _of_table(path: Path) -> list[Request]:
    groups: dict[str, list[str]] = {}
    missing: dict[str, int] = {}
    for line, image, expression in _rows(path):
        file = path.parent / Path(image).expanduser()
        if not file.is_file():
            missing.setdefault(image, line)
        texts = groups.setdefault(str(file), [])
        if expression not in texts:
            texts.append(expression)
    if missing:
        some = ', '.join(f'{image} (line {line})' for image, line in list(missing.items())[:5])
        raise InputError(
            f'{path}: {len(missing)} of {len(groups)} images are missing: {some}; paths are '
            f'relative to {path.parent}'
        )
    if not groups:
        raise InputError(f'{path} has no rows')
    return [Request(image, texts) for image, texts in groups.items()]


def _rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line, image, expression) of every row."""
    try:
        text = path.read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise InputError(f'{path} is no UTF-8 text ({error}): save it as "CSV UTF-8"') from error
    head = text.split('\n', 1)[0]
    separator = '\t' if path.suffix.lower() == '.tsv' else ';' if head.count(';') else ','
    rows = csv.DictReader(text.splitlines(keepends=True), delimiter=separator)
    lacking = [name for name in COLUMNS if name not in (rows.fieldnames or [])]
    if lacking:
        raise InputError(
            f'{path} has no column {lacking} in its first line, which is {head.strip()!r}: it '
            'should be image,expression'
        )
    for row in rows:
        values = [(row[name] or '').strip() for name in COLUMNS]
        if not all(values) or None in row:
            raise InputError(
                f'{path}, line {rows.line_num}: {"too many" if None in row else "empty"} cells; '
                'a sentence with commas stands in "double quotes"'
            )
        yield rows.line_num, values[0], values[1]
