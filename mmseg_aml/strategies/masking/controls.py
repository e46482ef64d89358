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


def partners(control: str, samples: Sequence[SegDataSample]) -> list[int]:
    """For every expression, the one whose map it gets: the next one that fits, in a circle.

    Raises:
        ValueError: If the batch has no other image, or an image no other sentence.
    """
    images = [sample.metainfo['image_index'] for sample in samples]
    count, same = len(images), control == 'other-sentence'
    found = []
    for row, image in enumerate(images):
        others = ((row + step) % count for step in range(1, count))
        partner = next((one for one in others if (images[one] == image) == same), None)
        if partner is None:
            needs = (
                "at least two expressions per image (sampling='image', num_expressions > 1)"
                if same
                else 'at least two images per batch and rank'
            )
            raise ValueError(f'control={control!r} needs {needs}')
        found.append(partner)
    return found
