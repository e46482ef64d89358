"""Referring expression data sets: one item is one image with K expressions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from ..registry import DATASETS
from .refer import ReferError, ReferIndex, default_image_dir
from .samplers import item_generator
from .transforms.framework import build_pipeline

CLASSES = ('background', 'referred object')
PALETTE = [[0, 0, 0], [220, 20, 60]]
TEXTS = ('sent', 'raw')
SAMPLINGS = ('ref', 'sentence', 'image')


@DATASETS.register_module()
class RefCOCODataset(Dataset):
    """RefCOCO, RefCOCO+, RefCOCOg, ReferIt, or one's own data in REFER layout.

    An item, before the pipeline, is a dict: ``img_path``, ``image_id``, ``height``,
    ``width``, ``dataset``, ``split`` and ``expressions``, a list of K dicts with
    ``expression``, ``ref_id``, ``sent_id``, ``ann_ids`` and ``segmentation`` (a list of COCO
    segmentations whose union is the target; empty = refers to nothing).

    Random draws depend on (seed, visit, item) only, which the index holds: give indices
    beyond the length to see other sentences, as
    :class:`~mmseg_aml.datasets.samplers.RefSampler` does each epoch and for each seed of the
    Runner. So they are the same for every number of workers, and exact after a resume.

    Nothing is skipped or replaced: an item that cannot be read raises.

    Args:
        data_root: Folder with one sub-folder per data set, and the images.
        dataset: Name of the sub-folder: ``refcoco``, ``refcoco+``, ``refcocog``,
            ``refclef``, ``grefcoco``, ``refshapes``, or any other in this layout.
        split: Such as ``train``, ``val``, ``testA``.
        split_by: Author of the splits (``unc``, ``umd``, ``google``, ...); by default the
            usual one of the data set.
        image_dir: Folder of the images, absolute or relative to ``data_root``; by default
            the data set's own (``images/train2014`` for the COCO-based ones), and for
            one's own :func:`~mmseg_aml.datasets.refer_files.default_image_dir`.
        text: ``sent`` (cleaned; CARIS, CRIS, LISA) or ``raw`` (LAVT, ReLA).
        sampling: What a training item is. ``ref``: one ref with one random sentence (LAVT,
            CARIS); ``sentence``: one sentence (ReLA); ``image``: one image with up to
            ``num_expressions`` random sentences of it, without replacement.
        num_expressions: K of ``sampling='image'``.
        test_mode: One item per image, with all sentences of the split about it;
            ``sampling`` has no effect.
        pipeline: Transforms of the item.
        seed: Seed of the draws. Default: the Runner's.

    Raises:
        FileNotFoundError: If annotation files or the image folder are not there.
        ReferError: If annotations cannot be used, e.g. an empty expression.
        ValueError: If an argument is wrong.
    """

    def __init__(
        self,
        data_root: str,
        dataset: str = 'refcoco',
        split: str = 'train',
        *,
        split_by: str | None = None,
        image_dir: str | None = None,
        text: str = 'sent',
        sampling: str = 'ref',
        num_expressions: int = 1,
        test_mode: bool = False,
        pipeline: Sequence[Any] = (),
        seed: int | None = None,
    ) -> None:
        _check_choice('text', text, TEXTS)
        _check_choice('sampling', sampling, SAMPLINGS)
        if num_expressions < 1 or num_expressions > 1 and sampling != 'image':
            raise ValueError(
                f'num_expressions={num_expressions} with sampling={sampling!r}: '
                "it must be positive, and more than 1 needs sampling='image'"
            )
        self.dataset, self.split, self.text = dataset, split, text
        self.sampling = 'all' if test_mode else sampling
        self.num_expressions, self.test_mode, self.seed = num_expressions, test_mode, seed
        self.index = ReferIndex.open(data_root, dataset, split_by)
        self.image_dir = _image_folder(data_root, dataset, image_dir)
        self.pipeline = build_pipeline(pipeline, test_mode=test_mode)
        self.set_refs(self.index.rows(split))

    def set_refs(self, refs: np.ndarray) -> None:
        """Restrict the data set to these rows of its index; see :meth:`ReferIndex.rows`.

        Raises:
            ReferError: If none is left, or one of their sentences is empty.
        """
        if not len(refs):
            raise ReferError(f'{self.index.files.refs}: no refs left in split {self.split!r}')
        empty = self.index.empty_texts(self.text, refs)
        if empty:
            raise ReferError(
                f'{self.index.files.refs}: {len(empty)} sentence(s) of split {self.split!r} have '
                f'an empty {self.text!r} text: sent_id {str(empty[:5])[1:-1]}. '
                f"Correct the file, or choose text='{'raw' if self.text == 'sent' else 'sent'}'."
            )
        self.refs = refs
        self._items, self._item_bounds = _items_of(self.index, refs, self.sampling)

    @property
    def metainfo(self) -> dict[str, Any]:
        """Class names and colours, and which data these are."""
        palette = [list(color) for color in PALETTE]
        return dict(classes=CLASSES, palette=palette, dataset=self.dataset, split=self.split)

    def full_init(self) -> None:
        """Nothing left to do; MMEngine's Runner calls this."""

    def __len__(self) -> int:
        return len(self._item_bounds) - 1

    def __getitem__(self, index: int) -> Any:
        item = self.pipeline(self.get_data_info(index))
        if item is None:
            raise ReferError(f'a transform of the pipeline returned None for item {index}')
        return item

    def get_data_info(self, index: int) -> dict[str, Any]:
        """The item of ``index`` before the pipeline.

        Args:
            index: ``visit * len(self) + item``, not negative; see :mod:`.samplers`.
        """
        if index < 0:
            raise IndexError(f'item index must not be negative, got {index}')
        return self.draw(*item_generator(self.seed, index, len(self)))

    def draw(self, item: int, rng: np.random.Generator) -> dict[str, Any]:
        """Item ``item`` in [0, len), its random choice taken from ``rng``."""
        first, last = self._item_bounds[item : item + 2]
        sentences = self._items[first:last]
        if self.sampling in ('ref', 'image'):
            count = min(self.num_expressions, len(sentences))
            sentences = sentences[rng.choice(len(sentences), count, replace=False)]
        refs = np.searchsorted(self.index.arrays['ref_sents'], sentences, side='right') - 1
        image = self.index.image(int(self.index.arrays['ref_image'][refs[0]]))
        targets = {ref: self._target(ref) for ref in dict.fromkeys(refs.tolist())}
        return dict(
            img_path=str(self.image_dir / image.file_name),
            image_id=image.image_id,
            height=image.height,
            width=image.width,
            dataset=self.dataset,
            split=self.split,
            draw_seed=int(rng.integers(2**32)),
            expressions=[
                dict(
                    expression=self.index.text(self.text, sentence),
                    sent_id=int(self.index.arrays['sent_id'][sentence]),
                    **targets[ref],
                )
                for sentence, ref in zip(sentences.tolist(), refs.tolist())
            ],
        )

    def image_ids(self) -> np.ndarray:
        """Ids of the images in this split, sorted."""
        return self.index.image_ids(self.refs)

    def _target(self, ref: int) -> dict[str, Any]:
        return dict(
            ref_id=int(self.index.arrays['ref_id'][ref]),
            ann_ids=self.index.ann_ids(ref),
            segmentation=self.index.segmentations(ref),
        )


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f'{name} must be one of {", ".join(choices)}, got {value!r}')


def _image_folder(data_root: str, dataset: str, image_dir: str | None) -> Path:
    relative = Path(image_dir or default_image_dir(data_root, dataset)).expanduser()
    folder = Path(data_root).expanduser() / relative
    if not folder.is_dir():
        raise FileNotFoundError(
            f'the image folder {folder} does not exist; put the images there, or set image_dir '
            '(absolute, or relative to data_root) to where they are'
        )
    return folder


def _items_of(index: ReferIndex, refs: np.ndarray, sampling: str) -> tuple[np.ndarray, np.ndarray]:
    """Sentence rows, item after item, and the bounds of each item in them."""
    bounds = index.arrays['ref_sents'].astype(np.int64)
    if sampling in ('image', 'all'):  # images in the order in which they first occur
        images = index.arrays['ref_image'][refs]
        _, first, inverse = np.unique(images, return_index=True, return_inverse=True)
        place = first[inverse.reshape(-1)]
        order = np.argsort(place, kind='stable')
        refs, place = refs[order], place[order]
    else:
        place = np.arange(len(refs))
    counts = bounds[refs + 1] - bounds[refs]
    if not counts.all():
        ref = index.arrays['ref_id'][refs[np.argmin(counts)]]
        raise ReferError(f'{index.files.refs}: ref {ref} has no sentence')
    ends = np.cumsum(counts)
    sentences = np.repeat(bounds[refs] - (ends - counts), counts) + np.arange(ends[-1])
    if sampling == 'sentence':
        return sentences, np.arange(len(sentences) + 1)
    last_of_item = np.append(place[1:] != place[:-1], True)
    return sentences, np.concatenate([[0], ends[last_of_item]])
