"""Means over seeds, and differences of the same seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

Scores = Mapping[str, Mapping[str, float]]  # split -> metric -> percent
Results = Mapping[str, Mapping[str, Scores]]  # cell -> seed -> scores


@dataclass(frozen=True)
class Spread:
    """``count`` values by mean and sample standard deviation (NaN for one value)."""

    mean: float
    deviation: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        deviation = statistics.stdev(values) if len(values) > 1 else float('nan')
        return cls(statistics.mean(values), deviation, len(values))

    def text(self, sign: str = '') -> str:
        """``61.2 ± 0.4``, or ``61.2`` of one value; ``sign='+'`` writes it."""
        spread = f' ± {self.deviation:.1f}' if self.count > 1 else ''
        return f'{self.mean:{sign}.1f}{spread}'


def spreads(seeds: Mapping[str, Scores], split: str, metric: str) -> Spread:
    """One number of one cell over its seeds."""
    return Spread.of([scores[split][metric] for scores in seeds.values()])


def differences(results: Results, ours: str, theirs: str, split: str, metric: str) -> list[float]:
    """``ours - theirs`` of each seed that both cells have."""
    common = [seed for seed in results[ours] if seed in results[theirs]]
    return [
        results[ours][seed][split][metric] - results[theirs][seed][split][metric] for seed in common
    ]


def table(results: Results, splits: Sequence[str], metrics: Sequence[str]) -> str:
    """Mean ± deviation of every cell that has a seed, as Markdown."""
    columns = list(product(splits, metrics))
    lines = [['', *(f'{split} {metric}' for split, metric in columns)]]
    for name, seeds in results.items():
        if seeds:
            lines.append([name, *(spreads(seeds, *column).text() for column in columns)])
    return markdown(lines)


def difference_table(
    results: Results,
    pairs: Sequence[tuple[str, str]],
    splits: Sequence[str],
    metrics: Sequence[str],
) -> str:
    """Mean ± deviation of the seeds' differences, and how many seeds gain; as Markdown."""
    columns = list(product(splits, metrics))
    lines = [['same seeds', *(f'{split} {metric}' for split, metric in columns)]]
    for ours, theirs in pairs:
        cells = [differences(results, ours, theirs, *column) for column in columns]
        if all(cells):
            texts = (
                f'{Spread.of(values).text("+")} ({sum(v > 0 for v in values)}/{len(values)})'
                for values in cells
            )
            lines.append([f'{ours} − {theirs}', *texts])
    return markdown(lines) if len(lines) > 1 else ''


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table whose first line is its head."""
    rows = [lines[0], ['---'] * len(lines[0]), *lines[1:]]
    return '\n'.join('| ' + ' | '.join(row) + ' |' for row in rows)
