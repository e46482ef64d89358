from .attention import FewFromMany, ManyFromFew, SelfAttention
from .caris_layer import CARISLayer
from .deformable_attention import DeformableAttention, reference_points, sample_bags, sample_grid
from .position import sine_positions

__all__ = [
    'CARISLayer',
    'DeformableAttention',
    'FewFromMany',
    'ManyFromFew',
    'SelfAttention',
    'reference_points',
    'sample_bags',
    'sample_grid',
    'sine_positions',
]
