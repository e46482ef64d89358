from .lavt_swin import LAVTSwinTransformer  # noqa: F401
from .swin import SwinTransformer  # noqa: F401
