"""Data sets, samplers and transforms; submodules are imported to register them."""

from . import collate, controls, grefcoco, mixed, refcoco, samplers, skip_faults, transforms  # noqa: F401
