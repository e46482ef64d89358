"""What RIS and GRES metrics share: one small entry per image, summed once over all ranks."""

from __future__ import annotations

import json
import logging
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from ..engine.atomic_files import write_atomically
from .letterbox import unbox_probabilities
from .masks import (
    Segmentation,
    binary_prediction,
    encode_masks,
    foreground_logit,
    ground_truth,
    intersection_and_union,
)
from .protocols import Protocol, ProtocolLike, get_protocols
from .scores import score_table


@dataclass(frozen=True)
class ImageEntry:
    """All that travels between ranks about the K expressions of one image, P protocols.

    counts: (P, K, 2) int64, I and U. no_target: (K,) bool, refers to nothing. flags: what
    a subclass adds, (P, K) bool or None. nonfinite: (K,) bool, the logits have NaN or infinity
    and are scored as the worst mask there is; None if all are finite. masks: COCO RLEs, only
    where they go to a file.
    """

    source: str
    sent_ids: tuple[int, ...]
    counts: np.ndarray
    no_target: np.ndarray
    flags: np.ndarray | None = None
    nonfinite: np.ndarray | None = None
    masks: list[dict[str, Any]] | None = None


def group_by_image(data_samples: Sequence[dict]) -> list[list[dict]]:
    """Group the flat expressions of a batch by their ``image_index``.

    Raises:
        KeyError: If a data sample has no ``image_index``.
    """
    groups: dict[int, list[dict]] = {}
    for sample in data_samples:
        if 'image_index' not in sample:
            raise KeyError(
                "data samples need the metainfo 'image_index', which TextImageDataPreprocessor "
                'sets: use it as data_preprocessor of the model'
            )
        groups.setdefault(int(sample['image_index']), []).append(sample)
    return list(groups.values())


def _stacked(samples: list[dict], field: str, mend: str) -> Tensor:
    missing = [sample.get('expression') for sample in samples if field not in sample]
    if missing:
        raise KeyError(f'no {field} for expressions {missing} of {_name(samples)}: {mend}')
    return torch.stack([sample[field]['data'] for sample in samples])


def _name(samples: list[dict]) -> str:
    return str(samples[0].get('img_path', f'image {samples[0].get("image_id")}'))


class ExpressionMetric(BaseMetric):
    """Counts pixels per expression under one or several protocols in one evaluation pass.

    Ranks send their entries through the process group, so that they need no folder in common.

    Args:
        protocols: Names, records or dicts, see :func:`~.protocols.get_protocols`.
        out_file: Also write the binary predictions of the *first* protocol to this JSON file,
            ``{sent_id: {"size": [h, w], "counts": "<COCO RLE>"}}``.
        prefix: Replaces the default prefix of the metric keys.
    """

    def __init__(
        self,
        protocols: ProtocolLike | Sequence[ProtocolLike] = 'original',
        *,
        out_file: str | None = None,
        prefix: str | None = None,
    ) -> None:
        # MMEngine's name for "through the process group", be it NCCL or gloo; 'cpu' means files.
        super().__init__(collect_device='gpu', prefix=prefix)
        self.protocols = get_protocols(protocols)
        if out_file is not None and not str(out_file).endswith('.json'):
            raise ValueError(f'out_file must end with .json, got {out_file!r}')
        self.out_file = out_file
        self._size: int | None = None
        self._warned_squash = False

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Score a batch; see :meth:`score_image` for what the data samples must hold."""
        for samples in group_by_image(data_samples):
            self.results.append(self.score_image(samples))

    def score_image(self, samples: list[dict]) -> ImageEntry:
        """Count the pixels of the K expressions of one image.

        Args:
            samples: Per expression ``seg_logits`` (C, h, w), ``gt_sem_seg`` (1, H, W) at the
                original size, metainfo ``sent_id``, ``ori_shape``, ``segmentation`` where a
                protocol rasterises polygons, and of letterboxed images ``letterbox_logits``.

        Raises:
            KeyError: If one of these is missing.
            ValueError: If the ground truth is not at the original size.
        """
        logits = _stacked(samples, 'seg_logits', 'evaluate the output of predict')
        masks = _stacked(samples, 'gt_sem_seg', 'put LoadRefMasks into the test pipeline')[:, 0]
        ori_shape = tuple(samples[0]['ori_shape'])
        if masks.shape[-2:] != ori_shape:
            raise ValueError(
                f'ground truth of {_name(samples)} is {tuple(masks.shape[-2:])}, its image '
                f'{ori_shape}: in the test pipeline LoadRefMasks comes after ResizeRIS'
            )
        self._warn_squash(ori_shape, logits.shape[-2:])
        parts = None
        if all('segmentation' in sample for sample in samples):
            parts = [sample['segmentation'] for sample in samples]
        predictions = [
            self._letterboxed(samples, ori_shape, protocol)
            if protocol.letterbox and 'letterbox' in samples[0]
            else binary_prediction(logits, protocol.size(ori_shape), protocol)
            for protocol in self.protocols
        ]
        source = f'{samples[0].get("dataset", "")} {samples[0].get("split", "")}'.strip()
        broken = ~logits.flatten(1).isfinite().all(1)
        masks = masks.to(logits.device)
        return self.entry(
            source, samples, masks, parts, predictions, broken if broken.any() else None
        )

    @staticmethod
    def _letterboxed(samples: list[dict], shape: tuple[int, int], protocol: Protocol) -> Tensor:
        logits = _stacked(samples, 'letterbox_logits', 'evaluate the output of predict')
        box = samples[0]['letterbox']
        probability = unbox_probabilities(foreground_logit(logits), box, shape)
        return torch.from_numpy(probability > protocol.threshold).to(logits.device)

    def entry(
        self,
        source: str,
        samples: list[dict],
        masks: Tensor,
        segmentations: Sequence[Sequence[Segmentation]] | None,
        predictions: Sequence[Tensor],
        nonfinite: Tensor | None = None,
    ) -> ImageEntry:
        """Compare binary predictions with the ground truth.

        Args:
            source: Data set and split, for the title of the table.
            samples: Per expression its ``sent_id``, and what :meth:`flag` reads.
            masks: (K, H, W) {0, 1}, ground truth at the original size.
            segmentations: Per expression its COCO segmentations, where a protocol needs them.
            predictions: Per protocol (K, h, w) bool, where h, w = protocol.size((H, W)).
            nonfinite: (K,) bool, of these there is no prediction.
        """
        counts, flags = [], []
        empty = ~masks.flatten(1).bool().any(1).cpu().numpy()
        for protocol, prediction in zip(self.protocols, predictions):
            target = ground_truth(masks, segmentations, protocol)
            flag = self.flag(samples, prediction)
            if nonfinite is not None:
                rows = nonfinite.to(prediction.device)[:, None, None]
                prediction = torch.where(rows, ~target, prediction)
                flag = None if flag is None else flag & ~nonfinite.cpu().numpy()
            counts.append(intersection_and_union(prediction, target))
            flags.append(flag)
        return ImageEntry(
            source=source,
            sent_ids=tuple(int(sample['sent_id']) for sample in samples),
            counts=np.stack(counts),
            no_target=np.array([s.get('no_target', e) for s, e in zip(samples, empty)], bool),
            flags=None if flags[0] is None else np.stack(flags),
            nonfinite=None if nonfinite is None else nonfinite.cpu().numpy(),
            masks=None if self.out_file is None else encode_masks(predictions[0]),
        )

    def flag(self, samples: list[dict], prediction: Tensor) -> np.ndarray | None:
        """A further decision per expression, (K,) bool, that a subclass scores."""
        return None

    def _warn_squash(self, ori_shape: Sequence[int], size: Sequence[int]) -> None:
        names = [protocol.name for protocol in self.protocols if protocol.letterbox]
        scales = size[0] / ori_shape[0], size[1] / ori_shape[1]
        # Rounding to whole pixels moves a side by less than one pixel.
        slack = 1 / min(ori_shape)
        if names and not self._warned_squash and abs(scales[0] - scales[1]) > slack:
            self._warned_squash = True
            print_log(
                f'{names} were published for inputs that keep their aspect ratio '
                '(Letterbox, or ResizeRIS(keep_ratio=True)); these images are squashed',
                logger='current',
                level=logging.WARNING,
            )

    def evaluate(self, size: int) -> dict[str, float]:
        """Collect all ranks' entries and compute the metrics; ``size`` = images in the set."""
        self._size = size
        return super().evaluate(size)

    def compute_metrics(self, results: list[ImageEntry]) -> dict[str, float]:
        """Scores of all expressions, ``{protocol}/{score}``; also logs them as a table.

        Raises:
            ValueError: If there is nothing to score, if images are missing, or if an expression
                occurs twice.
        """
        self._check(results)
        scores = {
            protocol.name: self.scores(results, i, protocol)
            for i, protocol in enumerate(self.protocols)
        }
        expressions = sum(len(entry.sent_ids) for entry in results)
        sources = ', '.join(sorted({entry.source for entry in results} - {''})) or 'dataset'
        title = f'{sources}: {expressions} expressions, {len(results)} images{self.note}'
        print_log('\n' + score_table(title, scores), logger='current')
        if self.out_file is not None:
            self._write(results)
        flat = {f'{name}/{key}': row[key] for name, row in scores.items() for key in row}
        return {**flat, 'expressions': expressions, **self._nonfinite(results)}

    @staticmethod
    def _nonfinite(results: list[ImageEntry]) -> dict[str, float]:
        count = sum(int(entry.nonfinite.sum()) for entry in results if entry.nonfinite is not None)
        if not count:
            return {}
        print_log(
            f'{count} expressions have logits with NaN or infinity: each is scored as the worst '
            'mask there is (every pixel wrong); the weights or the precision are at fault',
            logger='current',
            level=logging.ERROR,
        )
        return {'nonfinite': count}

    @property
    def note(self) -> str:
        """What the title of the table adds."""
        return ''

    @abstractmethod
    def scores(self, results: list[ImageEntry], index: int, protocol: Protocol) -> dict[str, float]:
        """Numbers of protocol number ``index`` over all entries."""

    def _check(self, results: list[ImageEntry]) -> None:
        if not results:
            raise ValueError(
                f'{type(self).__name__} got no predictions: is the evaluated split empty?'
            )
        if self._size is not None and len(results) != self._size:
            raise ValueError(
                f'{len(results)} of {self._size} images were scored: let the sampler of the '
                'evaluation be DefaultSampler(shuffle=False), whose ranks are of equal length'
            )
        sources = [entry.source if self.out_file is None else '' for entry in results]
        twice = _twice((s, i) for s, e in zip(sources, results) for i in e.sent_ids)
        if twice:
            raise ValueError(
                f'{len(twice)} expressions occur twice, first (data set, sent_id) = {twice[0]}: '
                'give the data set each sentence once'
            )

    def _write(self, results: list[ImageEntry]) -> None:
        masks = {
            str(sent_id): mask
            for entry in results
            for sent_id, mask in zip(entry.sent_ids, entry.masks or [])
        }
        write_atomically(str(self.out_file), json.dumps(masks).encode())
        first = self.protocols[0].name
        print_log(f'{len(masks)} masks ({first}) written to {self.out_file}', logger='current')


def _twice(keys: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    seen: set[tuple[str, int]] = set()
    return [key for key in keys if key in seen or seen.add(key)]
