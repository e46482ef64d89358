"""Transforms of mmcv and MMSegmentation inside a RIS pipeline: moved together, or refused.

They know one picture and one label map. Here the K masks of a picture travel as such a map,
so that a crop or a rotation takes them along; a mirror also exchanges left and right in the
sentences. What can do neither is refused when the pipeline is built.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose

from ...registry import TRANSFORMS
from .together import COLOUR, CONTAINER, FLIP, GEOMETRY, IGNORED, RESIZE, MovesTogether

LARGEST_TURN = 45  # degrees; beyond it the left side is no longer left

_READS = 'mmseg_aml.LoadRefImage and mmseg_aml.LoadRefMasks read photograph and masks'
_NORMALISED = 'the data preprocessor normalises, after the corruptions and pictures'
_PACKED = 'mmseg_aml.PackRISInputs packs'
_AUGMENTED = 'it makes several versions of a picture, which the metrics would count one by one'
_VOLUME = 'it is for volumes, not for photographs'
_UNREAD = 'nothing in referring segmentation reads what it adds'

# Name -> what it does, or why it is refused. A name means the class of mmcv and that of mmseg.
KINDS = {
    'Resize': RESIZE,
    'RandomResize': RESIZE,
    'RandomChoiceResize': RESIZE,
    'ResizeShortestEdge': RESIZE,
    'ResizeToMultiple': RESIZE,
    'CenterCrop': GEOMETRY,
    'RandomCrop': GEOMETRY,
    'RandomRotate': GEOMETRY,
    'Pad': GEOMETRY,
    'RandomCutOut': GEOMETRY,  # it may paint the label map, too
    'RandomFlip': FLIP,
    'PhotoMetricDistortion': COLOUR,
    'AdjustGamma': COLOUR,
    'CLAHE': COLOUR,
    'RandomGrayscale': COLOUR,
    'RGB2Gray': COLOUR,
    'RandomApply': CONTAINER,
    'RandomChoice': CONTAINER,
    'Compose': CONTAINER,
}
REFUSED = {
    'LoadImageFromFile': _READS,
    'LoadImageFromNDArray': _READS,
    'LoadImageFromNpyFile': _READS,  # OneDL's alone
    'LoadAnnotations': _READS,
    'InferencerLoader': _READS,
    'LoadSingleRSImageFromFile': _READS,
    'LoadMultipleRSImageFromFile': _READS,
    'LoadDepthAnnotation': _UNREAD,
    'GenerateEdge': _UNREAD,
    'ConcatCDInput': _UNREAD,
    'Normalize': _NORMALISED,
    'Rerange': _NORMALISED,
    'ToTensor': _PACKED,
    'ImageToTensor': _PACKED,
    'PackSegInputs': _PACKED,
    'TestTimeAug': _AUGMENTED,
    'MultiScaleFlipAug': _AUGMENTED,
    'KeyMapper': 'it renames the keys by which photograph and masks are known',
    'TransformBroadcaster': 'it renames the keys by which photograph and masks are known',
    'Albu': 'what it does inside, such as a flip, does not reach the sentences',
    'RandomRotFlip': 'it turns by 90 degrees and flips, and the sentence would still say left or '
    'above; use RandomRotate and RandomFlip',
    'RandomMosaic': 'the target of a sentence must be the only one in the picture, and here other '
    'pictures are put beside it',
    'RandomDepthMix': 'it mixes the picture with depth, which is not read',
    'SegRescale': 'it scales the masks alone, away from the picture',
    'LoadBiomedicalAnnotation': _VOLUME,
    'LoadBiomedicalData': _VOLUME,
    'LoadBiomedicalImageFromFile': _VOLUME,
    'BioMedical3DPad': _VOLUME,
    'BioMedical3DRandomCrop': _VOLUME,
    'BioMedical3DRandomFlip': _VOLUME,
    'BioMedicalGaussianBlur': _VOLUME,
    'BioMedicalGaussianNoise': _VOLUME,
    'BioMedicalRandomGamma': _VOLUME,
}
# Of these packages, only what the tables name is let in: the rest does not know our masks.
FRAMEWORKS = ('mmcv', 'mmseg', 'mmpretrain', 'mmdet')


def build_pipeline(steps: Sequence[Any], *, test_mode: bool = False) -> Compose:
    """Builds the transforms of a RIS data set.

    Args:
        steps: Configs or transforms. Ours, and those of users, are taken as they are: they
            move ``img`` (H, W, 3) and ``gt_masks`` (K, H, W) together themselves.
        test_mode: Predictions are compared with masks on the whole original picture: of what
            moves pixels only a resize can be undone, and is let in.

    Raises:
        ValueError: If a transform of mmcv or MMSegmentation would move the picture alone, or
            make a sentence wrong; says which and why.
    """
    number = itertools.count()
    built = [_admit(step, test_mode, number) for step in steps]
    keeps_polygons = any(getattr(step, 'with_segmentation', False) for step in built)
    if keeps_polygons and any(isinstance(s, MovesTogether) and s.leaves_original for s in built):
        raise ValueError(
            'PackRISInputs(with_segmentation=True) keeps polygons of the original picture, and '
            'another transform of this pipeline moves it: leave one of them out'
        )
    return Compose(built)


def _admit(step: Any, test_mode: bool, number: Iterator[int]) -> Any:
    """``step``, built, in an adapter if it is one of the frameworks'."""
    kind, name = _kind_of(_class_of(step))  # refuses before anything is built
    transform: Any = TRANSFORMS.build(step) if isinstance(step, dict) else step
    if not kind:
        return transform
    if kind == CONTAINER:
        inner = transform.transforms  # a list, or for RandomApply a Compose
        if isinstance(inner, list):
            transform.transforms = [_admit(part, test_mode, number) for part in inner]
        else:
            transform.transforms = _admit(inner, test_mode, number)
    _check(transform, kind, name, test_mode)
    return MovesTogether(transform, kind, next(number))


def _class_of(step: Any) -> Any:
    if not isinstance(step, dict):
        return type(step)
    with TRANSFORMS.switch_scope_and_registry(None) as registry:  # as `build` looks it up
        return registry.get(step['type']) if isinstance(step['type'], str) else step['type']


def _kind_of(cls: Any) -> tuple[str, str]:
    """Kind and name of the first class of mmcv or mmseg that ``cls`` derives from.

    Raises:
        ValueError: If it is refused.
    """
    for base in getattr(cls, '__mro__', ()):
        package, name = base.__module__.split('.')[0], base.__name__
        if base is BaseTransform or package not in FRAMEWORKS:
            continue
        if package in ('mmcv', 'mmseg') and name in KINDS:
            return KINDS[name], name
        reason = REFUSED.get(name, 'it does not know the masks and the sentences of a picture')
        raise ValueError(f'{package}.{name} cannot be part of a RIS pipeline: {reason}')
    return '', ''


def _check(transform: Any, kind: str, name: str, test_mode: bool) -> None:
    """Settings that make a sentence wrong, or that a test cannot undo."""
    if test_mode and kind in (GEOMETRY, FLIP):
        raise ValueError(
            f'{name} cannot be part of a test pipeline: predictions are compared on the whole '
            'original picture; only a resize can be undone'
        )
    if name == 'RandomFlip':
        directions = transform.direction
        wrong = {directions} if isinstance(directions, str) else set(directions)
        if wrong - {'horizontal'}:
            raise ValueError(
                f'RandomFlip(direction={directions!r}): "above" and "standing" are wrong in an '
                "upside-down picture; only 'horizontal' is possible, which exchanges left and "
                'right in the sentences'
            )
        if transform.swap_seg_labels is not None:
            raise ValueError('RandomFlip(swap_seg_labels=...): the masks have no classes to swap')
    if name == 'RandomRotate' and max(map(abs, transform.degree)) > LARGEST_TURN:
        raise ValueError(
            f'RandomRotate(degree={transform.degree}): beyond {LARGEST_TURN} degrees the left of a '
            'sentence is no longer left'
        )
    if name == 'RandomGrayscale' and not transform.keep_channels:
        raise ValueError('RandomGrayscale needs keep_channels=True: the network reads 3 channels')
    if name == 'RGB2Gray' and transform.out_channels not in (None, 3):
        raise ValueError('RGB2Gray needs out_channels=3: the network reads 3 channels')
    filled = {getattr(transform, key, None) for key in ('seg_pad_val', 'seg_fill_in')}
    padding = getattr(transform, 'pad_val', None), getattr(transform, 'pad_cfg', {}).get('pad_val')
    filled |= {value.get('seg') for value in padding if isinstance(value, dict)}
    if filled - {None, 0, IGNORED}:
        raise ValueError(f'{name}: masks can be filled with 0 or {IGNORED} (ignored) only')
