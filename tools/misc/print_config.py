"""Print a config as it is used, with all that it inherits and overrides.

    python tools/misc/print_config.py aml_caris_swin-b_2xb8-50e_refcoco-448x448 \\
        --key model.loss_wrapper --cfg-options model.loss_wrapper.warmup=0.1

--diff OTHER shows what differs from another config, for example from the plain baseline.
"""

from __future__ import annotations

import argparse
import difflib
from pathlib import Path
from typing import Any

import mmseg_aml  # noqa: F401  its version check and compat layer come first

# isort: split
from mmengine.config import Config

from mmseg_aml.apis.inferencer import find_config
from mmseg_aml.command_line import ToolParser, read_config, run


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(__doc__)
    parser.add_config()
    parser.add_argument('--key', metavar='a.b', help='only this part')
    parser.add_argument('--diff', metavar='OTHER', help='only what differs from this config')
    parser.add_argument('--out', type=Path, metavar='FILE', help='also write the config here')
    return parser.parse_args(argv)


def part(config: Config, key: str | None) -> Config:
    """The config, or a part of it under its own name.

    Raises:
        ValueError: If there is no such part; lists the keys beside it.
    """
    value: Any = config
    for name in key.split('.') if key else ():
        if isinstance(value, (list, tuple)) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        elif not isinstance(value, (list, tuple)) and hasattr(value, 'keys') and name in value:
            value = value[name]
        else:
            there = list(value.keys()) if hasattr(value, 'keys') else type(value).__name__
            raise ValueError(f'no {name!r} of {key!r}; there is {there}')
    return Config({key.rsplit('.', 1)[-1]: value}) if key else config


def main(argv: list[str] | None = None) -> None:
    """Print, and write if asked to."""
    args = parse_args(argv)
    config = read_config(args)
    text = part(config, args.key).pretty_text
    if args.diff:
        other = part(Config.fromfile(find_config(args.diff)), args.key).pretty_text
        names = Path(args.diff).stem, Path(args.config).stem
        lines = difflib.unified_diff(other.splitlines(), text.splitlines(), *names, lineterm='')
        print('\n'.join(lines) or 'no difference')
    else:
        print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        config.dump(args.out)


if __name__ == '__main__':
    run(main)
