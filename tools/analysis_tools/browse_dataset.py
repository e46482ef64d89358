"""Write pictures of what a config feeds to the model: photograph, expressions, masks.

    python tools/analysis_tools/browse_dataset.py caris_swin-b_2xb8-50e_refcoco-448x448 \\
        --num 16 --seed 0 --out-dir pictures
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mmengine.registry import init_default_scope
from PIL import Image, ImageDraw, ImageFont

import mmseg_aml  # noqa: F401
from mmseg_aml.command_line import ToolParser, read_config, run
from mmseg_aml.datasets.transforms.resize import resize_nearest
from mmseg_aml.progress import track
from mmseg_aml.registry import DATASETS

COLOR = np.array([220, 20, 60])
FONT_SIZE = 15


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(__doc__)
    parser.add_config()
    parser.add_argument('--dataloader', default='train', choices=['train', 'val', 'test'])
    parser.add_argument('--split', help="split to show instead of the dataloader's own")
    parser.add_argument('--num', type=int, default=16, help='number of images (default: 16)')
    parser.add_argument('--seed', type=int, help='draw the images at random with this seed')
    parser.add_argument(
        '--out-dir',
        type=Path,
        default=Path('work_dirs/browse_dataset'),
        metavar='DIR',
        help='default: %(default)s',
    )
    parser.renamed('--output-dir', '--out-dir')
    return parser.parse_args(argv)


def overlay(image: np.ndarray, mask: np.ndarray) -> Image.Image:
    """Tint the target of ``image`` (H, W, 3) uint8; ``mask`` (H, W) is {0, 1}."""
    tinted = image.copy()
    tinted[mask > 0] = (0.5 * image[mask > 0] + 0.5 * COLOR).astype(np.uint8)
    return Image.fromarray(tinted)


def picture(image: np.ndarray, captions: list[str], masks: np.ndarray) -> Image.Image:
    """The photograph, then a tinted copy per expression, each with its caption, side by side.

    image: (h, w, 3) uint8; masks: (K, H, W) {0, 1}, scaled to the image where they differ.
    """
    masks = resize_nearest(masks, (image.shape[0], image.shape[1]))
    panels = [Image.fromarray(image)] + [overlay(image, mask) for mask in masks]
    width, height = panels[0].size
    font = ImageFont.load_default(FONT_SIZE)
    columns = max(8, int(width / (0.55 * FONT_SIZE)))
    texts = [textwrap.fill(caption, columns) for caption in ['', *captions]]
    band = (FONT_SIZE + 5) * max(text.count('\n') + 1 for text in texts) + 6
    canvas = Image.new('RGB', (len(panels) * (width + 4) - 4, height + band), 'white')
    draw = ImageDraw.Draw(canvas)
    for i, (panel, text) in enumerate(zip(panels, texts)):
        canvas.paste(panel, (i * (width + 4), band))
        draw.multiline_text((i * (width + 4) + 3, 3), text, fill='black', font=font)
    return canvas


def chosen(length: int, num: int, seed: int | None) -> Iterator[int]:
    """The first ``num`` items, or a random choice without replacement."""
    order = np.arange(length) if seed is None else np.random.default_rng(seed).permutation(length)
    yield from order[:num].tolist()


def main(argv: list[str] | None = None) -> None:
    """Build the data set, write one picture per chosen item."""
    args = parse_args(argv)
    config = read_config(args)
    init_default_scope(config.get('default_scope', 'mmseg'))
    options = config[f'{args.dataloader}_dataloader'].dataset
    if args.split:
        options.split = args.split
    dataset = DATASETS.build(options)
    folder = args.out_dir
    folder.mkdir(parents=True, exist_ok=True)
    count = min(args.num, len(dataset))
    for i in track(chosen(len(dataset), args.num, args.seed), 'pictures', 'image', count):
        item = dataset[i]
        samples = item['data_samples'].samples
        masks = np.concatenate([sample.gt_sem_seg.data.numpy() for sample in samples])
        captions = [
            f'{sample.expression} [ref {sample.ref_id}, sent {sample.sent_id}]'
            for sample in samples
        ]
        image = item['inputs'].permute(1, 2, 0).numpy()
        picture(image, captions, masks).save(folder / f'{options.split}_{i:06d}.png')
    print(f'{count} of {len(dataset)} items written to {folder}')


if __name__ == '__main__':
    run(main)
