"""Pictures of a test: all sentences, some of them, or the worst."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from mmseg_aml.datasets.transforms.images import read_rgb
from mmseg_aml.evaluation.masks import coco_mask, encode_masks
from mmseg_aml.registry import HOOKS

from .hook import chosen_sentences, spread
from .visualizer import RISVisualizer

MASKS = ('gt_sem_seg', 'pred_sem_seg')


class Packed(NamedTuple):
    """What a picture needs of a sample, its masks as run lengths."""

    sample: SegDataSample
    masks: dict[str, dict[str, Any]]


def packed(sample: SegDataSample) -> Packed:
    """A small copy, without logits."""
    copy = SegDataSample(metainfo=sample.metainfo)
    if 'maps' in sample:
        copy.set_field(sample.get('maps'), 'maps')
    return Packed(copy, {name: encode_masks(sample.get(name).data == 1)[0] for name in MASKS})


def unpacked(small: Packed) -> SegDataSample:
    """The sample again, with masks (1, H, W)."""
    for name, mask in small.masks.items():
        decoded = torch.from_numpy(coco_mask.decode(mask))
        small.sample.set_field(PixelData(data=decoded[None]), name)
    return small.sample


def iou_of(sample: SegDataSample) -> float:
    """IoU of the predicted mask at the image's size; 1 if neither mask has a pixel.

    Raises:
        KeyError: If the test pipeline loads no ground truth.
    """
    missing = [name for name in MASKS if name not in sample]
    if missing:
        raise KeyError(f'the worst sentences need {missing[0]}: LoadRefMasks in the test pipeline')
    truth, found = (sample.get(name).data == 1 for name in MASKS)
    union = (truth | found).sum()
    return float((truth & found).sum() / union) if union else 1.0


@HOOKS.register_module()
class ShowHook(Hook):
    """Draw a test into a folder: ``{sent_id}.png``, or ``{place}_iou{percent}_{sent_id}.png``.

    Every process draws its own share.

    Args:
        folder: Where the pictures go.
        number: So many sentences, spread evenly over the images; None: all.
        worst: So many sentences of least IoU instead, worst first.
    """

    priority = 'LOW'

    def __init__(self, folder: str, number: int | None = None, worst: int | None = None) -> None:
        for name, value in (('number', number), ('worst', worst)):
            if value is not None and value < 1:
                raise ValueError(f'{name} of pictures must be positive, got {value}')
        self.folder = Path(folder)
        self.number, self.worst = number, worst
        self.visualizer = RISVisualizer(name='show')

    def before_test_epoch(self, runner: Runner) -> None:
        self.drawn = self.seen = self._kept = 0
        self._worst: list[tuple[float, int, int, Packed]] = []  # a heap, the best of them first
        if self.number is not None:
            self._wanted = self._share(runner, self.number)
        self.folder.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def _share(runner: Runner, number: int) -> Counter[int]:
        """How many sentences to draw of each image of this process, by its place there."""
        images = len(runner.test_dataloader.dataset)  # pyright: ignore[reportArgumentType]
        rank, world = get_rank(), get_world_size()
        wanted = spread(number, images)
        # DefaultSampler without shuffling deals images out in turn.
        return Counter({at // world: n for at, n in wanted.items() if at % world == rank})

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: DATA_BATCH = None,
        outputs: Sequence[SegDataSample] | None = None,
    ) -> None:
        samples = outputs or ()
        self.seen += len(samples)
        if self.worst is not None:
            for sample in samples:
                self._remember(sample, self.worst)
            return
        if self.number is not None:
            first = batch_idx * (runner.test_dataloader.batch_size or 1)
            samples = chosen_sentences(samples, self._wanted, first)
        for sample in samples:
            self._draw(sample, f'{sample.get("sent_id")}')

    def _remember(self, sample: SegDataSample, count: int) -> None:
        """Keep the ``count`` samples of least IoU; of equal ones, those of least number."""
        self._kept += 1
        key = -iou_of(sample), -int(sample.get('sent_id')), -self._kept
        if len(self._worst) < count:
            heapq.heappush(self._worst, (*key, packed(sample)))
        elif key > self._worst[0][:3]:
            heapq.heapreplace(self._worst, (*key, packed(sample)))

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        if self.worst is not None:
            self._draw_worst(self.worst)
        drawn, seen = (sum(all_gather_object(count)) for count in (self.drawn, self.seen))
        which = '' if self.worst is None else ', those of least IoU,'
        print_log(
            f'pictures of {drawn} of {seen} sentences{which} are in {self.folder}',
            logger='current',
        )

    def _draw_worst(self, count: int) -> None:
        """This process' part of the ``count`` worst of all processes."""
        rank = get_rank()
        mine = {(iou, sent_id, order, -rank): sample for iou, sent_id, order, sample in self._worst}
        ranked = sorted(key for keys in all_gather_object(list(mine)) for key in keys)[::-1]
        for place, key in enumerate(ranked[:count], 1):
            if key in mine:
                name = f'{place:04d}_iou{-100 * key[0]:.0f}_{-key[1]}'
                self._draw(unpacked(mine[key]), name)

    def _draw(self, sample: SegDataSample, name: str) -> None:
        image = read_rgb(sample.get('img_path'), sample.get('ori_shape'))
        Image.fromarray(self.visualizer.draw(image, sample)).save(self.folder / f'{name}.png')
        self.drawn += 1
