"""Data sets that answer: does the sentence matter?"""

from __future__ import annotations

from typing import Any

from ..registry import DATASETS
from .refcoco import RefCOCODataset


@DATASETS.register_module()
class ShuffledExpressions(RefCOCODataset):
    """:class:`RefCOCODataset` whose sentences are those of another image.

    Images and masks stay; item i gets the sentences of the item half the data set away, in
    order and repeated if there are fewer. A model that reads its sentence must do badly
    here; what it still gets right, it gets without the sentence.
    """

    def get_data_info(self, index: int) -> dict[str, Any]:
        """The item of ``index`` with another item's sentences."""
        if len(self) < 2:
            raise ValueError('ShuffledExpressions needs at least two items')
        item = super().get_data_info(index)
        visit, position = divmod(index, len(self))
        away = (position + len(self) // 2) % len(self)
        other = super().get_data_info(visit * len(self) + away)['expressions']
        for k, expression in enumerate(item['expressions']):
            expression['expression'] = other[k % len(other)]['expression']
        return item


@DATASETS.register_module()
class SameExpression(RefCOCODataset):
    """:class:`RefCOCODataset` with one sentence for all targets: what the picture alone tells.

    For training and testing: such a network can only learn which objects are talked about.

    Args:
        sentence: Takes the place of every expression.
        options: Arguments of :class:`RefCOCODataset`.
    """

    def __init__(self, *args: Any, sentence: str = 'the object', **options: Any) -> None:
        super().__init__(*args, **options)
        self.sentence = sentence

    def get_data_info(self, index: int) -> dict[str, Any]:
        """The item of ``index``, every expression replaced."""
        item = super().get_data_info(index)
        for expression in item['expressions']:
            expression['expression'] = self.sentence
        return item
