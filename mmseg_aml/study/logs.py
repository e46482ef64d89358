"""What MMEngine's LocalVisBackend logged, as curves over steps, of one run or of several seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from glob import glob
from pathlib import Path

import numpy as np

Curve = dict[int, float]  # step -> value
SEED = re.compile(r'[-_.]?seed[-_]?\d+$')


def read_run(folder: str | Path) -> dict[str, Curve]:
    """All scalars of one run, ``{key: {step: value}}``.

    A resumed run has one log per start; where two have a step, the later one is right. Steps of
    training scalars are iterations, those of validation scalars what MMEngine counts: epochs in
    epoch-based trainings.

    Args:
        folder: A work folder, one of its time-stamped folders, or a ``scalars.json``.

    Raises:
        FileNotFoundError: If there is no log.
        ValueError: If a log is damaged before its last line, which a stopped run may leave torn.
    """
    folder = Path(folder).expanduser()
    files = [folder] if folder.is_file() else sorted(folder.glob('**/vis_data/scalars.json'))
    files = [file for file in files if 'test' not in file.relative_to(folder).parts[:1]]
    if not files:
        raise FileNotFoundError(f'no vis_data/scalars.json in {folder}: is it a work folder?')
    curves: dict[str, Curve] = {}
    for file in files:
        lines = file.read_text(encoding='utf-8').splitlines()
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
            except ValueError as error:
                if number == len(lines):
                    continue
                raise ValueError(f'{file}, line {number} is damaged: {error}') from error
            for key, value in record.items():
                if key not in ('step', 'iter', 'epoch') and isinstance(value, (int, float)):
                    curves.setdefault(key, {})[int(record['step'])] = float(value)
    return curves


def group_runs(sources: Sequence[str]) -> dict[str, list[Path]]:
    """Runs by name: ``NAME=PATTERN``, or folders whose names differ only in the seed.

    Raises:
        FileNotFoundError: If a pattern finds nothing.
    """
    groups: dict[str, list[Path]] = {}
    for source in sources:
        name, equals, pattern = source.partition('=')
        found = sorted(glob(str(Path(pattern if equals else source).expanduser())))
        if not found:
            raise FileNotFoundError(f'no run {pattern if equals else source}')
        for path in map(Path, found):
            own = SEED.sub('', path.resolve().name)
            groups.setdefault(name if equals else own, []).append(path)
    return groups


def together(curves: Sequence[Mapping[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Several runs of one key at the steps that all of them have.

    Returns:
        Steps (S,) int64, and values (R, S) float64 of R runs.
    """
    steps = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    values = [[curve[step] for step in steps] for curve in curves]
    return np.array(steps, np.int64), np.array(values, float).reshape(len(curves), len(steps))


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Moving mean of each row (R, S) over ``window`` steps back, so that no value knows later."""
    total = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1)
    last = np.arange(1, values.shape[1] + 1)
    first = np.maximum(last - window, 0)
    return (total[:, last] - total[:, first]) / (last - first)
