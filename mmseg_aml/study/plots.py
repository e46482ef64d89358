"""Curves with a band over seeds, and cells as dots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from .logs import Curve, smooth, together
from .statistics import Results, spreads

# Okabe and Ito, told apart by colour-blind people too.
COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')


def plot_curves(
    groups: Mapping[str, Sequence[Mapping[str, Curve]]],
    keys: Sequence[str],
    path: Path,
    window: int = 1,
) -> None:
    """One panel a key, one colour a group: the mean of its runs, a band of ± one deviation.

    Args:
        groups: Runs by name, each as :func:`~.logs.read_run` gives it.
        keys: What to draw; a group without a key is left out of its panel.
        path: Picture to write.
        window: Steps of a moving mean.
    """
    columns = min(len(keys), 2)
    rows = -(-len(keys) // columns)
    figure = Figure(figsize=(6.4 * columns, 4.2 * rows), layout='constrained')
    for place, key in enumerate(keys, 1):
        axes = figure.add_subplot(rows, columns, place)
        for (name, runs), color in zip(groups.items(), COLORS * len(groups)):
            steps, values = together([run[key] for run in runs if key in run])
            if not len(steps):
                continue
            values = smooth(values, window)
            label = f'{name} ({len(values)} runs)' if len(values) > 1 else name
            mark = 'o' if len(steps) < 30 else None
            axes.plot(steps, values.mean(0), color=color, label=label, marker=mark, ms=3)
            if len(steps) == 1 and len(values) > 1:
                deviation = values.std(ddof=1)
                axes.errorbar(steps, values.mean(0), deviation, color=color, capsize=3)
            elif len(values) > 1:
                low, high = (values.mean(0) + side * values.std(0, ddof=1) for side in (-1, 1))
                axes.fill_between(steps, low, high, color=color, alpha=0.18, lw=0)
        axes.set(title=key, xlabel='step')
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize='small')
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def plot_cells(results: Results, splits: Sequence[str], metric: str, path: Path) -> None:
    """One panel a split: each seed as a dot, the mean and ± one deviation as a bar."""
    cells = {name: seeds for name, seeds in results.items() if seeds}
    size = 3.6 * len(splits) + 2.2, 0.42 * len(cells) + 1.3
    figure = Figure(figsize=size, layout='constrained')
    first = None
    for place, split in enumerate(splits, 1):
        axes = first = figure.add_subplot(1, len(splits), place, sharey=first)
        for row, seeds in enumerate(cells.values()):
            found = spreads(seeds, split, metric)
            dots = [scores[split][metric] for scores in seeds.values()]
            axes.plot(dots, [row] * len(dots), 'o', color=COLORS[5], ms=5, alpha=0.8)
            error = found.deviation if found.count > 1 else 0
            axes.errorbar(found.mean, row, xerr=error, fmt='|', color=COLORS[0], ms=12, capsize=3)
        axes.set(title=split, xlabel=f'{metric} (%)')
        axes.set_yticks(np.arange(len(cells)), list(cells))
        axes.tick_params(axis='y', labelleft=place == 1)
        axes.grid(axis='x', alpha=0.25)
    if first is not None:
        first.invert_yaxis()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
