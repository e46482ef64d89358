"""Segment what a sentence means, in one image.

python demo/image_demo.py IMAGE EXPRESSION CONFIG WEIGHTS [--out PICTURE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from mmseg_aml.apis import RISInferencer


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Segment what a sentence means, in one image.')
    parser.add_argument('image', help='image file')
    parser.add_argument('expression', help='such as "the giraffe closest to the people"')
    parser.add_argument('config', help='config file, or its name without .py')
    parser.add_argument('weights', help='checkpoint of that config')
    parser.add_argument('--device', help='such as cuda:0; default: the best one there is')
    parser.add_argument('--out', type=Path, default=Path('image_demo.png'), help='picture to write')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    segment = RISInferencer(args.config, args.weights, device=args.device)
    prediction = segment(args.image, args.expression)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(prediction.picture).save(args.out)
    share = 100 * prediction.mask.mean()
    print(f'{args.expression!r}: {share:.1f} % of the image; picture in {args.out}')


if __name__ == '__main__':
    main()
