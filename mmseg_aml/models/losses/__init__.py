from . import binary_dice, soft_bce, weighted_ce  # noqa: F401  registers
