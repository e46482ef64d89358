"""Score one model under several protocols, in one evaluation pass.

    python tools/analysis_tools/compare_protocols.py caris_swin-b_2xb8-50e_refcoco-448x448 \\
        caris.pth --split testA --json scores.json
"""

from __future__ import annotations

import argparse

import mmseg_aml  # noqa: F401  its version check and compat layer come first

# isort: split
from mmengine.dist import is_main_process

from mmseg_aml.command_line import ToolParser, run, write_json
from mmseg_aml.evaluation import available_protocols
from mmseg_aml.evaluation.tester import (
    add_test_arguments,
    build_tester,
    load_test_config,
    set_protocols,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(__doc__)
    add_test_arguments(parser)
    known = available_protocols()
    parser.add_argument(
        '--protocol', nargs='+', choices=known, default=list(known), help='default: all'
    )
    parser.renamed('--protocols', '--protocol')
    parser.add_json('the scores')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Test; the metric prints the table."""
    args = parse_args(argv)
    config = load_test_config(args)
    set_protocols(config, args.protocol)
    scores = build_tester(config, args.weights).test()
    if is_main_process():
        write_json(args.json, scores)
    return scores


if __name__ == '__main__':
    run(main)
