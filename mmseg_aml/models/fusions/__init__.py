from . import cross_attention, pwam  # noqa: F401  registers
