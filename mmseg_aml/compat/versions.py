"""Which PyTorch and which OpenMMLab packages are supported, asked before they are imported."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

# Import name -> (lowest version, first version that is too new).
Ranges = dict[str, tuple[str, str]]


class Stack(NamedTuple):
    """OpenMMLab's packages as one lineage publishes them."""

    distributions: tuple[str, ...]  # prefixes: mmcv also comes as mmcv-lite
    ranges: Ranges
    install: str


OPENMMLAB = Stack(
    ('mmengine', 'mmcv', 'mmsegmentation'),
    {'mmengine': ('0.10.3', '1.0'), 'mmcv': ('2.0.0', '2.2.0'), 'mmseg': ('1.2.0', '2.0')},
    'pip install mmengine==0.10.7 mmcv-lite==2.1.0 mmsegmentation==1.2.2'
    '  (or full mmcv: mim install "mmcv>=2.0.0,<2.2.0")',
)
# Maintained forks with the same import names.
ONEDL = Stack(
    ('onedl-mmengine', 'onedl-mmcv', 'onedl-mmsegmentation'),
    {'mmengine': ('0.10.12', '0.11'), 'mmcv': ('2.3.6', '2.4'), 'mmseg': ('1.4.2', '1.5')},
    'pip install onedl-mmengine==0.10.12 onedl-mmcv==2.3.6 onedl-mmsegmentation==1.4.2',
)
TORCH = ('2.6', ''), 'see https://pytorch.org/get-started for your CUDA version'


def version_tuple(version: str) -> tuple[int, ...]:
    """``'2.13.0+cpu'`` -> ``(2, 13, 0)``; ``'2.0.0rc4'`` -> ``(2, 0, 0)``."""
    numbers = re.match(r'\d+(\.\d+)*', version)
    return tuple(int(part) for part in numbers.group().split('.')) if numbers else ()


def check_versions() -> None:
    """Compare what is installed with the supported ranges.

    Raises:
        ImportError: Naming the package, its version, the range and the command to run.
    """
    _check('torch', *TORCH)
    stack = installed_stack()
    for name, range_ in stack.ranges.items():
        _check(name, range_, stack.install)


def installed_stack() -> Stack:
    """The lineage that is installed; OpenMMLab's where none is, or where neither has metadata.

    Raises:
        ImportError: If both are: they write the same folders.
    """
    names = _names_in(sys.path)
    originals, forks = _of(OPENMMLAB, names), _of(ONEDL, names)
    if originals and forks:
        both = ' '.join(originals + forks)
        raise ImportError(
            f'packages of OpenMMLab and of OneDL, which share their folders, are mixed: {both}. '
            f'pip uninstall {both}; then {OPENMMLAB.install}, or {ONEDL.install}'
        )
    return ONEDL if forks else OPENMMLAB


def _names_in(path: list[str]) -> set[str]:
    """By the names of their metadata folders: a tenth of the time that reading the files takes."""
    folders = (Path(entry or '.') for entry in dict.fromkeys(path))
    found = (
        re.fullmatch(r'(.+?)(-\d.*)?\.(dist|egg)-info', entry.name)
        for folder in folders
        if folder.is_dir()
        for entry in os.scandir(folder)
    )
    return {match.group(1) for match in found if match}


def _of(stack: Stack, names: set[str]) -> list[str]:
    normal = {re.sub(r'[-_.]+', '-', name).lower() for name in names}
    variants = re.compile('|'.join(f'{name}(-lite|-full|-cu.*)?' for name in stack.distributions))
    return sorted(name for name in normal if variants.fullmatch(name))


def _check(name: str, range_: tuple[str, str], mend: str) -> None:
    lowest, too_new = range_
    wanted = f'>={lowest}' + (f',<{too_new}' if too_new else '')
    if name not in sys.modules and importlib.util.find_spec(name) is None:
        raise ImportError(f'mmseg_aml needs {name}{wanted}, which is missing: {mend}')
    found = _version_of(name)
    version = version_tuple(found)
    if version < version_tuple(lowest) or (too_new and version >= version_tuple(too_new)):
        raise ImportError(f'mmseg_aml needs {name}{wanted}, but {found} is installed: {mend}')


def _version_of(name: str) -> str:
    # mmseg asserts mmcv's version when it is imported; reading its version file lets the
    # clearer message above come first, whatever the order.
    spec = importlib.util.find_spec(name)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        source = importlib.machinery.PathFinder.find_spec('version', [folder])
        if source and source.origin:
            with open(source.origin, encoding='utf-8') as file:
                found = re.search(r"^__version__\b[^=]*= *['\"]([^'\"]+)", file.read(), re.M)
            if found:
                return found.group(1)
    return importlib.import_module(name).__version__
