"""Score saved masks, of this or any other project, without a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.fileio import load

from ..datasets.refer import ReferIndex, decode_masks
from ..progress import track
from .base import ExpressionMetric, ImageEntry
from .masks import coco_mask


class PredictionError(ValueError):
    """Predictions that do not fit the split or the protocol."""


def load_predictions(path: str | Path) -> dict[int, dict[str, Any]]:
    """Read ``{"sent_id": {"size": [h, w], "counts": "<COCO RLE>"}}``.

    Raises:
        FileNotFoundError: If there is no such file.
        PredictionError: If it is not of this form.
    """
    content = load(str(path), file_format='json')
    expected = '{"sent_id": {"size": [h, w], "counts": "..."}}'
    if not isinstance(content, dict):
        raise PredictionError(f'{path}: expected {expected}, got a {type(content).__name__}')
    predictions = {}
    for key, mask in content.items():
        good = isinstance(mask, dict) and {'size', 'counts'} <= mask.keys()
        if not good or not key.lstrip('-').isdigit():
            raise PredictionError(f'{path}: entry {key!r} is not of the form {expected}')
        predictions[int(key)] = mask
    return predictions


def score_predictions(
    predictions: Mapping[int, dict[str, Any]],
    index: ReferIndex,
    split: str,
    metric: ExpressionMetric,
) -> dict[str, float]:
    """Score one mask per sentence of a split.

    Args:
        predictions: ``sent_id`` -> COCO RLE (counts compressed or not), at the original size for
            protocols that score there, at ``resolution`` squared for the others.
        index: The annotations.
        split: Its name.
        metric: ``RISMetric`` or ``GRESMetric``; it also logs its table.

    Returns:
        The metric's scores, keys ``{protocol}/{score}``.

    Raises:
        PredictionError: See :func:`score_entries`.
    """
    return metric.compute_metrics(score_entries(predictions, index, split, metric))


def score_entries(
    predictions: Mapping[int, dict[str, Any]],
    index: ReferIndex,
    split: str,
    metric: ExpressionMetric,
) -> list[ImageEntry]:
    """Count the pixels of each sentence; arguments as in :func:`score_predictions`.

    Returns:
        One entry per ref of the split, in file order.

    Raises:
        PredictionError: If sentences have no mask, masks have no sentence, or a mask is not of
            the size that a protocol scores; the message counts them.
    """
    rows = index.rows(split)
    sentences = {row: [s.sent_id for s in index.ref(row).sentences] for row in rows.tolist()}
    _check_ids(predictions, {i for ids in sentences.values() for i in ids}, split)
    source = f'{index.files.refs.parent.name} {split}'
    return [
        _entry(predictions, index, row, sent_ids, source, metric)
        for row, sent_ids in track(sentences.items(), 'masks', 'ref', len(sentences))
    ]


def _check_ids(predictions: Mapping[int, Any], wanted: set[int], split: str) -> None:
    missing = sorted(wanted - predictions.keys())
    unknown = sorted(predictions.keys() - wanted)
    if missing or unknown:
        raise PredictionError(
            f'split {split!r} has {len(wanted)} sentences: {len(missing)} of them have no '
            f'prediction (sent_id {missing[:5]}), {len(unknown)} predictions are for other '
            f'sentences (sent_id {unknown[:5]}); predict every sentence of this split, no other'
        )


def _entry(
    predictions: Mapping[int, dict[str, Any]],
    index: ReferIndex,
    row: int,
    sent_ids: list[int],
    source: str,
    metric: ExpressionMetric,
) -> ImageEntry:
    """The sentences of one ref, which share their ground truth."""
    image = index.ref(row).image
    ori_shape = image.height, image.width
    segmentation = index.segmentations(row)
    mask = decode_masks(segmentation, *ori_shape)
    for protocol in metric.protocols:
        size = protocol.size(ori_shape)
        wrong = [i for i in sent_ids if tuple(predictions[i]['size']) != size]
        if wrong:
            raise PredictionError(
                f'protocol {protocol.name!r} scores image {image.image_id} at {list(size)} '
                f'(height, width); the mask of sent_id {wrong[0]} is of size '
                f'{list(predictions[wrong[0]]["size"])}: save masks of this size, or choose '
                'another protocol'
            )
    masks = np.stack([_decode(predictions[i], i) for i in sent_ids])
    prediction = torch.from_numpy(masks).bool()
    return metric.entry(
        source,
        [{'sent_id': i} for i in sent_ids],
        torch.from_numpy(mask).expand(len(sent_ids), -1, -1),
        [segmentation] * len(sent_ids),
        [prediction] * len(metric.protocols),
    )


def _decode(rle: dict[str, Any], sent_id: int) -> np.ndarray:
    try:
        if isinstance(rle['counts'], list):
            rle = coco_mask.frPyObjects(rle, *rle['size'])
        return coco_mask.decode(rle)
    except (TypeError, ValueError) as error:
        raise PredictionError(f'sent_id {sent_id}: not a COCO RLE ({error})') from error
