from .detris_dinov2 import DETRISDINOv2  # noqa: F401
from .efficientnet_lite import EfficientNetLite0  # noqa: F401
from .frozen import FrozenBackbone  # noqa: F401
from .hf_backbone import HFBackbone  # noqa: F401
from .lavt_swin import LAVTSwinTransformer  # noqa: F401
from .swin import SwinTransformer  # noqa: F401
from .timm_backbone import TimmBackbone  # noqa: F401
