"""One file that holds named arrays, opened by mmap, and a cache of such files.

Every process that opens the file shares its pages, so a data set costs its memory once
per machine, not once per worker and rank. Nothing in it is pickled.

File: magic, length of the header (uint64), header (JSON), then the arrays, 64-byte aligned.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:  # Windows: no lock, every rank builds its own copy; still atomic
    fcntl = None

_MAGIC = b'MMSAML01'
_ALIGN = 64
_RACY_NS = 2_000_000_000


class ArrayFile(Mapping[str, np.ndarray]):
    """Read-only named arrays of one file, mapped into memory.

    Raises:
        ValueError: If the file is not complete.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with open(path, 'rb') as file:
            if file.read(8) != _MAGIC:
                raise ValueError(f'{path} is not an array file')
            start = int.from_bytes(file.read(8), 'little') + 16
            header = json.loads(file.read(start - 16))
            if os.fstat(file.fileno()).st_size != header['size']:
                raise ValueError(f'{path} is truncated')
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.meta: dict[str, Any] = header['meta']
        self._arrays = {
            name: np.frombuffer(self._map, dtype, int(np.prod(shape)), offset).reshape(shape)
            for name, (dtype, shape, offset) in header['arrays'].items()
        }

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __reduce__(self) -> tuple[type[ArrayFile], tuple[Path]]:
        return type(self), (self.path,)


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray], meta: Mapping) -> None:
    """Write an array file atomically: readers see the old file or the whole new one."""
    path = Path(path)
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    header = _header(arrays, meta)
    descriptor, temporary = tempfile.mkstemp(prefix=f'.{path.name}.', dir=path.parent)
    try:
        with os.fdopen(descriptor, 'wb') as file:
            file.write(_MAGIC + len(header).to_bytes(8, 'little') + header)
            for array in arrays.values():
                file.write(b'\0' * (-file.tell() % _ALIGN))
                file.write(array.data if array.size else b'')
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide the index from other users
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _header(arrays: Mapping[str, np.ndarray], meta: Mapping) -> bytes:
    """Header with absolute offsets, padded so that they do not depend on its own length."""
    room = 4096 + 128 * len(arrays) + 2 * len(json.dumps(dict(meta)))
    position, table = 16 + room, {}
    for name, array in arrays.items():
        position += -position % _ALIGN
        table[name] = (array.dtype.str, array.shape, position)
        position += array.nbytes
    header = json.dumps({'size': position, 'arrays': table, 'meta': dict(meta)})
    return header.encode().ljust(room)


def cached_arrays(
    sources: Sequence[Path],
    name: str,
    build: Callable[[], tuple[dict[str, np.ndarray], dict[str, Any]]],
) -> ArrayFile:
    """Open the array file made from ``sources``, building it first where needed.

    It lies beside ``sources[0]``, or in the user's cache folder (``MMSEG_AML_CACHE``, else
    ``$XDG_CACHE_HOME/mmseg_aml``) where that folder cannot be written. It is rebuilt when the
    *content* of a source changes: unchanged size, inode, mtime and ctime are taken as proof,
    else the SHA-256 decides. Ranks that start at once wait for the first one to build.

    Args:
        sources: Files it is made from.
        name: File name of the index; a new format of the arrays needs a new name.
        build: Returns (arrays, meta).

    Raises:
        OSError: If no place can be written.
    """
    places = [sources[0].parent / name, _user_cache() / f'{_path_key(sources[0].parent)}-{name}']
    found = _first_fresh(places, sources)
    if found is not None:
        return found
    with _locked(sources[0]):
        found = _first_fresh(places, sources)  # another rank may have built it meanwhile
        if found is not None:
            return found
        stamps = [_stamp(source) for source in sources]
        arrays, meta = build()
        return _store(places, arrays, {**meta, 'sources': stamps})


def _store(places: Sequence[Path], arrays: Mapping[str, np.ndarray], meta: Mapping) -> ArrayFile:
    problems = []
    for place in places:
        try:
            if place is not places[0]:
                place.parent.mkdir(parents=True, exist_ok=True)
            if not place.parent.stat().st_mode & 0o222:
                # root could write here, but the owner wants the folder left alone.
                raise PermissionError(errno.EACCES, 'the folder is read-only')
            write_arrays(place, arrays, meta)
            return ArrayFile(place)
        except OSError as error:
            problems.append(f'{place.parent}: {error.strerror}')
    raise OSError(
        f'cannot store the index of the annotations ({"; ".join(problems)}); '
        'set the environment variable MMSEG_AML_CACHE to a folder that can be written'
    )


def _first_fresh(places: Sequence[Path], sources: Sequence[Path]) -> ArrayFile | None:
    for place in places:
        try:
            file = ArrayFile(place)
            stamps = file.meta['sources']
        except (OSError, ValueError, KeyError):
            continue  # not there, or damaged: rebuilt and replaced
        if len(stamps) == len(sources) and all(map(_same, sources, stamps)):
            return file
    return None


def _stat(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _stamp(path: Path) -> dict[str, Any]:
    """What identifies a source's content.

    A file changed in the last moments could change again within the clock's resolution,
    so its stat is not recorded and its hash decides (git's "racy index").
    """
    stat = _stat(path)
    racy = time.time_ns() - max(stat[1], stat[2]) < _RACY_NS
    return {'stat': None if racy else stat, 'size': stat[0], 'sha256': _sha256(path)}


def _same(path: Path, stamp: Mapping[str, Any]) -> bool:
    stat = _stat(path)
    if stat == stamp['stat']:
        return True
    return stat[0] == stamp['size'] and _sha256(path) == stamp['sha256']


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _user_cache() -> Path:
    if 'MMSEG_AML_CACHE' in os.environ:
        return Path(os.environ['MMSEG_AML_CACHE'])
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'mmseg_aml'


def _path_key(folder: Path) -> str:
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an advisory lock on ``path``; no lock where the file system has none."""
    with open(path, 'rb') as file:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
