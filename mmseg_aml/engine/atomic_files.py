"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


class _Watched:
    """A file that remembers the error of a write: ``torch.save`` tells of another one."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def write_atomically(path: str | Path, content: bytes | Callable[[Any], object]) -> None:
    """Write beside ``path``, flush to the disk, then rename over it.

    A kill at any moment leaves the old file or the new one. What a kill leaves of the temporary
    file is overwritten by the next write of the same name.

    Args:
        path: The file.
        content: Its bytes, or a function that writes them to the open file it is given.

    Raises:
        OSError: If it cannot be written, for example on a full disk; the old file is untouched
            and the temporary one removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.tmp')
    watched: _Watched | None = None
    try:
        with open(temporary, 'wb') as file:
            watched = _Watched(file)
            if isinstance(content, bytes):
                watched.write(content)
            else:
                content(watched)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        cause = watched.error if watched and watched.error else error
        if not isinstance(cause, OSError):
            raise
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        free = shutil.disk_usage(path.parent).free
        raise OSError(
            cause.errno,
            f'cannot write {path} ({free / 1e6:.1f} MB free): {cause.strerror}. Earlier files are '
            'untouched; make room and run again with --resume',
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
