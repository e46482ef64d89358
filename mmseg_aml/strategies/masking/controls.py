"""Controls: what masking does without alignment, and what a map does without its sentence.

``random`` masks the same area per sample anywhere; ``other-image`` takes the map of another
image of the batch, ``other-sentence`` that of another sentence about the same image.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmseg.structures import SegDataSample

CONTROLS = ('random', 'other-image', 'other-sentence')


def check_control(control: str | None) -> None:
    """Refuses an unknown name."""
    if control == 'shuffled':
        raise ValueError(
            "control='shuffled' mixed two controls: use 'other-image' or 'other-sentence'"
        )
    if control not in (None, *CONTROLS):
        raise ValueError(f'control must be one of {CONTROLS} or None, got {control!r}')


def partners(control: str, samples: Sequence[SegDataSample]) -> list[int | None]:
    """For every expression, the one whose map it gets: the next one that fits, in a circle.

    None where there is none: the only sentence about its image.

    Raises:
        ValueError: If no expression of the batch has a partner.
    """
    images = [sample.metainfo['image_index'] for sample in samples]
    count, same = len(images), control == 'other-sentence'
    found = []
    for row, image in enumerate(images):
        others = ((row + step) % count for step in range(1, count))
        found.append(next((one for one in others if (images[one] == image) == same), None))
    if all(partner is None for partner in found):
        needs = (
            "two sentences about an image (sampling='image', num_expressions > 1)"
            if same
            else 'two images per batch and rank'
        )
        raise ValueError(f'control={control!r} needs at least {needs}')
    return found
