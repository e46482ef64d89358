"""Is a data root complete and consistent? Counts against the published ones included."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..progress import track
from .refer import ReferError, ReferIndex, decode_masks
from .refer_files import refs_in
from .transforms.images import read_rgb

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


def find_datasets(folder: str | Path) -> tuple[Path, list[tuple[str, str]]]:
    """The data root that ``folder`` is or belongs to, and its (data set, split author)s.

    ``folder`` holds data sets in sub-folders, or is the folder of one data set.
    """
    folder = Path(folder).expanduser()
    if refs_in(folder):
        folder = folder.absolute()
        return folder.parent, [(folder.name, by) for by in refs_in(folder)]
    found = [
        (path.name, by)
        for path in (sorted(folder.iterdir()) if folder.is_dir() else [])
        if path.is_dir()
        for by in refs_in(path)
    ]
    return folder, found


def check_dataset(
    data_root: str | Path,
    dataset: str,
    split_by: str,
    image_dir: str | Path,
    *,
    masks: bool = True,
    pixels: bool = True,
) -> Report:
    """Check files, ids, texts, counts, splits and, if asked for, every mask and every image.

    If no problem is found with both, every item of every split can be read: a training gets
    through its epochs and validations as far as data are concerned.

    Args:
        data_root: Folder of the data sets.
        dataset: Such as ``refcoco``.
        split_by: Such as ``unc``.
        image_dir: Folder of the images.
        masks: Rasterise every mask (RefCOCO: some 15 seconds).
        pixels: Decode every image (RefCOCO: minutes), and find files of the same content.
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
    shared_by_design = (dataset, split_by) in SHARED_BY_DESIGN
    _compare_counts(report, (dataset, split_by))
    _check_split_names(report)
    _check_splits(report, index, shared_by_design)
    _check_texts(report, index)
    if _images_are_there(report, index, Path(image_dir)) and pixels:
        _check_images(report, index, Path(image_dir), shared_by_design)
    if masks:
        _check_masks(report, index)
    for kind, done in (('masks were', masks), ('images were', pixels)):
        if not done:
            report.notes.append(f'the {kind} not decoded')
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


def _images_are_there(report: Report, index: ReferIndex, folder: Path) -> bool:
    rows = range(len(index.arrays['image_id']))
    missing = [name for i in rows if not (folder / (name := index.text('image_name', i))).is_file()]
    if missing:
        report.problems.append(
            f'{len(missing)} of {len(rows)} images are not in {folder}, e.g. {missing[0]}; put '
            'them there (COCO data sets: train2014.zip of cocodataset.org) or give --image-dir'
        )
    return not missing


def _check_images(report: Report, index: ReferIndex, folder: Path, shared_by_design: bool) -> None:
    """Read every image as training does; the same file under two ids may leak."""
    sizes = index.arrays['image_size'].tolist()
    names = [index.text('image_name', row) for row in range(len(sizes))]

    def look(row: int) -> tuple[bytes, str | None]:
        path = folder / names[row]
        try:
            shape = read_rgb(path, tuple(sizes[row])).shape[:2]
        except (OSError, ValueError) as error:
            return b'', str(error)
        wrong = None if list(shape) == sizes[row] else (
            f'image {names[row]} is of size {shape} (height, width), its annotations say '
            f'{tuple(sizes[row])}: it is not the annotated file'
        )  # fmt: skip
        return hashlib.blake2b(path.read_bytes(), digest_size=16).digest(), wrong

    with ThreadPoolExecutor() as pool:  # decoders release the interpreter lock
        found = list(track(pool.map(look, range(len(names))), 'images', 'image', len(names)))
    faults = [fault for _, fault in found if fault]
    if faults:
        report.problems.append(f'{len(faults)} of {len(names)} images: {faults[0]}')
    if not shared_by_design:
        _check_copies(report, index, names, [digest for digest, _ in found])


def _check_copies(
    report: Report, index: ReferIndex, names: list[str], digests: list[bytes]
) -> None:
    """The same photograph under two names, in train and in another split."""
    images, splits = index.arrays['ref_image'].tolist(), index.arrays['ref_split'].tolist()
    there: dict[bytes, dict[str, int]] = {}
    for image, split in zip(images, splits):
        if digests[image]:
            there.setdefault(digests[image], {})[index.split_names[split]] = image
    leaks = [
        (names[rows['train']], split, names[row])
        for rows in there.values()
        for split, row in rows.items()
        if 'train' in rows and row != rows['train']
    ]
    if leaks:
        first = '{0} of train is {2} of {1}'.format(*leaks[0])
        report.problems.append(
            f'{len(leaks)} photographs have the same bytes, {first}: the splits leak'
        )


def _check_split_names(report: Report) -> None:
    """Training needs a split to train on, and one to validate on."""
    if 'train' not in report.splits or len(report.splits) < 2:
        report.notes.append(
            "configs train on the split 'train' and validate on 'val'; here, give "
            '{train,val,test}_dataloader.dataset.split the names above'
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
    silent = index.arrays['ref_id'][np.diff(index.arrays['ref_sents']) == 0]
    if silent.size:
        report.problems.append(
            f'{silent.size} refs have no sentence, e.g. ref {silent[0]}; take them out'
        )


def _check_masks(report: Report, index: ReferIndex) -> None:
    empty: list[Any] = []
    broken: list[Any] = []
    for row, ref_id in enumerate(track(index.arrays['ref_id'].tolist(), 'masks', 'ref')):
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
