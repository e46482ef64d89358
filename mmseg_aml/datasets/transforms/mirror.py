"""Mirror images, masks and the words left and right."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from ...registry import TRANSFORMS

_SIDES = re.compile(r'(?i)\b(left|right)(?=(?:most|hand|wards?|side|er)?\b)')
_OTHER = {'left': 'right', 'right': 'left'}


def mirror_sentence(text: str) -> str:
    """Exchange left and right, also in leftmost, right-hand, leftward; the case stays.

    >>> mirror_sentence('The LEFT dog, second from the right')
    'The RIGHT dog, second from the left'
    """

    def other(match: re.Match[str]) -> str:
        word = match[0]
        swapped = _OTHER[word.lower()]
        if word.isupper():
            return swapped.upper()
        return swapped.capitalize() if word[0].isupper() else swapped

    return _SIDES.sub(other, text)


@TRANSFORMS.register_module()
class RandomMirror(BaseTransform):
    """Mirror photograph and masks left to right, and exchange the sides in the sentences.

    For English sentences. A sentence about writing or about the time on a clock may become
    false; nothing of the kind is recognised.

    Args:
        prob: Share of the items that are mirrored.
    """

    def __init__(self, prob: float = 0.5) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f'prob must be from 0 to 1, got {prob}')
        self.prob = prob

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Mirror what is in ``results``, or leave all of it."""
        if np.random.rand() >= self.prob:
            return results
        for key in ('img', 'gt_masks', 'gt_seg_map'):
            if key in results:
                axis = 1 if key != 'gt_masks' else 2
                results[key] = np.ascontiguousarray(np.flip(results[key], axis))
        results['expressions'] = [
            {**e, 'expression': mirror_sentence(e['expression'])} for e in results['expressions']
        ]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(prob={self.prob})'
