"""Batch: images with K referring expressions each -> images + flat expressions."""

from __future__ import annotations

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
from .backbones.normalization import IMAGENET, Normalization

IGNORED = 255


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
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking=non_blocking)
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
            data: ``inputs``, B tensors (3, h, w) RGB 0..255, and ``data_samples``, B
                :class:`ExpressionGroup` (or plain data samples).
            training: Whether to pad the ground truth with the images.
        """
        raw: Any = self.cast_data(data['inputs'])
        mean, std = self.mean.float(), self.std.float()
        kind = self.mean.dtype  # float32, or what model.half() or .bfloat16() made of the model
        images = [((image.float() - mean) / std).to(kind) for image in raw]
        shape = self._padded_shape(images)
        flat = flatten_expressions(data['data_samples'])
        samples: list[Any] = [sample.to(self.device) for sample in flat]
        alone = [self._padded_shape([image]) for image in images]
        for sample in samples:
            sample.set_metainfo({'pad_shape': shape, 'alone_shape': alone[sample.image_index]})
            if training:
                truth = sample.gt_sem_seg
                _check_size(truth, images[sample.image_index], sample)
                # int64 is what MMSegmentation's losses index with.
                padded = _pad(truth.data.long(), shape, IGNORED)
                sample.gt_sem_seg = PixelData(data=padded)
        return dict(inputs=torch.stack([_pad(i, shape, 0) for i in images]), data_samples=samples)

    def _padded_shape(self, images: list[Tensor]) -> tuple[int, int]:
        largest = tuple(max(image.shape[dim] for image in images) for dim in (1, 2))
        if self.size is not None and any(a > b for a, b in zip(largest, self.size)):
            raise ValueError(
                f'an image of {largest} (H, W) does not fit data_preprocessor.size={self.size}: '
                'resize in the pipeline or raise the size'
            )
        height, width = self.size or largest
        divisor = self.size_divisor
        return -(-height // divisor) * divisor, -(-width // divisor) * divisor


def _check_size(truth: PixelData, image: Tensor, sample: SegDataSample) -> None:
    size = tuple(truth.shape or ())
    if size != tuple(image.shape[-2:]):
        raise ValueError(
            f'ground truth of {sample.metainfo.get("img_path")} is {size}, what the '
            f'network sees of it {tuple(image.shape[-2:])}: in a training pipeline LoadRefMasks '
            'comes before what changes the size'
        )


def _pad(tensor: Tensor, shape: tuple[int, int], value: int) -> Tensor:
    height, width = shape[0] - tensor.shape[-2], shape[1] - tensor.shape[-1]
    return F.pad(tensor, (0, width, 0, height), value=value) if height or width else tensor
