"""Tables of sentences: CSV or JSON lines, and the split of each row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from .refer_files import ReferError


class Row:
    """One line of a table: ``values`` by column, and where it stands."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values, self.where = values, where

    def get(self, names: Sequence[str]) -> str | None:
        """The value of the first of these columns that is there and not empty."""
        for name in names:
            value = self.values.get(name)
            if value is not None and str(value).strip():
                return str(value).strip()
        return None

    def need(self, names: Sequence[str]) -> str:
        """As :meth:`get`.

        Raises:
            ReferError: If there is none.
        """
        value = self.get(names)
        if value is None:
            there = ', '.join(map(str, self.values))
            raise ReferError(f'{self.where}: no {" or ".join(names)}; columns there: {there}')
        return value

    def number(self, names: Sequence[str]) -> int | None:
        """As :meth:`get`, a whole number.

        Raises:
            ReferError: If it is none.
        """
        value = self.get(names)
        try:
            return None if value is None else int(value)
        except ValueError as error:
            raise ReferError(f'{self.where}: {names[0]} is {value!r}, not a number') from error


def read_table(path: Path) -> Iterator[Row]:
    """Rows of a CSV or JSON lines file, in UTF-8, with or without a byte order mark.

    Raises:
        ReferError: If it is neither; the message names the line.
    """
    try:
        text = path.read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise ReferError(f'{path} is not UTF-8 ({error}): save it as UTF-8') from error
    if path.suffix in ('.jsonl', '.ndjson'):
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield Row(_json_line(line, f'{path}, line {number}'), f'{path}, line {number}')
        return
    head = text.split('\n', 1)[0]
    delimiter = max(',;\t', key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=''), delimiter=delimiter)
    for values in reader:
        where = f'{path}, line {reader.line_num}'
        if None in values:
            raise ReferError(
                f'{where}: more fields than columns; put a sentence that holds {delimiter!r} '
                'in "quotes"'
            )
        yield Row({key.strip(): value for key, value in values.items()}, where)


def _json_line(line: str, where: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ReferError(f'{where}: not a JSON object ({error})') from error


class Splits:
    """The split of each row: its own, else that of its image.

    Args:
        of_image: Image id or file name -> split.
        default: Split of all other rows.
    """

    def __init__(
        self, of_image: Mapping[str, str] | None = None, default: str | None = None
    ) -> None:
        self.of_image, self.default = of_image or {}, default

    def of(self, row: Row, image: Mapping[str, Any]) -> str:
        """The split of ``row`` about ``image``.

        Raises:
            ReferError: If nothing tells it.
        """
        keys = (str(image['id']), image['file_name'])
        split = row.get(['split']) or next(
            (self.of_image[key] for key in keys if key in self.of_image), self.default
        )
        if split is None:
            raise ReferError(
                f'{row.where}: nothing tells the split of image {image["file_name"]}; add a '
                "column 'split', or give --split or --splits"
            )
        return split
