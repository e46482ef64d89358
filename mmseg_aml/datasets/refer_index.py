"""REFER annotations -> flat arrays, in linear time.

Variable-length things are stored as one flat array and one array of bounds: the items of
row ``i`` are ``flat[bounds[i]:bounds[i + 1]]``. Only images and annotations that a ref
uses are kept. Masks stay polygons or compressed RLE and are rasterised at access.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

import msgspec
import numpy as np
from pycocotools import mask as coco_mask

from .refer_checks import check_refs, fail_twice, refuse_twice
from .refer_files import (
    AnnotationRecord,
    ImageRecord,
    Instances,
    ReferError,
    ReferFiles,
    Rle,
    Segmentation,
    read_json,
    read_refs,
)

Arrays = dict[str, np.ndarray]
NO_TARGET = -1
_HUNDREDTHS = 100.0


def build_index(files: ReferFiles) -> tuple[Arrays, dict[str, Any]]:
    """Read both annotation files and return (arrays, meta) for an array file.

    ``meta['splits']`` names the values of ``ref_split``. Arrays, by row:

    - ref: ``ref_id, ref_split, ref_image, ref_sents`` (bounds), ``ref_anns`` (bounds of
      ``ref_ann``, rows of annotations; none = no target);
    - sentence: ``sent_id, sent, raw`` (bounds of ``sent_text``, ``raw_text``, UTF-8);
    - image: ``image_id, image_size`` (N, 2) as height, width, ``image_name`` (bounds);
    - annotation: ``ann_id, ann_polys`` (bounds of polygons), ``ann_rles`` (bounds of RLEs);
    - ``poly`` (bounds of ``points``: x, y, x, y, ... in pixels times ``meta['scale']``)
      and ``rle`` (bounds of ``rle_counts``).

    Raises:
        ReferError: If a ref lacks a key, or its image, annotation or mask is missing;
            the message names file and ids.
    """
    with _no_gc():
        arrays, splits = _ref_arrays(files)
        instances: Instances = read_json(files.instances, Instances)
        sizes = _image_arrays(files, instances.images, arrays)
        scale = _annotation_arrays(files, instances.annotations, arrays, sizes)
    return arrays, {'splits': splits, 'scale': scale}


@contextlib.contextmanager
def _no_gc() -> Iterator[None]:
    """Millions of small containers are made, none cyclic: the collector only costs time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _bounds(lengths: Iterable[int]) -> np.ndarray:
    return _small(np.concatenate([[0], np.cumsum(np.fromiter(lengths, np.int64))]))


def _small(values: Any) -> np.ndarray:
    """As int32 where the values allow, else int64."""
    wide = np.asarray(values, np.int64)
    fits = not wide.size or -(2**31) <= wide.min() and wide.max() < 2**31
    return wide.astype(np.int32) if fits else wide


def _texts(texts: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    encoded = [text.encode('utf-8', 'surrogatepass') for text in texts]
    return _bounds(map(len, encoded)), np.frombuffer(b''.join(encoded), np.uint8)


def _ref_arrays(files: ReferFiles) -> tuple[Arrays, list[str]]:
    """Arrays of refs and sentences; ``ref_image`` and ``ref_ann`` still hold ids."""
    refs = read_refs(files.refs)
    check_refs(files.refs, refs)
    splits: dict[str, int] = {}
    anns, sentences = [], []
    for ref in refs:
        splits.setdefault(ref['split'], len(splits))
        anns.append(_ann_ids(files, ref))
        sentences.append(ref['sentences'])
    flat = list(itertools.chain.from_iterable(sentences))
    try:
        arrays: Arrays = {
            'ref_id': _small([ref['ref_id'] for ref in refs]),
            'ref_split': np.array([splits[ref['split']] for ref in refs], np.int16),
            'ref_image': np.array([ref['image_id'] for ref in refs], np.int64),
            'ref_anns': _bounds(map(len, anns)),
            'ref_ann': np.array(list(itertools.chain.from_iterable(anns)), np.int64),
            'ref_sents': _bounds(map(len, sentences)),
            'sent_id': _small([sentence['sent_id'] for sentence in flat]),
        }
    except OverflowError as error:
        raise ReferError(f'{files.refs}: an id does not fit into 64 bits ({error})') from error
    for key in ('sent', 'raw'):
        arrays[key], arrays[f'{key}_text'] = _texts(s.get(key) or '' for s in flat)
    return arrays, list(splits)


def _ann_ids(files: ReferFiles, ref: dict[str, Any]) -> Sequence[int]:
    """Annotation ids of a ref; empty for gRefCOCO's no-target refs (``[-1]``)."""
    ids = ref['ann_id']
    ids = ids if isinstance(ids, (list, tuple)) else (ids,)
    if files.has_no_target_refs and all(ann == NO_TARGET for ann in ids):
        return ()
    return ids


def _image_arrays(
    files: ReferFiles, images: list[ImageRecord], arrays: Arrays
) -> list[tuple[int, int]]:
    """Add the image arrays, turn ``ref_image`` into rows; returns (height, width) per row."""
    wanted, rows = np.unique(arrays['ref_image'], return_inverse=True)
    by_id = {image.id: image for image in images}
    if len(by_id) < len(images):
        refuse_twice(files.instances, 'image id', (image.id for image in images))
    missing = [i for i in wanted.tolist() if i not in by_id]
    if missing:
        _fail_missing(files, 'image', missing)
    used = [by_id[i] for i in wanted.tolist()]
    sizes = [(image.height, image.width) for image in used]
    for image_id, size in zip(wanted, sizes):
        if min(size) < 1:
            raise ReferError(f'{files.instances}: image {image_id} has height, width {size}')
    arrays['ref_image'] = _small(rows.reshape(-1))
    arrays['image_id'] = _small(wanted)
    arrays['image_size'] = _small(sizes).reshape(-1, 2)
    arrays['image_name'], arrays['image_name_text'] = _texts(image.file_name for image in used)
    return sizes


def _annotation_arrays(
    files: ReferFiles,
    annotations: list[AnnotationRecord],
    arrays: Arrays,
    sizes: list[tuple[int, int]],
) -> float:
    """Add the annotation arrays, turn ``ref_ann`` into rows; returns the scale of points."""
    image_of_ann = np.repeat(arrays['ref_image'], np.diff(arrays['ref_anns']))
    wanted, rows = np.unique(arrays['ref_ann'], return_inverse=True)
    by_id = dict.fromkeys(wanted.tolist())
    twice: set[int] = set()
    for annotation in annotations:
        if annotation.id in by_id:
            twice |= {annotation.id} if by_id[annotation.id] else set()
            by_id[annotation.id] = annotation
    if twice:
        fail_twice(files.instances, 'annotation id', twice)
    missing = [i for i, annotation in by_id.items() if annotation is None]
    if missing:
        _fail_missing(files, 'annotation', missing)
    used: list[AnnotationRecord] = [by_id[i] for i in wanted.tolist()]  # type: ignore[assignment]
    rows = rows.reshape(-1)
    _check_same_image(files, used, arrays, rows, image_of_ann)
    image_of_row = np.zeros(len(used), np.int64)
    image_of_row[rows] = image_of_ann
    arrays['ref_ann'] = _small(rows)
    arrays['ann_id'] = _small(wanted)
    own_sizes = [sizes[i] for i in image_of_row.tolist()]
    if files.has_no_target_refs:
        _leave_out_crowds(used, own_sizes)
    return _mask_arrays(files, used, own_sizes, arrays)


def _leave_out_crowds(used: list[AnnotationRecord], sizes: list[tuple[int, int]]) -> None:
    """Crowds get an empty mask: the published loader of gRefCOCO skips them."""
    for annotation, (height, width) in zip(used, sizes):
        if annotation.iscrowd:
            empty = dict(size=(height, width), counts=[height * width])
            annotation.segmentation = msgspec.Raw(msgspec.json.encode(empty))


def _check_same_image(
    files: ReferFiles,
    used: list[AnnotationRecord],
    arrays: Arrays,
    rows: np.ndarray,
    image_of_ann: np.ndarray,
) -> None:
    own = np.array([annotation.image_id for annotation in used], np.int64)
    wrong = np.flatnonzero(own[rows] != arrays['image_id'][image_of_ann])
    if wrong.size:
        ref = np.searchsorted(arrays['ref_anns'], wrong[0], side='right') - 1
        raise ReferError(
            f'{files.instances}: annotation {used[rows[wrong[0]]].id} lies in another image '
            f'than ref {arrays["ref_id"][ref]} of {files.refs.name} says '
            f'({wrong.size} such); take both files from the same source'
        )


def _fail_missing(files: ReferFiles, kind: str, ids: list[int]) -> NoReturn:
    some = ', '.join(map(str, ids[:5])) + (', ...' if len(ids) > 5 else '')
    raise ReferError(
        f'{files.instances} lacks {len(ids)} {kind}(s) that {files.refs.name} refers to: '
        f'{kind} id {some}. The two files do not belong together or one is cut short: '
        'take both from the same source.'
    )


_decode_segmentation = msgspec.json.Decoder(Segmentation).decode


def _mask_arrays(
    files: ReferFiles,
    used: list[AnnotationRecord],
    sizes: list[tuple[int, int]],
    arrays: Arrays,
) -> float:
    """Decode the masks one by one into flat arrays; returns the scale of the points."""
    points = array('d')
    rle_counts = bytearray()
    lengths: dict[str, list[int]] = {'ann_polys': [], 'ann_rles': [], 'poly': [], 'rle': []}
    for annotation, size in zip(used, sizes):
        polygons, rles = _mask_parts(files, annotation, size)
        for polygon in polygons:
            points.extend(polygon)
        for rle in rles:
            rle_counts += rle
        lengths['poly'] += map(len, polygons)
        lengths['rle'] += map(len, rles)
        lengths['ann_polys'].append(len(polygons))
        lengths['ann_rles'].append(len(rles))
    for name, values in lengths.items():
        arrays[name] = _bounds(values)
    arrays['rle_counts'] = np.frombuffer(bytes(rle_counts), np.uint8)
    arrays['points'], scale = pack_points(np.frombuffer(points, np.float64))
    return scale


def _mask_parts(
    files: ReferFiles, annotation: AnnotationRecord, size: tuple[int, int]
) -> tuple[list[list[float]], list[bytes]]:
    """Polygons and compressed RLE counts of one annotation.

    COCO: a list of polygons, or an RLE dict; ReferIt: a list of RLE dicts.
    """
    where = f'{files.instances}: annotation {annotation.id}'
    if bytes(annotation.segmentation) in (b'null', b'[]'):
        raise ReferError(f'{where} has no mask (segmentation is missing or empty)')
    try:
        parts = _decode_segmentation(annotation.segmentation)
    except msgspec.DecodeError as error:
        raise ReferError(f'{where} has neither polygons nor RLE as its mask: {error}') from error
    if isinstance(parts, Rle):
        return [], [_rle_counts(parts, size, where)]
    polygons = [part for part in parts if isinstance(part, list)]
    if any(len(polygon) % 2 or not polygon for polygon in polygons):
        raise ReferError(f'{where} has a polygon with an odd number of coordinates, or none')
    return polygons, [_rle_counts(part, size, where) for part in parts if isinstance(part, Rle)]


def _rle_counts(rle: Rle, size: tuple[int, int], where: str) -> bytes:
    if rle.size != size:
        raise ReferError(f'{where}: its RLE is of size {rle.size}, its image of {size}')
    if isinstance(rle.counts, str):
        return rle.counts.encode()
    if sum(rle.counts) != size[0] * size[1]:
        raise ReferError(f'{where}: its RLE counts do not add up to {size[0]} x {size[1]}')
    uncompressed: Any = {'size': list(size), 'counts': rle.counts}
    return coco_mask.frPyObjects(uncompressed, *size)['counts']


def pack_points(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Store float64 coordinates as integers of 1/100 pixel, if that is exact for all.

    COCO's have two decimals, and ``round(100 x) / 100`` gives back the very same doubles.

    Returns:
        (packed, scale), where ``packed / scale`` equals ``points`` bit for bit.

    Raises:
        ReferError: If a coordinate is not finite.
    """
    if not np.isfinite(points).all():
        raise ReferError('a polygon has a coordinate that is not finite')
    hundredths = np.rint(points * _HUNDREDTHS)
    exact = np.array_equal(hundredths / _HUNDREDTHS, points)
    if not exact or points.size and np.abs(hundredths).max() >= 2**31:
        return points, 1.0
    small = not points.size or 0 <= hundredths.min() and hundredths.max() < 2**16
    return hundredths.astype(np.uint16 if small else np.int32), _HUNDREDTHS
