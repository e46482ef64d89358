"""Speed of the hosts: a training step, inference, and expressions grouped by image.

    python benchmarks/hosts.py --json benchmarks/results/hosts_cpu.json
    python benchmarks/hosts.py --sizes small            # seconds instead of minutes
    python benchmarks/hosts.py --device cuda --amp --compile --json ...

For CARIS and LAVT, at the published size (448 and 480) and at a small one, with random
weights: seconds per expression of a training step (forward, backward, AdamW), of inference
with one expression, and of inference with 7 expressions of one image together. Ways that
are compared run in turn within every round; ratios are medians over the rounds. On a CPU
times are CPU seconds.

``one_by_one / grouped`` is what grouping alone brings: every expression keeps its own
decoder pass, so it is bounded by the share of the image tower. CARIS has a third way,
``published``: one by one with the arithmetic of the release (``published_arithmetic.py``),
which is what the release's evaluation computes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from published_arithmetic import published_arithmetic
from torch import Tensor

import mmseg_aml.models  # noqa: F401  registers
from mmseg_aml.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[1] / 'configs/_base_/models'
EXPRESSIONS = [
    'the man on the left',
    'woman in the red shirt',
    'second dog from the right',
    'blue car behind the tree',
    'largest pizza',
    'boy with a baseball bat near the fence',
    'chair closest to us',
]
BERT = dict(model_type='bert', vocab_size=30522)
SMALL_BERT = dict(
    BERT, hidden_size=128, num_hidden_layers=4, num_attention_heads=4, intermediate_size=512
)
SIZES = {
    ('caris', 'full'): 448,
    ('lavt', 'full'): 480,
    ('caris', 'small'): 128,
    ('lavt', 'small'): 128,
}


def build(host: str, size: str) -> Any:
    """The host with random weights; ``small`` has a Swin of width 32 and a BERT of 4 layers."""
    config = Config.fromfile(CONFIGS / f'{host}_swin-b.py').model
    config.backbone.init_cfg = None
    bert = BERT if size == 'full' else SMALL_BERT
    config.text_encoder.update(name=None, tokenizer='tiny', config=bert)
    config.decode_head.pop('norm_cfg', None)  # SyncBN needs a process group
    if size == 'small':
        widths = (32, 64, 128, 256)
        config.backbone.update(
            embed_dims=32, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window_size=4
        )
        config.decode_head.in_channels = widths
        if host == 'caris':
            config.text_encoder.visual_channels = widths[-1]
            config.decode_head.update(channels=64, text_channels=128, num_layers=3)
        else:
            config.backbone.text_channels = 128
    model = MODELS.build(config)
    for name, parameter in model.named_parameters():
        if 'sampling_offsets.weight' in name:  # starts at zero, where samples lie in order
            torch.nn.init.normal_(parameter, std=0.02)
    return model


def samples_for(images: int, per_image: int, size: int) -> list[SegDataSample]:
    """``per_image`` expressions for each image, with ground truth."""
    samples = []
    for row in range(images * per_image):
        mask = torch.zeros(1, size, size, dtype=torch.uint8)
        mask[:, : size // 2] = 1
        sample = SegDataSample(gt_sem_seg=PixelData(data=mask))
        sample.set_metainfo(
            dict(
                image_index=row // per_image,
                expression=EXPRESSIONS[row % len(EXPRESSIONS)],
                img_shape=(size, size),
                pad_shape=(size, size),
                ori_shape=(size, size),
            )
        )
        samples.append(sample)
    return samples


class Bench:
    """One host at one size on one device."""

    def __init__(self, host: str, size: str, args: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.args, self.pixels = args, SIZES[host, size]
        self.model = build(host, size).to(args.device)
        if args.compile:
            self.model.backbone.compile()
            # mmseg calls the head's forward by name, which Module.compile() leaves as it is
            self.model.decode_head.forward = torch.compile(self.model.decode_head.forward)
        self.image = torch.randn(1, 3, self.pixels, self.pixels, device=args.device)

    def seconds(self, run: Callable[[], object]) -> float:
        """CPU seconds of one call, or wall seconds until the GPU is done."""
        cuda = self.args.device == 'cuda'
        clock = time.perf_counter if cuda else time.process_time
        if cuda:
            torch.cuda.synchronize()
        start = clock()
        with torch.autocast(self.args.device, torch.bfloat16, enabled=self.args.amp):
            run()
        if cuda:
            torch.cuda.synchronize()
        return clock() - start

    def rounds(
        self, ways: dict[str, Callable[[], object]], per: int
    ) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Median seconds per expression of each way, and all rounds.

        A first round warms up, and shows that the ways give the same.
        """
        outputs = [run() for run in ways.values()]
        if isinstance(outputs[0], Tensor):
            for output in outputs[1:]:
                torch.testing.assert_close(output, outputs[0], atol=1e-3, rtol=1e-3)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(self.args.repeats):
            for name, run in ways.items():
                times[name].append(self.seconds(run) / per)
        return {name: statistics.median(values) for name, values in times.items()}, times

    def inference(self, published: bool) -> dict[str, Any]:
        """One by one against grouped, and against the release's arithmetic."""
        self.model.eval()
        count = len(EXPRESSIONS)
        group = samples_for(1, count, self.pixels)
        each = [[sample] for sample in group]

        @torch.inference_mode()
        def grouped() -> Tensor:
            return self.model.encode_decode(self.image, group)

        @torch.inference_mode()
        def one_by_one() -> Tensor:
            return torch.cat([self.model.encode_decode(self.image, one) for one in each])

        def as_published() -> Tensor:
            with published_arithmetic():
                return one_by_one()

        ways: dict[str, Callable[[], Tensor]] = dict(grouped=grouped, one_by_one=one_by_one)
        if published:
            ways['published'] = as_published
        medians, times = self.rounds(ways, count)
        ratios = {
            f'{name} / grouped': statistics.median(
                a / b for a, b in zip(times[name], times['grouped'])
            )
            for name in times
            if name != 'grouped'
        }
        return dict(seconds_per_expression=medians, ratios=ratios)

    def training(self, batch: int, published: bool) -> dict[str, Any]:
        """A step of plain training, one expression per image."""
        self.model.train()
        samples = samples_for(batch, 1, self.pixels)
        images = self.image.expand(batch, -1, -1, -1)
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)

        def step(context: Any = contextlib.nullcontext) -> None:
            with context():
                (loss,) = self.model.loss(images, samples).values()
                loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        ways: dict[str, Callable[[], object]] = dict(ours=step)
        if published:
            ways['published'] = lambda: step(published_arithmetic)
        medians, times = self.rounds(ways, batch)
        result: dict[str, Any] = dict(seconds_per_expression=medians, batch=batch)
        if published:
            pairs = zip(times['published'], times['ours'])
            result['ratios'] = {'published / ours': statistics.median(a / b for a, b in pairs)}
        return result


def measure(host: str, size: str, args: argparse.Namespace) -> dict[str, Any]:
    """All figures of one host at one size."""
    bench = Bench(host, size, args)
    published = host == 'caris' and not args.compile
    parameters = sum(p.numel() for p in bench.model.parameters())
    result = dict(pixels=bench.pixels, parameters=parameters)
    result['inference'] = bench.inference(published)
    result['training'] = bench.training(args.batch or (2 if size == 'small' else 1), published)
    return result


def main() -> None:
    """Command line; see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--hosts', nargs='+', default=['caris', 'lavt'], choices=['caris', 'lavt'])
    parser.add_argument('--sizes', nargs='+', default=['small', 'full'], choices=['small', 'full'])
    parser.add_argument('--repeats', type=int, default=3, help='rounds after the warm-up')
    parser.add_argument('--batch', type=int, help='images of a training step (small 2, full 1)')
    parser.add_argument('--device', default='cpu', choices=['cpu', 'cuda'])
    parser.add_argument('--threads', type=int, default=1, help='CPU threads')
    parser.add_argument('--amp', action='store_true', help='autocast to bfloat16')
    parser.add_argument('--compile', action='store_true', help='torch.compile the two towers')
    parser.add_argument('--json', type=Path, help='where to write the figures')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    machine = torch.cuda.get_device_name() if args.device == 'cuda' else platform.machine()
    report: dict[str, Any] = dict(
        machine=machine,
        device=args.device,
        threads=args.threads,
        torch=torch.__version__,
        amp=args.amp,
        compile=args.compile,
        repeats=args.repeats,
        expressions_per_image=len(EXPRESSIONS),
    )
    for host in args.hosts:
        for size in args.sizes:
            name = f'{host} {size}'
            report[name] = measure(host, size, args)
            print(name, json.dumps(report[name], indent=1), flush=True)
            if args.json:
                args.json.parent.mkdir(parents=True, exist_ok=True)
                args.json.write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    main()
