"""Every upstream breakage in one place: condition, reason, link and "delete when".

Called once, from ``mmseg_aml/__init__.py``, before any module of mmseg is imported. One file for
each thing that is mended.
"""

from .activation_checkpointing import checkpoint_without_reentering
from .checkpoints import allow_mmengine_checkpoints, never_read_pickles
from .known_warnings import silence_known_warnings
from .mmcv_lite import allow_mmcv_lite, has_compiled_ops
from .mmpretrain import allow_mmpretrain_with_transformers5
from .startup import format_configs_once, import_optim_without_transformers
from .versions import check_versions

__all__ = ['has_compiled_ops', 'install']


def install() -> None:
    """Put all shims in place. Idempotent; nothing is patched that works by itself.

    Raises:
        ImportError: If a package is missing or outside the supported versions.
    """
    silence_known_warnings()
    check_versions()
    import_optim_without_transformers()
    format_configs_once()
    allow_mmcv_lite()
    allow_mmengine_checkpoints()
    never_read_pickles()
    allow_mmpretrain_with_transformers5()
    checkpoint_without_reentering()
