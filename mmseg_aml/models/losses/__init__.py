from . import binary_dice, weighted_ce  # noqa: F401  registers
