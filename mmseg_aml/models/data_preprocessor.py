"""Batch: images with K referring expressions each -> images + flat expressions."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from ..registry import MODELS
from ..structures import ExpressionGroup
from ..transfer import stack_alike, to_device
from .backbones.normalization import IMAGENET, Normalization

IGNORED = 255
Size = tuple[int, int]


def flatten_expressions(groups: Sequence[ExpressionGroup | SegDataSample]) -> list[SegDataSample]:
    """Lists the data samples of all expressions and notes ``image_index`` in each.

    Args:
        groups: One entry per image: its expressions, or a single data sample.

    Returns:
        E data samples; metainfo ``image_index`` is the row of the image in the batch.
    """
    flat = []
    for index, group in enumerate(groups):
        for sample in group.samples if isinstance(group, ExpressionGroup) else [group]:
            sample.set_metainfo({'image_index': index})
            flat.append(sample)
    return flat


@MODELS.register_module()
class TextImageDataPreprocessor(BaseDataPreprocessor):
    """Normalises, pads and stacks images; flattens their expressions.

    Padding is added right and below, after normalisation, with 0 (the mean colour); the
    ground truth is padded with 255 (ignored) in training and stays as it is otherwise.
    Every data sample gets ``image_index``, ``pad_shape`` (H, W of the batch) and
    ``alone_shape`` (H, W to which its image is padded when it is alone: predictions are made at
    that size, so that they do not depend on the other images of the batch);
    ``img_shape`` stays the size of the image without padding.

    Args:
        mean: Mean of the R, G, B channels in 0..255. Default: what the weights of the backbone
            record, else ImageNet's. A value that contradicts the record is refused.
        std: Standard deviation of the R, G, B channels in 0..255, likewise.
        size: Pad every batch to this (H, W). Default: the largest image of the batch.
        size_divisor: Pad to multiples of this.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        size: tuple[int, int] | None = None,
        size_divisor: int = 1,
    ) -> None:
        super().__init__()
        if (mean is None) != (std is None):
            raise ValueError('data_preprocessor needs both mean and std, or neither')
        self.given = Normalization(tuple(mean), tuple(std)) if mean and std else None
        self.normalise_by(self.given or IMAGENET)
        self.size = size
        self.size_divisor = size_divisor

    def normalise_by(self, colours: Normalization) -> None:
        """Sets mean and standard deviation; buffers that no checkpoint holds."""
        for name, values in colours._asdict().items():
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Makes ``inputs`` (B, 3, H, W), of the model's type, and a list of E data samples.

        Args:
            data: ``inputs``, (B, 3, h, w) or B tensors (3, h, w), RGB 0..255; ``data_samples``, B
                :class:`ExpressionGroup` (or plain data samples); the ground truth is in them, or
                is ``masks`` (E, h, w), as ``collate_expressions`` makes it.
            training: Whether to pad the ground truth with the images.
        """
        sizes = [(image.shape[-2], image.shape[-1]) for image in data['inputs']]
        shape = self._padded_shape(sizes)
        alone = [self._padded_shape([size]) for size in sizes]
        flat = flatten_expressions(data['data_samples'])
        samples: list[Any] = [shallow_copy(sample, self.device) for sample in flat]
        for sample in samples:
            sample.set_metainfo({'pad_shape': shape, 'alone_shape': alone[sample.image_index]})
        self._place_truth(samples, data.get('masks'), sizes, shape if training else None)
        return dict(inputs=self._images(data['inputs'], shape), data_samples=samples)

    def _images(self, images: Tensor | Sequence[Tensor], shape: Size) -> Tensor:
        together = images if isinstance(images, Tensor) else stack_alike(images)
        if isinstance(together, Tensor):
            return _pad(self._normalise(together), shape, 0)
        return torch.stack([_pad(self._normalise(image), shape, 0) for image in together])

    def _normalise(self, images: Tensor) -> Tensor:
        mean, std = self.mean.float(), self.std.float()
        images = (to_device(images, self.device).float() - mean) / std
        return images.to(self.mean.dtype)  # float32, or what model.half() or .bfloat16() made of it

    def _place_truth(
        self,
        samples: Sequence[Any],
        masks: Tensor | None,
        sizes: Sequence[Size],
        padded: Size | None,
    ) -> None:
        """Ground truth (1, H, W) on the device; in training ``padded`` to the size of images."""
        truths = self._truths(samples, masks)
        if padded:
            for truth, sample in zip(truths, samples):
                _check_size(truth, sizes[sample.image_index], sample)
            # int64 is what MMSegmentation's losses index with.
            if isinstance(truths, Tensor):
                truths = _pad(truths.long(), padded, IGNORED)
            else:
                truths = [_pad(truth.long(), padded, IGNORED) for truth in truths]
        for truth, sample in zip(truths, samples):
            sample.gt_sem_seg = PixelData(data=truth)

    def _truths(self, samples: Sequence[Any], masks: Tensor | None) -> Tensor | list[Tensor]:
        """(E, 1, H, W) in one copy to the device, a list where sizes differ; [] if unknown."""
        if masks is not None:
            return to_device(masks, self.device)[:, None]
        if not all('gt_sem_seg' in sample for sample in samples):
            return []
        together = stack_alike([sample.gt_sem_seg.data for sample in samples])
        if isinstance(together, Tensor):
            return to_device(together, self.device)
        return [to_device(truth, self.device) for truth in together]

    def _padded_shape(self, sizes: Sequence[Size]) -> Size:
        largest = tuple(max(sides) for sides in zip(*sizes))
        if self.size is not None and any(a > b for a, b in zip(largest, self.size)):
            raise ValueError(
                f'an image of {largest} (H, W) does not fit data_preprocessor.size={self.size}: '
                'resize in the pipeline or raise the size'
            )
        height, width = self.size or largest
        divisor = self.size_divisor
        return -(-height // divisor) * divisor, -(-width // divisor) * divisor


def shallow_copy(sample: SegDataSample, device: torch.device) -> SegDataSample:
    """Another record of the same values, those of pixels on ``device``."""
    twin = copy.copy(sample)
    for fields in ('_metainfo_fields', '_data_fields'):
        twin.__dict__[fields] = set(getattr(sample, fields))
    values: Any = dict(sample.items())
    for name, value in values.items():
        if isinstance(value, PixelData) and name != 'gt_sem_seg':
            pixels: Any = value
            twin.set_data({name: PixelData(data=to_device(pixels.data, device))})
    return twin


def _check_size(truth: Tensor, seen: Size, sample: SegDataSample) -> None:
    size = tuple(truth.shape[-2:])
    if size != seen:
        raise ValueError(
            f'ground truth of {sample.metainfo.get("img_path")} is {size}, what the '
            f'network sees of it {seen}: in a training pipeline LoadRefMasks '
            'comes before what changes the size'
        )


def _pad(tensor: Tensor, shape: tuple[int, int], value: int) -> Tensor:
    height, width = shape[0] - tensor.shape[-2], shape[1] - tensor.shape[-1]
    return F.pad(tensor, (0, width, 0, height), value=value) if height or width else tensor
