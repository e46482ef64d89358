"""Train a tokenizer on the training sentences of a data set in REFER layout, in any language.

    python tools/dataset_converters/ref_shapes.py data/ref_shapes_ko --language ko
    python tools/dataset_converters/train_tokenizer.py data/ref_shapes_ko refshapes data/ko_words
    REF_SHAPES_ROOT=data/ref_shapes_ko python tools/train.py CONFIG \\
        --cfg-options model.text_encoder.tokenizer=data/ko_words

For towers without pretrained weights: pretrained ones come with the tokenizer they know.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmseg_aml.command_line import ToolParser, run
from mmseg_aml.datasets.refer import ReferIndex
from mmseg_aml.datasets.trained_tokenizer import KINDS, train_tokenizer


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line; see the top of this file."""
    parser = ToolParser(__doc__)
    parser.add_argument('data_root', type=Path, help='folder that holds the data set')
    parser.add_argument('dataset', help='its name, e.g. refshapes or refcoco')
    parser.add_argument('folder', type=Path, help='where the tokenizer goes')
    parser.add_argument('--kind', default='wordpiece', choices=sorted(KINDS))
    parser.add_argument('--vocab-size', type=int, default=2000)
    parser.add_argument('--split', default='train')
    return parser.parse_args(argv)


def training_sentences(root: Path, dataset: str, split: str) -> list[str]:
    """All sentences of one split."""
    index = ReferIndex.open(root, dataset)
    return [s.sent for row in index.rows(split) for s in index.ref(row).sentences]


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    sentences = training_sentences(args.data_root, args.dataset, args.split)
    tokenizer = train_tokenizer(sentences, args.kind, args.vocab_size)
    tokenizer.save_pretrained(args.folder)
    example = sentences[0]
    print(f'{args.folder}: {len(tokenizer)} tokens from {len(sentences)} sentences')
    print(f'{example}  ->  {" ".join(tokenizer.tokenize(example))}')


if __name__ == '__main__':
    run(main)
