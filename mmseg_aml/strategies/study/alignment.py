"""Does an alignment estimator see the target? The diagnostics of training, over a data set.

In eval mode, as stage 1 of training. E = expressions, one record per expression,
estimator, filter and seed.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...registry import MODELS
from ..base import View
from ..masking.diagnostics import alignment_diagnostics, roc_auc, score_pixels
from ..masking.masker import Masker, Record
from . import maps  # noqa: F401  registers

ESTIMATORS: dict[str, dict[str, Any]] = {
    'pmme': dict(type='mmseg_aml.PMME'),
    'pmme-literal': dict(type='mmseg_aml.PMME', temperature=1.0),
    'pmme-shared': dict(type='mmseg_aml.SharedPMME'),
    'linear': dict(type='mmseg_aml.UntrainedLinear'),
    'noise': dict(type='mmseg_aml.UniformNoise'),
    'oracle': dict(type='mmseg_aml.GroundTruth'),
}
FILTERS: dict[str, dict[str, Any]] = {
    'paper': dict(type='mmseg_aml.AFM'),
    'literal': dict(type='mmseg_aml.LiteralAFM'),
    'release': dict(type='mmseg_aml.ReleaseAFM'),
    'quantile': dict(type='mmseg_aml.AFM', quantile=0.5),
}
MEASURES = ('weak', 'masked', 'masked_target', 'auc', 'auc_others', 'entropy')
TOKEN_BOUNDS = (5, 8, 12)  # [CLS] and [SEP] included
AREA_BOUNDS = (0.02, 0.1)  # of the image


class Setting(NamedTuple):
    """One row of the table: a masker of an estimator and a filter, one per seed."""

    name: str
    maskers: list[Masker]


class Sample(NamedTuple):
    """What was found for one expression. ``values``: measure -> number, NaN if undefined."""

    setting: str
    seed: int
    tokens: int
    area: float
    values: dict[str, float]


def setting(
    estimator: str | dict[str, Any],
    filter: str | dict[str, Any],
    *,
    seeds: int = 1,
    level: int = -1,
    block_size: int = 32,
) -> Setting:
    """Builds a row from names of :data:`ESTIMATORS` and :data:`FILTERS`, or from configs.

    A config keeps its own ``level``, ``block_size`` and, with one seed, ``seed``.
    """
    names = [item if isinstance(item, str) else 'config' for item in (estimator, filter)]
    options = dict(ESTIMATORS[estimator]) if isinstance(estimator, str) else dict(estimator)
    accepts = inspect.signature(MODELS.get(options['type']).__init__).parameters
    if isinstance(estimator, str) and 'level' in accepts:
        options['level'] = level
    several = [options]
    if seeds > 1 and 'seed' in accepts:
        several = [{**options, 'seed': seed} for seed in range(seeds)]
    if isinstance(filter, str):
        filter = dict(FILTERS[filter], block_size=block_size)
    return Setting(' + '.join(names), [Masker(one, dict(filter)) for one in several])


def records_of(settings: Iterable[Setting], view: View, seed: int) -> dict[tuple[str, int], Record]:
    """What every setting would mask in one batch: (setting, seed) -> record.

    ``seed`` is that of the filters' draws; the view should not learn.
    """
    return {
        (one.name, index): masker(view, torch.Generator().manual_seed(seed))
        for one in settings
        for index, masker in enumerate(one.maskers)
    }


def auc_against_others(record: Record, images: Sequence[int]) -> Tensor:
    """AUC (E,) of the target against the targets of the image's other expressions.

    Against everything else, a map that merely tells objects from background scores well.
    NaN where an image has no other target. ``images``: each expression's image.
    """
    pixels = score_pixels(record)
    index = torch.tensor(list(images))
    found = []
    for row, own in enumerate(record.targets):
        others = record.targets[index == index[row]].any(0) & ~own
        kept = own | others
        found.append(roc_auc(pixels[row][kept], own[kept]))
    return torch.tensor(found)


def samples_of(
    records: dict[tuple[str, int], Record], view: View, images: Sequence[int]
) -> list[Sample]:
    """The numbers of :func:`records_of`, one entry per expression of ``images``."""
    tokens = view.features.text.mask.sum(1).tolist()
    areas = (view.targets.flatten(1).sum(1) / view.valid.flatten(1).sum(1)).tolist()
    found = []
    for (name, seed), record in records.items():
        values = alignment_diagnostics(record)
        values['auc_others'] = auc_against_others(record, images)
        for row, area in enumerate(areas):
            numbers = {key: float(column[row]) for key, column in values.items()}
            found.append(Sample(name, seed, int(tokens[row]), area, numbers))
    return found


# --- summaries ---------------------------------------------------------------


def bin_name(value: float, bounds: Sequence[float], scale: float = 1, unit: str = '') -> str:
    """Which interval ``value`` falls into: '<= 5', '6 to 8', ... (of ``scale * value``)."""
    below = [bound for bound in bounds if bound < value]
    above = [bound for bound in bounds if bound >= value]
    if not below:
        return f'<= {above[0] * scale:g}{unit}'
    low = f'> {below[-1] * scale:g}{unit}'
    return f'{low}, <= {above[0] * scale:g}{unit}' if above else low


def statistics(samples: Sequence[Sample]) -> dict[str, Any]:
    """Per measure: mean, spread over expressions, spread of the seeds' means, and count.

    A fixed random map errs alike on all expressions of a network, so that the error of a
    mean is the spread over seeds, not the spread over expressions over sqrt(n).
    """
    found: dict[str, Any] = {}
    seeds = np.array([sample.seed for sample in samples])
    for measure in MEASURES:
        values = np.array([sample.values.get(measure, np.nan) for sample in samples])
        known = ~np.isnan(values)
        if known.any():
            means = [values[known & (seeds == s)].mean() for s in np.unique(seeds[known])]
            found[measure] = dict(
                mean=float(values[known].mean()),
                spread=float(values[known].std()),
                over_seeds=float(np.std(means)) if len(means) > 1 else None,
                count=int(known.sum()),
            )
    return found


def summarise(samples: Sequence[Sample]) -> dict[str, Any]:
    """Setting -> {'all': statistics, 'tokens': {bin: statistics}, 'target': {bin: ...}}."""
    report: dict[str, Any] = {}
    for name in dict.fromkeys(sample.setting for sample in samples):
        own = [sample for sample in samples if sample.setting == name]
        report[name] = dict(all=statistics(own))
        for key, label in (
            ('tokens', lambda s: bin_name(s.tokens, TOKEN_BOUNDS)),
            ('target', lambda s: bin_name(s.area, AREA_BOUNDS, 100, ' %')),
        ):
            order = sorted(own, key=lambda s: s.tokens if key == 'tokens' else s.area)
            labels = dict.fromkeys(label(sample) for sample in order)
            report[name][key] = {
                one: statistics([sample for sample in own if label(sample) == one])
                for one in labels
            }
    return report


def table(report: dict[str, Any]) -> str:
    """Markdown: all measures per setting, then AUC / masked share by tokens and target size."""
    lines = [f'| | {" | ".join(MEASURES)} | AUC over seeds |', '|---' * (len(MEASURES) + 2) + '|']
    for name, entry in report.items():
        cells = [cell(entry['all'], measure) for measure in MEASURES]
        seeds = entry['all'].get('auc', {}).get('over_seeds')
        cells.append('-' if seeds is None else f'± {seeds:.3f}')
        lines.append(f'| {name} | {" | ".join(cells)} |')
    for key in ('tokens', 'target'):
        bins = list(dict.fromkeys(one for entry in report.values() for one in entry[key]))
        lines += [
            '',
            f'| AUC / masked by {key} | {" | ".join(bins)} |',
            '|---' * (len(bins) + 1) + '|',
        ]
        for name, entry in report.items():
            found = [entry[key].get(one, {}) for one in bins]
            cells = [f'{cell(one, "auc", False)} / {cell(one, "masked", False)}' for one in found]
            lines.append(f'| {name} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def cell(found: dict[str, Any], measure: str, spread: bool = True) -> str:
    """'mean ± spread over expressions', '-' if there is none."""
    if measure not in found:
        return '-'
    mean = f'{found[measure]["mean"]:.3f}'
    return f'{mean} ± {found[measure]["spread"]:.3f}' if spread else mean
