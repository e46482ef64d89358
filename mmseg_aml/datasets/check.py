"""Is a data root complete and consistent? Counts against the published ones included."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .refer import ReferError, ReferIndex, decode_masks

# (images, refs, expressions). RefCOCO, RefCOCO+, RefCOCOg google: Yu et al. 2016, Mao et al.
# 2016; RefCOCOg umd: Nagaraja et al. 2016; gRefCOCO: Liu et al. 2023 (refs not published) and
# the count after the clean-up of August 2023.
PUBLISHED: dict[tuple[str, str], list[tuple[int, int | None, int]]] = {
    ('refcoco', 'unc'): [(19994, 50000, 142209)],
    ('refcoco+', 'unc'): [(19992, 49856, 141564)],
    ('refcocog', 'umd'): [(25799, 49822, 95010)],
    ('refcocog', 'google'): [(26711, 54822, 104560)],
    ('grefcoco', 'unc'): [(19994, None, 278232), (19994, None, 259859)],
}
SHARED_BY_DESIGN = {('refcocog', 'google')}  # split by object: train and val share images
TOLERANCE = 5  # circulating files differ from the papers by a few sentences


@dataclass
class Report:
    """What was found about one data set; ``problems`` are sentences with the mend."""

    name: str
    counts: dict[str, int] = field(default_factory=dict)
    splits: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def check_dataset(
    data_root: str | Path, dataset: str, split_by: str, image_dir: str | Path, *, masks: bool = True
) -> Report:
    """Check files, counts, images, splits and, if asked for, every mask.

    Args:
        data_root: Folder of the data sets.
        dataset: Such as ``refcoco``.
        split_by: Such as ``unc``.
        image_dir: Folder of the images.
        masks: Rasterise every mask (RefCOCO: some 15 seconds).
    """
    report = Report(f'{dataset} ({split_by})')
    try:
        index = ReferIndex.open(data_root, dataset, split_by)
    except (OSError, ReferError) as error:
        report.problems.append(str(error))
        return report
    arrays = index.arrays
    report.splits = index.splits
    report.counts = {
        'images': len(arrays['image_id']),
        'refs': len(arrays['ref_id']),
        'expressions': len(arrays['sent_id']),
    }
    _compare_counts(report, (dataset, split_by))
    _check_images(report, index, Path(image_dir))
    _check_splits(report, index, (dataset, split_by) in SHARED_BY_DESIGN)
    _check_texts(report, index)
    if masks:
        _check_masks(report, index)
    return report


def _compare_counts(report: Report, key: tuple[str, str]) -> None:
    """A known data set must have about the published size; others have none to compare with."""
    found = tuple(report.counts.values())
    versions = PUBLISHED.get(key, [])
    for version in versions:
        if all(p is None or abs(f - p) <= TOLERANCE for f, p in zip(found, version)):
            same = all(p is None or f == p for f, p in zip(found, version))
            report.notes.append('counts as published' + ('' if same else f' ({version}) but a few'))
            return
    if versions:
        report.problems.append(
            f'(images, refs, expressions) = {found}, published: '
            f'{" or ".join(map(str, versions))}; the file is cut, filtered or another data set'
        )


def _check_images(report: Report, index: ReferIndex, folder: Path) -> None:
    rows = range(len(index.arrays['image_id']))
    missing = [name for i in rows if not (folder / (name := index.text('image_name', i))).is_file()]
    if missing:
        report.problems.append(
            f'{len(missing)} of {len(rows)} images are not in {folder}, e.g. {missing[0]}; put '
            'them there (COCO data sets: train2014.zip of cocodataset.org) or give --image-dir'
        )


def _check_splits(report: Report, index: ReferIndex, shared_by_design: bool) -> None:
    images = {
        name: index.image_ids(np.flatnonzero(index.arrays['ref_split'] == code))
        for code, name in enumerate(index.split_names)
    }
    for name, ids in images.items():
        shared = np.intersect1d(ids, images.get('train', ids[:0]))
        if name == 'train' or not shared.size:
            continue
        text = f'{shared.size} images of {name} are in train too'
        if shared_by_design:
            report.notes.append(f'{text}, as published (split by object)')
        else:
            report.problems.append(f'{text}, e.g. image {shared[0]}: the splits leak')


def _check_texts(report: Report, index: ReferIndex) -> None:
    refs = np.arange(len(index.arrays['ref_id']))
    for key in ('sent', 'raw'):
        empty = index.empty_texts(key, refs)
        if empty:
            report.problems.append(
                f'{len(empty)} sentences have an empty {key!r} text, e.g. sent_id {empty[0]}'
            )


def _check_masks(report: Report, index: ReferIndex) -> None:
    empty: list[Any] = []
    broken: list[Any] = []
    for row, ref_id in enumerate(index.arrays['ref_id'].tolist()):
        size = index.arrays['image_size'][index.arrays['ref_image'][row]].tolist()
        parts = index.segmentations(row)
        try:
            mask = decode_masks(parts, *size)
        except (ValueError, TypeError) as error:
            broken.append(f'{ref_id} ({error})')
            continue
        if parts and (not mask.any() or mask.shape != tuple(size)):
            empty.append(ref_id)
    for kind, refs in (('is empty', empty), ('cannot be decoded', broken)):
        if refs:
            report.problems.append(f'the mask of {len(refs)} refs {kind}, e.g. ref {refs[0]}')
