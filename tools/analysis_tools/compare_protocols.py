"""Score one model under several protocols, in one evaluation pass.

python tools/analysis_tools/compare_protocols.py CONFIG WEIGHTS [--split testA] [--json OUT]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mmseg_aml  # noqa: F401  its version check and compat layer come first

# isort: split
from mmengine.dist import is_main_process
from mmengine.fileio import dump

from mmseg_aml.evaluation import available_protocols
from mmseg_aml.evaluation.tester import (
    add_test_arguments,
    build_tester,
    load_test_config,
    set_protocols,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_test_arguments(parser)
    known = available_protocols()
    parser.add_argument(
        '--protocols', nargs='+', choices=known, default=list(known), help='default: all'
    )
    parser.add_argument('--json', type=Path, help='also write the scores here')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Test; the metric prints the table."""
    args = parse_args(argv)
    config = load_test_config(args)
    set_protocols(config, args.protocols)
    scores = build_tester(config, args.weights).test()
    if args.json and is_main_process():
        args.json.parent.mkdir(parents=True, exist_ok=True)
        dump(scores, str(args.json), indent=2)
    return scores


if __name__ == '__main__':
    main()
