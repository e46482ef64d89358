from . import (  # noqa: F401  registers
    backbones,
    data_preprocessor,
    decode_heads,
    fusions,
    layers,
    losses,
    no_target,
    segmentors,
    text_encoders,
)
