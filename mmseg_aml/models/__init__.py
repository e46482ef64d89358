from . import (  # noqa: F401  registers
    backbones,
    data_preprocessor,
    decode_heads,
    fusions,
    layers,
    losses,
    necks,
    no_target,
    segmentors,
    text_encoders,
)
