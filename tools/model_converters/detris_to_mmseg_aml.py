"""Convert released DETRIS checkpoints to mmseg_aml and back.

    python tools/model_converters/detris_to_mmseg_aml.py best_model.pth detris_refcoco.pth
    python tools/model_converters/detris_to_mmseg_aml.py detris_refcoco.pth official.pth --reverse

Whatever has no place in the target is listed. Weights of DETRIS that it never uses are kept
under ``official_extra``, so that --reverse gives all of them back; the states of the
optimizer and of its schedule are not converted.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

import mmseg_aml  # noqa: F401  the compat layer comes before mmseg's own modules
from mmseg_aml.command_line import ToolParser, run
from mmseg_aml.models.checkpoints import load_file
from mmseg_aml.models.checkpoints.detris import checkpoint_from_ours, checkpoint_to_ours

CONVERTED = {'epoch', 'cur_iou', 'best_iou', 'prec', 'state_dict', 'meta', 'official_extra'}


def tell(title: str, keys: Iterable[str]) -> None:
    """Print a list of keys, if there are any."""
    keys = sorted(keys)
    if keys:
        print(f'{title} ({len(keys)}):', *keys, sep='\n  ')


def main(argv: list[str] | None = None) -> None:
    """Command line; see the top of this file."""
    parser = ToolParser(__doc__)
    parser.add_argument('source', type=Path, help='checkpoint to read')
    parser.add_argument('target', type=Path, help='checkpoint to write')
    parser.add_argument('--reverse', action='store_true', help='from mmseg_aml to DETRIS')
    args = parser.parse_args(argv)
    source = load_file(args.source)
    if args.reverse:
        result = checkpoint_from_ours(source)
    else:
        result, found = checkpoint_to_ours(source)
        tell('unknown to DETRIS, kept under official_extra', found.unknown)
        unused = found.extra.keys() - set(found.unknown)
        tell('never used by DETRIS, kept under official_extra', unused)
    tell('entries of the file that are not converted', source.keys() - CONVERTED)
    args.target.parent.mkdir(parents=True, exist_ok=True)
    torch.save(result, args.target)
    print(f'wrote {args.target}')


if __name__ == '__main__':
    run(main)
