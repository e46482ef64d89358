"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

ATOMIC_BACKEND = 'mmseg_aml_atomic'


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write beside ``path``, flush to the disk, then rename over it.

    A kill at any moment leaves the old file or the new one. What a kill leaves of the temporary
    file is overwritten by the next write of the same name.

    Raises:
        OSError: If it cannot be written, for example on a full disk; the old file is untouched
            and the temporary one removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.tmp')
    try:
        with open(temporary, 'wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        free = shutil.disk_usage(path.parent).free
        raise OSError(
            error.errno,
            f'cannot write {path} ({len(content) / 1e6:.1f} MB, {free / 1e6:.1f} MB free): '
            f'{error.strerror}. Earlier files are untouched; make room and run again with --resume',
        ) from error
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; some network file systems refuse, and need it not."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class AtomicLocalBackend(LocalBackend):
    """MMEngine's file backend for the local disk, with :func:`write_atomically`."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes whole or not at all."""
        write_atomically(filepath, obj)


register_backend(ATOMIC_BACKEND, AtomicLocalBackend, force=True)
