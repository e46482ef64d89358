from . import binary_ce, binary_dice, soft_bce, weighted_ce  # noqa: F401  registers
