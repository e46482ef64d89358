"""RefShapes: seeded synthetic scenes with referring expressions, in the REFER layout.

``scene`` (what there is) -> ``drawing`` (picture and masks) -> ``language`` (forms of
:mod:`~mmseg_aml.datasets.expressions`, and how they are said) -> ``export`` (files).
"""

from .export import export_ref_shapes
from .language import KIND_WEIGHTS

__all__ = ['KIND_WEIGHTS', 'export_ref_shapes']
