"""Segment what a sentence means, in one image.

    python demo/image_demo.py photo.jpg "the dog on the left" \\
        caris_swin-b_2xb8-50e_refcoco-448x448_published caris.pth --out dog.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from mmseg_aml.apis import RISInferencer
from mmseg_aml.command_line import ToolParser, read_config, run


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('image', help='image file')
    parser.add_argument('expression', help='such as "the giraffe closest to the people"')
    parser.add_config()
    parser.add_weights()
    parser.add_argument('--device', help='such as cuda:0; default: the best one there is')
    parser.add_argument('--out', type=Path, default=Path('image_demo.png'), help='picture to write')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    segment = RISInferencer(read_config(args), args.weights, device=args.device)
    prediction = segment(args.image, args.expression)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(prediction.picture).save(args.out)
    share = 100 * prediction.mask.mean()
    print(f'{args.expression!r}: {share:.1f} % of the image; picture in {args.out}')


if __name__ == '__main__':
    run(main)
