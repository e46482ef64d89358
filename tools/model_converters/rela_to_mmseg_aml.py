"""Convert released ReLA checkpoints to mmseg_aml and back.

    python tools/model_converters/rela_to_mmseg_aml.py gres_swin_base.pth rela.pth
    python tools/model_converters/rela_to_mmseg_aml.py rela.pth official.pth --reverse

Whatever has no place in the target is listed. Weights of ReLA without a place in our model
are kept under ``official_extra``, so that --reverse gives all of them back; the states of
the optimizer and of its schedule are not converted.

The published loader never reads the weight of the region-language attention from a file and
leaves it at 0: --skip-lang-weight does the same, for published numbers. If all language gates
of the tower are closed (as after the published training), the result is for our configs, whose
tower runs once per image; --keep-gates makes one for ``mmseg_aml.LAVTSwinTransformer`` instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

import mmseg_aml  # noqa: F401  the compat layer comes before mmseg's own modules
from mmseg_aml.command_line import ToolParser, run
from mmseg_aml.models.checkpoints import load_file
from mmseg_aml.models.checkpoints.rela import (
    LANG_WEIGHT,
    checkpoint_from_ours,
    checkpoint_to_ours,
)

CONVERTED = {'model', 'iteration', 'state_dict', 'meta', 'official_extra'}


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
    parser.add_argument('--reverse', action='store_true', help='from mmseg_aml to ReLA')
    parser.add_argument(
        '--skip-lang-weight', action='store_true', help='leave it at 0, as the published loader'
    )
    parser.add_argument('--keep-gates', action='store_true', help='even if all are closed')
    args = parser.parse_args(argv)
    if args.reverse and (args.skip_lang_weight or args.keep_gates):
        parser.error('--skip-lang-weight and --keep-gates are of the way to mmseg_aml')
    source = load_file(args.source)
    if args.reverse:
        result = checkpoint_from_ours(source)
    else:
        result, found = checkpoint_to_ours(
            source, skip_lang_weight=args.skip_lang_weight, keep_gates=args.keep_gates
        )
        tell('unknown to ReLA, kept under official_extra', found.unknown)
        extra = found.extra.keys() - set(found.unknown)
        tell('without a place or an effect here, kept under official_extra', extra)
        if not args.skip_lang_weight:
            value = found.state['decode_head.language.weight'].item()
            print(f'{LANG_WEIGHT} = {value:.4g}; the published loader leaves it at 0')
        if not result['meta']['official']['shared']:
            print(
                'with language gates: use backbone=mmseg_aml.LAVTSwinTransformer and no fusion, '
                'see docs/hosts.md'
            )
    tell('entries of the file that are not converted', source.keys() - CONVERTED)
    args.target.parent.mkdir(parents=True, exist_ok=True)
    torch.save(result, args.target)
    print(f'wrote {args.target}')


if __name__ == '__main__':
    run(main)
