from .attention import FewFromMany, ManyFromFew, SelfAttention
from .caris_layer import CARISLayer
from .deformable_attention import DeformableAttention, reference_points, sample_bags, sample_grid
from .deformable_layer import DeformableLayer
from .position import sine_positions

__all__ = [
    'CARISLayer',
    'DeformableAttention',
    'DeformableLayer',
    'FewFromMany',
    'ManyFromFew',
    'SelfAttention',
    'reference_points',
    'sample_bags',
    'sample_grid',
    'sine_positions',
]
