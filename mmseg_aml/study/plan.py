"""A study as a YAML file: cells (a config and options) x seeds."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any, Literal, Union

import msgspec

from ..apis.inferencer import find_config


class Cell(msgspec.Struct, forbid_unknown_fields=True):
    """A config, by path or name, and config keys to override (``a.b: value``)."""

    config: str
    options: dict[str, Any] = {}


class Prepare(msgspec.Struct, forbid_unknown_fields=True):
    """A command of ``tools/`` that runs once, unless the file ``unless`` is there."""

    unless: str
    command: list[str]


class Study(msgspec.Struct, forbid_unknown_fields=True):
    """What to run and what to report.

    Attributes:
        cells: By their names in the table; a text is the config alone.
        seeds: ``randomness.seed`` of each run.
        splits: What each run is tested on.
        metrics: Which scores of ``protocol`` are reported; the first is drawn.
        protocol: Of :func:`mmseg_aml.evaluation.available_protocols`.
        checkpoint: The ``last`` of the training, or the ``best`` by validation.
        options: Config keys to override in all cells.
        train: Further arguments of ``tools/train.py``, such as ``--amp``.
        processes: Per run; more than one are started with torchrun.
        environment: Variables of all runs.
        prepare: What makes the data.
        compare: Pairs of cells whose difference over the same seeds is reported.
    """

    cells: dict[str, Union[str, Cell]]  # noqa: UP007  msgspec reads it at run time, on 3.9 too
    seeds: list[int]
    splits: list[str]
    metrics: list[str] = msgspec.field(default_factory=lambda: ['mIoU', 'oIoU'])
    protocol: str = 'original'
    checkpoint: Literal['last', 'best'] = 'last'
    options: dict[str, Any] = {}
    train: list[str] = []
    processes: int = 1
    environment: dict[str, str] = {}
    prepare: Union[Prepare, None] = None  # noqa: UP007
    compare: list[tuple[str, str]] = []


class Run(msgspec.Struct, frozen=True):
    """One training of a study, and its tests."""

    cell: str
    seed: int
    config: str
    options: dict[str, Any]
    folder: str

    @property
    def settings(self) -> dict[str, Any]:
        """What the scores depend on, beside the code."""
        return dict(config=Path(self.config).name, seed=self.seed, options=self.options)


def read_study(path: Path) -> Study:
    """Read and check a study.

    Raises:
        ValueError: If the file is no study; names the key.
    """
    try:
        study = msgspec.yaml.decode(path.read_bytes(), type=Study, strict=False)
    except msgspec.MsgspecError as error:
        raise ValueError(f'{path} is no study: {error}') from error
    for name in ('cells', 'seeds', 'splits', 'metrics'):
        if not getattr(study, name):
            raise ValueError(f'{path}: {name} is empty')
    unknown = {name for pair in study.compare for name in pair} - study.cells.keys()
    if unknown:
        raise ValueError(f'{path}: compare names {sorted(unknown)}, which are no cells')
    return study


def runs_of(study: Study, out: Path) -> list[Run]:
    """All runs, seed by seed, so that an early table has all cells.

    Raises:
        FileNotFoundError: If a config does not exist.
        ValueError: If two cells are the same.
    """
    runs = []
    for seed, (name, cell) in product(study.seeds, study.cells.items()):
        cell = Cell(cell) if isinstance(cell, str) else cell
        config = find_config(cell.config)
        own = '_' + re.sub(r'\W+', '-', name).strip('-') if cell.options else ''
        folder = out / f'{Path(config).stem}{own}_seed{seed}'
        options = {**study.options, **cell.options, 'randomness.seed': seed}
        runs.append(Run(name, seed, str(Path(config).resolve()), options, str(folder)))
    folders = [run.folder for run in runs]
    twice = [run.cell for run in runs if folders.count(run.folder) > 1]
    if twice:
        raise ValueError(f'the cells {sorted(set(twice))} are the same runs')
    return runs
