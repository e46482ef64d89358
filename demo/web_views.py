"""What the page shows and gives away: pictures, legends, files."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from mmseg_aml.apis import RISInferencer, RISPrediction
from mmseg_aml.apis.blocks import AMLBlocks, aml_blocks
from mmseg_aml.visualization.panels import (
    Panel,
    black_out,
    compose,
    overlay_heat,
    overlay_mask,
    show_image,
)

MASKS, HEAT, BLOCKS, MAPS = 'Masks', 'Heat map', "AML's blocks", 'Maps of the head'
VIEWS = [MASKS, HEAT, BLOCKS, MAPS]
# Okabe and Ito's, which people who see colours differently tell apart, too.
COLOURS = [
    (213, 94, 0),
    (0, 114, 178),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (240, 228, 66),
    (120, 120, 120),
]
SMALLEST_SIDE, LARGEST_SIDE = 400, 1280  # pixels on the page; files have the photograph's own
NEAREST = Image.Resampling.NEAREST


@dataclass
class Side:
    """One model's predictions for all sentences; blocks by sentence, as far as asked for."""

    name: str
    found: list[RISPrediction]
    blocks: dict[str, AMLBlocks] = field(default_factory=dict)

    def of(self, sentence: str | None) -> RISPrediction:
        """The prediction of a sentence; the first one by default."""
        return next((p for p in self.found if p.expression == sentence), self.found[0])


@dataclass
class Session:
    """What one visitor looks at: a photograph (H, W, 3) and one or two models' predictions."""

    photo: np.ndarray
    sides: list[Side]


def draw(
    photo: np.ndarray,
    side: Side,
    view: str,
    threshold: float,
    sentence: str | None,
    model: RISInferencer,
) -> np.ndarray:
    """The picture of a view, uint8 RGB.

    Raises:
        ValueError: A view that this model does not have; says why.
    """
    if view == MASKS:
        return masks(_fitting(photo), side, threshold)
    one = side.of(sentence)
    shown = show_image(photo)
    if view == HEAT:
        panels = [Panel('probability', overlay_heat(shown, one.probability, (0, 1)), (0, 1))]
    elif view == BLOCKS:
        if one.expression not in side.blocks:
            side.blocks[one.expression] = aml_blocks(model, photo, one.expression)
        found = side.blocks[one.expression]
        hidden = black_out(shown, found.masked)
        panels = [
            Panel('alignment', overlay_heat(shown, found.scores, (0, 1)), (0, 1)),
            Panel(f'masked in one draw: {100 * found.masked.mean():.0f} %', hidden),
        ]
    else:
        if not one.maps:
            raise ValueError(f'The head of {side.name} keeps no maps (VIPA, ReLA and DETRIS do).')
        panels = []
        for name, values in one.maps.items():
            limits = float(values.min()), float(values.max())
            panels.append(Panel(name, overlay_heat(shown, values, limits), limits))
    return compose(one.expression, panels)


def masks(photo: np.ndarray, side: Side, threshold: float) -> np.ndarray:
    """All masks over the photograph, each in its colour; later sentences lie above."""
    picture = photo
    for found, colour in zip(side.found, COLOURS):
        picture = overlay_mask(picture, found.probability > threshold, colour)
    return picture


def _fitting(photo: np.ndarray) -> np.ndarray:
    """Large pictures smaller; small ones by a whole factor larger, so that pixels stay exact."""
    image = Image.fromarray(photo)
    factor = -(-SMALLEST_SIDE // max(image.size))
    if factor > 1:
        return np.array(image.resize((image.width * factor, image.height * factor), NEAREST))
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    return np.array(image)


def legend(side: Side, threshold: float) -> str:
    """Colour, sentence, score and area of every mask, as HTML."""
    rows = []
    for one, colour in zip(side.found, COLOURS):
        at = one.at(threshold)
        told = f'score {at.score:.2f}, {100 * at.mask.mean():.1f} % of the picture'
        if not at.mask.any():
            told = 'nothing above the threshold'
        if one.no_target:
            told += '; the model says that it is not in the picture'
        chip = f'<span aria-hidden="true" style="color:rgb{colour}">&#9632;</span>'
        rows.append(f'<li>{chip} <b>{html.escape(one.expression)}</b>: {told}</li>')
    return f'<div class="legend"><b>{html.escape(side.name)}</b><ul>{"".join(rows)}</ul></div>'


def write_files(session: Session, threshold: float, folder: Path) -> list[Path]:
    """Overlay, COCO RLE records and a mask of every sentence, at the photograph's size."""
    paths = []
    for number, side in enumerate(session.sides):
        prefix = 'ab'[number] + '_' if len(session.sides) > 1 else ''
        overlay, table = folder / f'{prefix}overlay.png', folder / f'{prefix}masks.json'
        Image.fromarray(masks(session.photo, side, threshold)).save(overlay)
        records = []
        paths += [overlay, table]
        for i, one in enumerate(side.found, 1):
            at, name = one.at(threshold), f'{prefix}mask_{i}.png'
            at.save(folder / name)
            records.append(dict(at.record(), mask=name))
            paths.append(folder / name)
        content = dict(model=side.name, threshold=threshold, predictions=records)
        table.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
    return paths


def drawn_examples(folder: Path) -> list[list[str]]:
    """[image, sentences] of three RefShapes scenes."""
    from mmseg_aml.datasets.ref_shapes import export_ref_shapes
    from mmseg_aml.datasets.refcoco import RefCOCODataset

    export_ref_shapes(folder, {'val': 3}, size=(192, 192), most_shapes=3)
    scenes = RefCOCODataset(str(folder), 'refshapes', 'val', test_mode=True)
    found = []
    for index in range(len(scenes)):
        item = scenes.get_data_info(index)
        texts = list(dict.fromkeys(one['expression'] for one in item['expressions']))
        found.append([item['img_path'], '\n'.join(texts[:3])])
    return found
