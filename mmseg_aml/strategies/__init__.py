"""What makes training different; ``base`` has the contracts, ``two_views`` the common step."""

from . import estimators, maskris  # noqa: F401  registers
from .aml import afm, hook, literal, pmme, release, wrapper  # noqa: F401  registers
