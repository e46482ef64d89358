"""Does an alignment estimator see the target? The diagnostics of training, over a data set.

Encoders alone, no gradient, never the decoder. E = expressions, one record per expression,
estimator, filter and seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from mmseg.structures import SegDataSample
from torch import Tensor

from ..registry import MODELS
from ..structures import TextImageFeatures
from .afm import upsample_scores
from .aml import AMLRecord, score_with
from .base import valid_sizes
from .diagnostics import alignment_diagnostics, roc_auc

ESTIMATORS: dict[str, dict[str, Any]] = {
    'pmme': dict(type='mmseg_aml.PMME'),
    'pmme-literal': dict(type='mmseg_aml.PMME', temperature=1.0),
    'pmme-shared': dict(type='mmseg_aml.PMME', shared=True),
    'linear': dict(type='mmseg_aml.UntrainedLinear'),
    'noise': dict(type='mmseg_aml.UniformNoise'),
}
FILTERS: dict[str, dict[str, Any]] = {
    'paper': dict(type='mmseg_aml.AFM'),
    'literal': dict(type='mmseg_aml.AFM', select='pixel'),
    'release': dict(type='mmseg_aml.ReleaseAFM'),
    'quantile': dict(type='mmseg_aml.AFM', quantile=0.5),
}
MEASURES = ('weak', 'masked', 'masked_target', 'auc', 'auc_others', 'entropy')
TOKEN_BOUNDS = (5, 8, 12)  # [CLS] and [SEP] included
AREA_BOUNDS = (0.02, 0.1)  # of the image


class Setting(NamedTuple):
    """One row of the table: an estimator and a filter, built once per seed."""

    name: str
    estimators: list[Any]
    filter: Any


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
    options = dict(ESTIMATORS[estimator], level=level) if isinstance(estimator, str) else estimator
    several = [{**options, 'seed': seed} for seed in range(seeds)] if seeds > 1 else [options]
    if isinstance(filter, str):
        filter = dict(FILTERS[filter], block_size=block_size)
    built = [MODELS.build(dict(one)) for one in several]
    return Setting(' + '.join(names), built, MODELS.build(dict(filter)))


def targets_at_input(
    samples: Sequence[SegDataSample], size: tuple[int, int], sizes: Sequence[tuple[int, int]]
) -> Tensor:
    """Ground truth as the network sees it, (E, H, W) bool: test pipelines keep it original."""
    rows = []
    for sample, inside in zip(samples, sizes):
        mask = sample.gt_sem_seg.data[None].float()  # type: ignore[attr-defined]
        if tuple(mask.shape[-2:]) != size:
            mask = F.interpolate(mask, inside, mode='nearest-exact')
        missing = (0, size[1] - mask.shape[-1], 0, size[0] - mask.shape[-2])
        rows.append(F.pad(mask, missing)[0, 0] == 1)
    return torch.stack(rows)


@torch.no_grad()
def records_of(
    settings: Iterable[Setting],
    features: TextImageFeatures,
    inputs: Tensor,
    samples: Sequence[SegDataSample],
    seed: int,
) -> dict[tuple[str, int], AMLRecord]:
    """What every setting would mask in one batch: (setting, seed) -> record.

    Args:
        features: Of the network's ``encode``.
        inputs: (B, 3, H, W), for its size.
        samples: E expressions with ground truth.
        seed: Of the filters' draws.
    """
    size: tuple[int, int] = tuple(inputs.shape[-2:])  # type: ignore[assignment]
    sizes = valid_sizes(inputs, samples)
    targets = targets_at_input(samples, size, sizes).to(inputs.device)
    found = {}
    for one in settings:
        for index, estimator in enumerate(one.estimators):
            scores, entropy = score_with(estimator, features)
            generator = torch.Generator().manual_seed(seed)
            masked = one.filter(
                scores, size, valid_sizes=sizes, targets=targets, generator=generator
            )
            found[one.name, index] = AMLRecord(scores, entropy, masked, targets, sizes)
    return found


def auc_against_others(record: AMLRecord, images: Sequence[int]) -> Tensor:
    """AUC (E,) of the target against the targets of the image's other expressions.

    Against everything else, a map that merely tells objects from background scores well.
    NaN where an image has no other target. ``images``: each expression's image.
    """
    pixels = upsample_scores(record.scores, record.targets.shape[-2:])  # type: ignore[arg-type]
    index = torch.tensor(list(images))
    found = []
    for row, own in enumerate(record.targets):
        others = record.targets[index == index[row]].any(0) & ~own
        kept = own | others
        found.append(roc_auc(pixels[row][kept], own[kept]))
    return torch.tensor(found)


def samples_of(
    settings: Sequence[Setting],
    records: dict[tuple[str, int], AMLRecord],
    features: TextImageFeatures,
    images: Sequence[int],
) -> list[Sample]:
    """The numbers of :func:`records_of`, one entry per expression of ``images``."""
    filters = {one.name: one.filter for one in settings}
    tokens = features.text.mask.sum(1).tolist()
    found = []
    for (name, seed), record in records.items():
        values = alignment_diagnostics(record, filters[name])
        values['auc_others'] = auc_against_others(record, images)
        valid = torch.tensor([h * w for h, w in record.valid_sizes])
        areas = (record.targets.flatten(1).sum(1).cpu() / valid).tolist()
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
