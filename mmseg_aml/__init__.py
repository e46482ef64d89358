"""Referring image segmentation for OpenMMLab.

The folders follow the data::

    1 read     datasets/        REFER files and RefShapes -> one image with K expressions
    2 batch    models/data_preprocessor.py   -> images + flat expressions with image_index
    3 encode   models/text_encoders, models/backbones
    4 fuse     models/fusions   language-aware features for any MMSegmentation decode head
    5 decode   models/decode_heads; models/segmentors puts 3 to 5 together
    6 learn    strategies/      AML, MaskRIS: what makes training different
    7 measure  evaluation/      RISMetric with named protocols
    8 look     visualization/   photograph, expression, masks, alignment map
    9 use      apis/            RISInferencer

``engine/`` holds optimizer constructors, schedules and hooks for MMEngine's Runner, ``study/`` what
reads many runs together, ``command_line`` what all tools share.
"""

from . import compat
from .version import __version__

compat.install()

__all__ = ['__version__']
