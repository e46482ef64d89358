"""Checkpoint files read once, with their checksums computed on the way.

``torch.load`` itself takes damaged weights for weights: it does not look at the checksums that
``torch.save`` has written beside each tensor.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

_LOCAL_HEADER = 30  # bytes; then the name and the extra field, whose lengths are its last words


def load_summed(path: str | Path, map_location: Any) -> Any:
    """``torch.load`` of a zip archive that also compares the checksum of every record.

    Raises:
        zipfile.BadZipFile: Naming the record whose checksum is wrong.
    """
    with open(path, 'rb') as file, zipfile.ZipFile(file) as archive:
        summed: Any = _SummedFile(file, archive)
        try:
            return torch.load(summed, map_location=map_location)
        finally:  # damage is the cause, whatever else it has led to
            summed.check()


def fingerprint(path: str | Path) -> int | None:
    """One number of all names and checksums in the archive; None for other formats.

    Only the archive's directory is read, not the weights.
    """
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        names = sorted((info.filename, info.CRC) for info in archive.infolist())
    return zlib.crc32(repr(names).encode())


class _SummedFile(io.RawIOBase):
    """An open archive whose records are summed up while ``torch.load`` reads them.

    What it read in another order, or not at all, is read again by :meth:`check`.
    """

    def __init__(self, file: io.BufferedReader, archive: zipfile.ZipFile) -> None:
        self._file = file
        self._archive = archive
        self._damaged: str | None = None  # raised later: PyTorch's reader takes no exceptions
        self._unchecked = {info.filename: info for info in archive.infolist()}
        # Where the next bytes of a record are expected -> record, checksum so far, bytes to come.
        self._next: dict[int, tuple[zipfile.ZipInfo, int, int]] = {}
        for info in archive.infolist():
            if info.compress_type == zipfile.ZIP_STORED and info.file_size:
                self._next[self._start(info)] = (info, 0, info.file_size)
        file.seek(0)

    def _start(self, info: zipfile.ZipInfo) -> int:
        self._file.seek(info.header_offset)
        header = self._file.read(_LOCAL_HEADER)
        if len(header) < _LOCAL_HEADER:
            raise zipfile.BadZipFile(f'no header of {info.filename}')
        name, extra = struct.unpack('<HH', header[-4:])
        return info.header_offset + _LOCAL_HEADER + name + extra

    def readinto(self, buffer: Any) -> int:
        """Read, and go on with the sum of the record that is at this place."""
        position = self._file.tell()
        count = self._file.readinto(buffer)
        expected = self._next.get(position)
        if expected is not None and count <= expected[2]:
            info, total, left = self._next.pop(position)
            total = zlib.crc32(memoryview(buffer)[:count], total)
            if left > count:
                self._next[position + count] = (info, total, left - count)
            elif total != info.CRC:
                self._damaged = self._damaged or info.filename
            else:
                self._unchecked.pop(info.filename, None)
        return count

    def check(self) -> None:
        """Read the records that were not summed up yet.

        Raises:
            zipfile.BadZipFile: Naming the first record whose checksum is wrong.
        """
        if self._damaged is not None:
            raise zipfile.BadZipFile(f'wrong checksum of {self._damaged}')
        for info in self._unchecked.values():
            try:
                with self._archive.open(info) as record:
                    while record.read(2**20):
                        pass
            except zipfile.BadZipFile as error:
                raise zipfile.BadZipFile(f'wrong checksum of {info.filename}') from error

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
