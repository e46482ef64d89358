"""Write ``configs/*/metafile.yaml`` and ``model-index.yml``, which ``mim`` reads.

Run it after adding a config:

    python tools/write_metafiles.py

Names follow
``{strategy}_{host}_{backbone}_{GPUs x batch}-{epochs}e_{dataset}-{height}x{width}[_published]``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from mmseg_aml.command_line import ToolParser, run

ROOT = Path(__file__).resolve().parents[1]
PAPERS = {
    'aml': ('Alignment-aware Masked Learning', 'https://arxiv.org/abs/2602.22740'),
    'caris': (
        'CARIS: Context-Aware Referring Image Segmentation',
        'https://doi.org/10.1145/3581783.3612117',
    ),
    'detris': (
        'DETRIS: Densely Connected Parameter-Efficient Tuning',
        'https://arxiv.org/abs/2501.08580',
    ),
    'rela': (
        'GRES: Generalized Referring Expression Segmentation',
        'https://arxiv.org/abs/2306.00968',
    ),
    'lavt': ('LAVT: Language-Aware Vision Transformer', 'https://arxiv.org/abs/2112.02244'),
    'maskris': (
        'MaskRIS: Semantic Distortion-aware Data Augmentation',
        'https://arxiv.org/abs/2411.19067',
    ),
    'vipa': ('VIPA', 'https://arxiv.org/abs/2602.14788'),
}
NAME = re.compile(
    r'(?P<model>.+)_(?P<gpus>\d+)xb(?P<batch>\d+)-(?P<length>\d+)(?P<unit>e|k)_'
    r'(?P<data>.+)-(?P<size>\d+x\d+)(_.+)?'
)


def model_entry(config: Path, collection: str) -> dict[str, Any]:
    """The model of one config.

    Raises:
        ValueError: If the name does not follow the pattern.
    """
    parts = NAME.fullmatch(config.stem)
    if parts is None:
        raise ValueError(
            f'{config.name} does not follow the naming scheme, see {Path(__file__).name}'
        )
    length = int(parts['length'])
    duration = {'Epochs': length} if parts['unit'] == 'e' else {'Iterations': length * 1000}
    return {
        'Name': config.stem,
        'In Collection': collection,
        'Config': config.relative_to(ROOT).as_posix(),
        'Metadata': {
            'Training Data': parts['data'],
            **duration,
            'Batch Size': int(parts['gpus']) * int(parts['batch']),
        },
        'Results': [
            {'Task': 'Referring Image Segmentation', 'Dataset': parts['data'], 'Metrics': {}}
        ],
    }


def metafile(folder: Path) -> dict[str, Any]:
    """The collection and models of one config folder."""
    collection: dict[str, Any] = {'Name': folder.name, 'License': 'Apache-2.0'}
    if folder.name in PAPERS:
        title, url = PAPERS[folder.name]
        collection['Paper'] = {'Title': title, 'URL': url}
    configs = sorted(folder.glob('*.py'))
    return {
        'Collections': [collection],
        'Models': [model_entry(config, folder.name) for config in configs],
    }


def contents() -> dict[Path, str]:
    """Every file to write, with its text."""
    folders = sorted(p for p in (ROOT / 'configs').glob('[!_]*') if any(p.glob('*.py')))
    files: dict[Path, Any] = {folder / 'metafile.yaml': metafile(folder) for folder in folders}
    index = [path.relative_to(ROOT).as_posix() for path in files]
    files[ROOT / 'model-index.yml'] = {'Import': index}
    return {path: yaml.safe_dump(value, sort_keys=False) for path, value in files.items()}


def main(argv: list[str] | None = None) -> None:
    """Write all files, and name them."""
    ToolParser(__doc__).parse_args(argv)
    for path, text in contents().items():
        path.write_text(text, encoding='utf-8')
        print(path.relative_to(ROOT))


if __name__ == '__main__':
    run(main)
