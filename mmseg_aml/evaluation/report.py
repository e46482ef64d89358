"""A test run as one HTML file: scores by kind of sentence, pictures of the best and the worst."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..datasets.refer import ReferIndex, decode_masks
from ..datasets.refer_files import read_refs
from ..datasets.transforms.images import read_rgb
from ..progress import track
from ..visualization.panels import GT_COLOR, PRED_COLOR, edges, overlay_mask, resize
from .masks import coco_mask
from .protocols import Protocol
from .scores import iou, ris_scores

TEMPLATE = Path(__file__).resolve().parents[1] / 'assets/report/report.html'
SIDE = 320  # of a picture's longer side, in pixels
WORDS = {
    'place': 'left leftmost right rightmost top bottom upper lower middle center centre corner '
    'above below front back far near close closest nearest edge',
    'relation': 'next beside behind between under over on in with holding wearing riding '
    'sitting standing facing touching against around of',
    'order': 'first second third fourth fifth last one two three four 1st 2nd 3rd other another',
    'size': 'big bigger biggest small smaller smallest large largest little tall taller tallest '
    'short long tiny huge',
    'colour': 'red green blue yellow orange purple pink brown black white gray grey beige tan '
    'dark light blonde striped plaid',
}
"""Words by which English sentences are told apart where the annotations name no kind."""
_SETS = {name: frozenset(words.split()) for name, words in WORDS.items()}


@dataclass(frozen=True)
class Row:
    """One sentence of the test: its text, kinds, counts (I, U) and score."""

    sent_id: int
    ref: int
    text: str
    kinds: tuple[str, ...]
    counts: tuple[int, int]
    iou: float


def kinds_by_words(text: str) -> tuple[str, ...]:
    """What an English sentence says, by its words; ``'name only'`` if none of it."""
    words = set(re.findall(r"[\w']+", text.lower()))
    found = [name for name, known in _SETS.items() if words & known]
    return tuple(found) or ('name only',)


def kinds_of(index: ReferIndex) -> dict[int, str]:
    """``kind`` of the sentences whose annotations have one (RefShapes, ``coco_to_refer``)."""
    return {
        int(sentence['sent_id']): str(sentence['kind'])
        for ref in read_refs(index.files.refs)
        for sentence in ref['sentences']
        if sentence.get('kind')
    }


def rows_of(
    index: ReferIndex, split: str, counts: Mapping[int, np.ndarray], protocol: Protocol
) -> list[Row]:
    """One row per sentence of the split.

    Args:
        counts: ``sent_id`` -> (2,) int64, I and U under the protocol.
    """
    named = kinds_of(index)
    rows = []
    for ref in index.rows(split).tolist():
        for sentence in index.ref(ref).sentences:
            key = sentence.sent_id
            kind = (named[key],) if key in named else kinds_by_words(sentence.raw)
            score = float(iou(counts[key][None], protocol.empty_union)[0])
            pair = int(counts[key][0]), int(counts[key][1])
            rows.append(Row(key, ref, sentence.raw, kind, pair, score))
    return rows


def score_rows(rows: Sequence[Row], protocol: Protocol) -> list[dict[str, Any]]:
    """The table: all sentences, then by kind and by length, most sentences first."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        for kind in row.kinds:
            groups.setdefault(kind, []).append(row)
    lengths: dict[str, list[Row]] = {}
    for row in rows:
        count = len(row.text.split())
        name = '1-2 words' if count < 3 else '3-5 words' if count < 6 else '6 words or more'
        lengths.setdefault(name, []).append(row)
    by_size = sorted(groups.items(), key=lambda item: -len(item[1]))
    sections = (('', [('all', list(rows))]), ('kind', by_size), ('length', sorted(lengths.items())))
    table = []
    for section, parts in sections:
        for name, members in parts:
            scores = ris_scores(np.array([row.counts for row in members]), protocol)
            shown = {key: round(scores[key], 2) for key in ('mIoU', 'oIoU', 'Pr@0.5', 'Pr@0.9')}
            table.append(dict(section=section, name=name, sentences=len(members), **shown))
    return table


def chosen_rows(rows: Sequence[Row], number: int) -> list[Row]:
    """``number`` worst, ``number`` best and ``number`` evenly spread over the scores, each once."""
    order = sorted(rows, key=lambda row: (row.iou, row.sent_id))
    spread = np.linspace(0, len(order) - 1, min(number, len(order))).round().astype(int)
    chosen = [*order[:number], *order[-number:], *(order[i] for i in spread)]
    return list({row.sent_id: row for row in chosen}.values())


def picture(image: np.ndarray, truth: np.ndarray, found: np.ndarray) -> str:
    """Photograph with the prediction filled and the truth outlined, as a ``data:`` address.

    Args:
        image: uint8 RGB (H, W, 3). truth, found: bool masks of any size.
    """
    scale = SIDE / max(image.shape[:2])
    size = (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale)))
    shown = overlay_mask(resize(image, size, smooth=scale < 1), found, PRED_COLOR)
    shown[edges(resize(truth.astype(np.uint8), size, smooth=False).astype(bool))] = GT_COLOR
    buffer = io.BytesIO()
    Image.fromarray(shown).save(buffer, 'JPEG', quality=80)
    return 'data:image/jpeg;base64,' + base64.b64encode(buffer.getvalue()).decode()


def pictures(
    index: ReferIndex, rows: Sequence[Row], masks: Mapping[int, dict[str, Any]], folder: Path
) -> Iterator[tuple[int, str]]:
    """``sent_id`` and picture of each row; an image is read as training reads it."""
    for row in track(rows, 'pictures', 'sentence'):
        image = index.ref(row.ref).image
        pixels = read_rgb(folder / image.file_name, (image.height, image.width))
        truth = decode_masks(index.segmentations(row.ref), image.height, image.width) > 0
        found = coco_mask.decode(masks[row.sent_id]) > 0
        yield row.sent_id, picture(pixels, truth, found)


def write_report(
    path: Path,
    title: str,
    rows: Sequence[Row],
    protocol: Protocol,
    shown: Mapping[int, str],
    named: bool,
) -> None:
    """Write the page; it needs no other file and no network.

    Args:
        path: File to write.
        title: Data set, split and name of the run.
        rows: All sentences.
        protocol: Under which they were scored.
        shown: ``sent_id`` -> picture.
        named: Whether kinds are of the annotations; else they were told by words.
    """
    ious = np.array([row.iou for row in rows])
    content = dict(
        title=title,
        protocol=protocol.name,
        kinds='as the annotations name them'
        if named
        else 'told by English words; a sentence may be of several',
        table=score_rows(rows, protocol),
        histogram=np.histogram(ious[~np.isnan(ious)], bins=20, range=(0, 1))[0].tolist(),
        rows=[
            [row.sent_id, row.text, list(row.kinds), round(100 * row.iou, 1)]
            for row in rows
            if not np.isnan(row.iou)
        ],
        pictures=shown,
    )
    # A sentence may hold anything, but nothing in it may end the script element.
    data = json.dumps(content, ensure_ascii=False).replace('<', '\\u003c')
    page = TEMPLATE.read_text(encoding='utf-8')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page.replace('{{data}}', data), encoding='utf-8')
