"""Robustness of a model against corrupted photographs and expressions: cells, numbers, plot."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from prettytable import PrettyTable

from ..datasets.transforms.corruptions import (
    IMAGE_CORRUPTIONS,
    SEVERITIES,
    TEXT_CORRUPTIONS,
    CorruptImage,
)
from ..engine.atomic_files import write_atomically

KINDS = (*IMAGE_CORRUPTIONS, *TEXT_CORRUPTIONS)
MEASURES = ('mIoU', 'oIoU')


def corruption(kind: str, severity: int, seed: int) -> dict[str, Any]:
    """Config of the transform for one cell of the table."""
    name = 'CorruptImage' if kind in IMAGE_CORRUPTIONS else 'CorruptText'
    return dict(type=f'mmseg_aml.{name}', kind=kind, severity=severity, seed=seed)


class RobustnessResults:
    """Numbers of one robustness run in a JSON file that is whole after every cell.

    The file holds ``settings``, ``clean`` and ``cells[kind][severity]`` with mIoU and oIoU, and
    ``summary``, see :meth:`summary`. An existing file is continued.

    Args:
        path: The JSON file.
        settings: What the numbers depend on: weights, config, split, protocol, seed.

    Raises:
        ValueError: If the file is of other settings, or no such file at all.
    """

    def __init__(self, path: str | Path, settings: dict[str, Any]) -> None:
        self.path = Path(path)
        self.settings = settings
        self.clean: dict[str, float] | None = None
        self.cells: dict[str, dict[str, dict[str, float]]] = {}
        if self.path.exists():
            self._continue()

    def _continue(self) -> None:
        try:
            stored = json.loads(self.path.read_text(encoding='utf-8'))
            settings = stored['settings']
            self.clean, self.cells = stored['clean'], stored['cells']
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f'{self.path} is no result of the robustness tool ({error}): give another file'
            ) from error
        keys = sorted(settings.keys() | self.settings.keys())
        other = [key for key in keys if settings.get(key) != self.settings.get(key)]
        if other:
            raise ValueError(
                f'{self.path} has results of another {", ".join(other)}: give another file, or '
                'remove it to start anew'
            )

    def missing(
        self, kinds: Sequence[str], severities: Sequence[int]
    ) -> Iterator[tuple[str, int] | None]:
        """Cells still to measure; None stands for the clean data."""
        if self.clean is None:
            yield None
        for kind in kinds:
            for severity in severities:
                if str(severity) not in self.cells.get(kind, {}):
                    yield kind, severity

    def add(self, cell: tuple[str, int] | None, numbers: dict[str, float]) -> None:
        """Note a cell's numbers and write the file, whole or not at all."""
        if cell is None:
            self.clean = numbers
        else:
            self.cells.setdefault(cell[0], {})[str(cell[1])] = numbers
        content = dict(
            settings=self.settings, clean=self.clean, cells=self.cells, summary=self.summary()
        )
        write_atomically(self.path, (json.dumps(content, indent=2) + '\n').encode())

    def summary(self) -> dict[str, Any]:
        """Means over the cells measured so far.

        ``kinds[kind]`` and ``corrupted`` (mean over the kinds) hold mIoU, oIoU and their relative
        drop against clean data in percent.
        """
        kinds = {kind: _mean(list(cells.values())) for kind, cells in self.cells.items()}
        rows = {'kinds': {kind: self._with_drop(row) for kind, row in kinds.items()}}
        return {**rows, 'corrupted': self._with_drop(_mean(list(kinds.values())))}

    def _with_drop(self, row: dict[str, float]) -> dict[str, float]:
        clean = self.clean or {}
        drops = {
            f'{key} drop': 100 * (clean[key] - value) / clean[key]
            for key, value in row.items()
            if clean.get(key)
        }
        return {**row, **drops}

    def table(self, measure: str = 'mIoU') -> str:
        """One row per corruption, one column per severity, then mean and relative drop."""
        severities = sorted({int(s) for cells in self.cells.values() for s in cells})
        columns = [str(severity) for severity in severities]
        clean = f', clean {self.clean[measure]:.2f}' if self.clean else ''
        title = f'{measure} under corruption ({self.settings["protocol"]}){clean}'
        table = PrettyTable(['corruption', *columns, 'mean', 'drop %'], title=title)
        summary = self.summary()
        for kind, cells in self.cells.items():
            values = [cells[c][measure] if c in cells else None for c in columns]
            mean = summary['kinds'][kind]
            table.add_row([kind, *map(_cell, values), *_mean_cells(mean, measure)])
        blank = [''] * len(columns)
        table.add_row(['all', *blank, *_mean_cells(summary['corrupted'], measure)])
        return table.get_string()


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([row[key] for row in rows])) for key in MEASURES} if rows else {}


def _cell(value: float | None) -> str:
    return '' if value is None else f'{value:.2f}'


def _mean_cells(row: dict[str, float], measure: str) -> list[str]:
    return [_cell(row.get(measure)), _cell(row.get(f'{measure} drop'))]


def plot(results: RobustnessResults, path: str | Path, measure: str = 'mIoU') -> None:
    """Draw ``measure`` over severity, photographs and expressions side by side."""
    figure = Figure(figsize=(10, 4), layout='constrained')
    axes = figure.subplots(1, 2, sharey=True)
    for axis, title, known in zip(
        axes, ('photograph', 'expression'), (IMAGE_CORRUPTIONS, TEXT_CORRUPTIONS)
    ):
        for kind in [kind for kind in known if kind in results.cells]:
            points = sorted((int(s), row[measure]) for s, row in results.cells[kind].items())
            if results.clean:
                points.insert(0, (0, results.clean[measure]))
            axis.plot(*zip(*points), marker='o', markersize=4, label=kind.replace('_', ' '))
        axis.set(title=title, xlabel='severity (0 = clean)', xticks=[0, *SEVERITIES])
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(fontsize=8)
    axes[0].set_ylabel(f'{measure} (%)')
    axes[0].set_ylim(bottom=0)
    figure.savefig(str(path), dpi=120)


def draw_examples(item: dict[str, Any], path: str | Path, width: int = 150, seed: int = 0) -> None:
    """Draw one photograph under every image corruption, a row per kind, a column per severity.

    Args:
        item: An item of the data set after LoadRefImage.
        path: Picture file to write.
        width: Of one panel, in pixels.
        seed: Of the corruptions.
    """
    height = round(width * item['img'].shape[0] / item['img'].shape[1])
    caption = 14
    sheet = Image.new(
        'RGB', (width * len(SEVERITIES), (height + caption) * len(IMAGE_CORRUPTIONS)), 'white'
    )
    pen = ImageDraw.Draw(sheet)
    for row, kind in enumerate(IMAGE_CORRUPTIONS):
        for column, severity in enumerate(SEVERITIES):
            image = CorruptImage(kind, severity, seed).transform(dict(item))['img']
            place = (column * width, row * (height + caption))
            pen.text((place[0] + 3, place[1] + 1), f'{kind} {severity}', fill='black')
            panel = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
            sheet.paste(panel, (place[0], place[1] + caption))
    sheet.save(str(path), quality=80)
