"""Named evaluation protocols: what exactly is compared when a mask is scored.

The same predictions differ by points between the protocols of published codebases, so a
number is reported together with the name of its :class:`Protocol`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import isnan
from typing import Any, Literal, Union, get_args

Resize = Literal['bilinear', 'bicubic', 'affine-bicubic']
Binarise = Literal['argmax', 'sigmoid-argmax', 'probability', 'logit']
GroundTruth = Literal['nearest', 'polygons-scaled']
Overlap = Literal['union', 'lavt-exclusive']
PrecisionRule = Literal['>=', '>']


@dataclass(frozen=True)
class Protocol:
    """One way to compare a prediction with its ground truth.

    Attributes:
        name: Name in tables and metric keys.
        resolution: Side of the square on which masks are compared; None = original size.
        resize: How predictions reach that size. ``affine-bicubic`` is OpenCV's bicubic inverse
            affine warp, which maps corners to corners without the half-pixel shift.
        align_corners: Of ``bilinear`` and ``bicubic``.
        binarise: ``argmax``: two channels by argmax, one channel by probability > 0.5.
            ``sigmoid-argmax``: argmax after a sigmoid on each channel. ``probability``:
            foreground probability > ``threshold``; the probability map is what is resized.
            ``logit``: foreground logit > ``threshold``.
        threshold: Of ``probability`` and ``logit``.
        precision_rule: Pr@X counts IoU ``>=`` X or ``>`` X.
        empty_union: IoU of an expression without predicted and true pixels: 0, 1 or NaN. NaN
            leaves the expression out of mIoU and Pr@X.
        ground_truth: ``nearest``: the mask, resized nearest by PIL's rule where ``resolution``
            is set. ``polygons-scaled``: polygons are scaled, then rasterised.
        overlap: Pixels that several polygons of a target cover are foreground (``union``) or
            background (``lavt-exclusive``: only pixels covered exactly once are kept).
        letterbox: The protocol was published for inputs resized with their aspect ratio kept;
            other inputs are scored too, with a warning.

    Raises:
        ValueError: If a value is not one of those above.
    """

    name: str
    resolution: int | None = None
    resize: Resize = 'bilinear'
    align_corners: bool = False
    binarise: Binarise = 'argmax'
    threshold: float = 0.5
    precision_rule: PrecisionRule = '>='
    empty_union: float = 0.0
    ground_truth: GroundTruth = 'nearest'
    overlap: Overlap = 'union'
    letterbox: bool = False

    def __post_init__(self) -> None:
        choices = {
            'resize': Resize,
            'binarise': Binarise,
            'precision_rule': PrecisionRule,
            'ground_truth': GroundTruth,
            'overlap': Overlap,
        }
        for field, literal in choices.items():
            if getattr(self, field) not in get_args(literal):
                raise ValueError(
                    f'protocol {self.name!r}: {field} must be one of {list(get_args(literal))}, '
                    f'got {getattr(self, field)!r}'
                )
        if self.resolution is not None and self.resolution < 1:
            raise ValueError(
                f'protocol {self.name!r}: resolution must be a positive side or None (original '
                f'size), got {self.resolution!r}'
            )
        if self.empty_union not in (0, 1) and not isnan(self.empty_union):
            raise ValueError(
                f'protocol {self.name!r}: empty_union must be 0, 1 or NaN, got {self.empty_union!r}'
            )

    @property
    def needs_segmentation(self) -> bool:
        """Whether masks alone are not enough and the targets' polygons are needed."""
        return self.ground_truth == 'polygons-scaled' or self.overlap == 'lavt-exclusive'

    def size(self, ori_shape: Sequence[int]) -> tuple[int, int]:
        """(height, width) at which an image of ``ori_shape`` (height, width) is scored."""
        if self.resolution is None:
            return int(ori_shape[0]), int(ori_shape[1])
        return self.resolution, self.resolution


ProtocolLike = Union[str, Protocol, Mapping[str, Any]]
_REGISTRY: dict[str, Protocol] = {}


def register_protocol(protocol: Protocol) -> Protocol:
    """Make ``protocol`` available by its name.

    Raises:
        ValueError: If another protocol has the name already.
    """
    known = _REGISTRY.get(protocol.name)
    # repr, because a NaN in ``empty_union`` makes equal records unequal.
    if known is not None and repr(known) != repr(protocol):
        raise ValueError(f'protocol {protocol.name!r} exists already: {known}')
    _REGISTRY[protocol.name] = protocol
    return protocol


def available_protocols() -> tuple[str, ...]:
    """Names of all registered protocols, presets first."""
    return tuple(_REGISTRY)


def get_protocol(protocol: ProtocolLike) -> Protocol:
    """Find a protocol by name, or build one from a dict in a config.

    A dict needs ``name``; the other keys are fields of :class:`Protocol`, and ``base`` names the
    protocol whose values are taken where a field is not given:
    ``dict(name='lavt-480', base='resized-480', overlap='lavt-exclusive')``.

    Raises:
        KeyError: If the name is unknown.
        ValueError: If the dict has no ``name``, has an unknown key, or redefines a preset.
    """
    if isinstance(protocol, Protocol):
        return protocol
    if isinstance(protocol, str):
        if protocol not in _REGISTRY:
            raise KeyError(f'unknown protocol {protocol!r}; known: {list(_REGISTRY)}')
        return _REGISTRY[protocol]
    values = dict(protocol)
    base = get_protocol(values.pop('base', 'original'))
    known = {field.name for field in fields(Protocol)}
    if 'name' not in values or not values.keys() <= known:
        raise ValueError(
            f'a protocol dict needs name, and may have base and {sorted(known - {"name"})}; '
            f'got {dict(protocol)}'
        )
    if values['name'] in _REGISTRY:
        raise ValueError(
            f'protocol {values["name"]!r} is registered already; give {dict(protocol)} a new name'
        )
    return replace(base, **values)


def get_protocols(protocols: ProtocolLike | Sequence[ProtocolLike]) -> tuple[Protocol, ...]:
    """Resolve one protocol or a sequence of them, see :func:`get_protocol`.

    Raises:
        ValueError: If there is none, or if two have the same name.
    """
    if isinstance(protocols, (str, Protocol, Mapping)):
        protocols = [protocols]
    resolved = tuple(get_protocol(protocol) for protocol in protocols)
    names = [protocol.name for protocol in resolved]
    if not names or len(set(names)) < len(names):
        raise ValueError(f'protocols must be given, each once; got {names}')
    return resolved


# original: the default of this project.
register_protocol(Protocol('original'))
# CARIS, MaskRIS, AMLRIS.
register_protocol(Protocol('resized-448', resolution=448, align_corners=True))
# LAVT, MagNet, RMSIN.
register_protocol(Protocol('resized-480', resolution=480, align_corners=True))
# ReLA.
register_protocol(
    Protocol('rela-480', resolution=480, binarise='sigmoid-argmax', ground_truth='polygons-scaled')
)
# CRIS, ETRIS, DETRIS.
register_protocol(
    Protocol(
        'cris-original',
        resize='affine-bicubic',
        binarise='probability',
        threshold=0.35,
        precision_rule='>',
        letterbox=True,
    )
)
# LISA, EVF-SAM.
register_protocol(Protocol('lisa-original', binarise='logit', threshold=0.0, empty_union=1.0))
