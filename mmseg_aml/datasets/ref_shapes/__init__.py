"""RefShapes: seeded synthetic scenes with referring expressions, in the REFER layout.

``scene`` (what there is) -> ``drawing`` (picture and masks) -> ``language`` (forms of
:mod:`~mmseg_aml.datasets.expressions`, and how they are said) -> ``export`` (files), and
``generalised`` (sentences about several shapes or none).
"""

from .export import export_ref_shapes
from .generalised import add_generalised
from .language import KIND_WEIGHTS

__all__ = ['KIND_WEIGHTS', 'add_generalised', 'export_ref_shapes']
