"""AML in real training: bf16, EMA, gradient accumulation, several processes; and batches."""

from __future__ import annotations

import copy
import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mmseg_aml.engine.bf16_optim_wrapper import Bf16OptimWrapper
from mmseg_aml.engine.distributed import prepare_launcher
from mmseg_aml.registry import MODELS
from mmseg_aml.strategies.aml.afm import AFM
from mmseg_aml.strategies.aml.pmme import PMME
from mmseg_aml.structures import TextFeatures, TextImageFeatures

AML = dict(type='mmseg_aml.AMLLossWrapper')
WEAK = dict(type='mmseg_aml.AFM', threshold=2.0, ratio=0.5)  # every block is weak


# --- what MMEngine adds to training -------------------------------------------


class Scenes(Dataset):
    """Eight items of the fixture ``batch``."""

    metainfo: dict = {}

    def __init__(self, batch):
        data = batch((1,) * 8)
        self.items = list(zip(data['inputs'], data['data_samples']))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        inputs, group = self.items[index]
        return dict(inputs=inputs, data_samples=copy.deepcopy(group))


class Watch(Hook):
    """Notes the loss, a weight and the masked blocks after every iteration."""

    def __init__(self):
        self.losses, self.weights, self.masks = [], [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(outputs['loss'].item())
        self.weights.append(runner.model.decode_head.conv_seg.weight.detach().clone())
        self.masks.append(runner.model.loss_wrapper.last.masked)


@pytest.mark.parametrize('clean_weight', [0.0, 0.5])
def test_bf16_ema_and_accumulation_in_a_runner(build, batch, tmp_path, clean_weight):
    watch = Watch()
    runner = Runner(
        model=build(loss_wrapper=dict(AML, filter=WEAK, clean_weight=clean_weight)),
        work_dir=str(tmp_path),
        train_dataloader=dict(
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
            dataset=Scenes(batch),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(
            type='mmseg_aml.Bf16OptimWrapper',
            optimizer=dict(type='AdamW', lr=1e-3),
            accumulative_counts=2,
        ),
        custom_hooks=[dict(type='EMAHook'), dict(type='mmseg_aml.PMMEHook', interval=1), watch],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        default_scope='mmseg',
        log_level='ERROR',
    )
    runner.train()
    assert all(loss == loss and loss < 10 for loss in watch.losses)
    moved = [not torch.equal(a, b) for a, b in zip(watch.weights, watch.weights[1:])]
    assert moved == [True, False, True]  # of 4 iterations, the 2nd and the 4th update
    assert not torch.equal(watch.masks[0], watch.masks[1])  # each its own draw
    scalar = runner.message_hub.get_scalar('train/aml/masked')
    assert scalar.data[0].tolist() == pytest.approx([0.5] * 4)
    saved = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)
    plain = build().state_dict()
    assert saved['state_dict'].keys() == plain.keys()
    averaged = {k.removeprefix('module.') for k in saved['ema_state_dict']} - {'steps'}
    assert averaged == plain.keys()
    assert all(value.dtype != torch.bfloat16 for value in saved['state_dict'].values())


def step_gradients(model, batches, count, wrapper=OptimWrapper):
    """Gradients right before the update of an optimizer that accumulates ``count`` batches."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    optim = wrapper(optimizer, accumulative_counts=count)
    optim.initialize_count_status(model, 0, len(batches))
    optimizer.zero_grad = lambda **_: None
    for data in batches:
        with optim.optim_context(model):
            losses = model(**model.data_preprocessor(copy.deepcopy(data), True), mode='loss')
            total, _ = model.parse_losses(losses)
        optim.update_params(total)
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def gn_model(build, **wrapper):
    """GroupNorm: batch statistics would tell halves from wholes."""
    head = dict(conftest().segmentor_config()['decode_head'])
    head['norm_cfg'] = dict(type='GN', num_groups=4)
    return build(decode_head=head, loss_wrapper=dict(AML, **wrapper))


def conftest() -> Any:
    """The parts beside this file, also for a process without pytest."""
    spec = importlib.util.spec_from_file_location('parts', Path(__file__).with_name('conftest.py'))
    assert spec and spec.loader
    parts = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(parts)
    return parts


def test_accumulated_halves_equal_the_whole_batch(build, batch):
    """With every block masked, or none, draws play no part."""
    data = batch((1,) * 4)
    halves = [{key: values[i : i + 2] for key, values in data.items()} for i in (0, 2)]
    everything = dict(type='mmseg_aml.AFM', threshold=2.0, ratio=1.0)
    options = dict(filter=everything, clean_weight=0.5)
    whole = step_gradients(gn_model(build, **options), [data], 1)
    accumulated = step_gradients(gn_model(build, **options), halves, 2)
    for name, gradient in whole.items():
        torch.testing.assert_close(accumulated[name], gradient, rtol=1e-3, atol=1e-5)


def test_bf16_gradients_are_those_of_float32_roughly(build, batch):
    """The same blocks are masked, since scores are made in float32; gradients are float32."""
    found = []
    for wrapper in (OptimWrapper, Bf16OptimWrapper):
        model = gn_model(build, filter=WEAK, clean_weight=0.5)
        gradients = step_gradients(model, [batch((1, 1))], 1, wrapper)
        assert all(g.dtype == torch.float32 and g.isfinite().all() for g in gradients.values())
        found.append(
            (model.loss_wrapper.last, torch.cat([g.flatten() for g in gradients.values()]))
        )
    (full, expected), (half, rounded) = found
    assert torch.equal(full.masked, half.masked)
    assert half.scores.dtype == torch.float32
    assert torch.cosine_similarity(expected, rounded, 0) > 0.9


# --- several processes ----------------------------------------------------------


def rank_record(out: str) -> None:
    """Run by every rank: the same batch, one step; rank 0 writes what both did."""
    parts = conftest()
    prepare_launcher('pytorch')
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(parts.segmentor_config(loss_wrapper=dict(AML, filter=WEAK))).train()
    torch.manual_seed(torch.distributed.get_rank())  # as a Runner does
    data = model.data_preprocessor(parts.batch.__wrapped__()((1, 1), size=(128, 128)), True)
    model(**data, mode='loss')
    (product,) = model.loss_wrapper.masker.estimator._products.values()
    own = dict(masked=model.loss_wrapper.last.masked, product=product)
    gathered: list = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, own)
    if torch.distributed.get_rank() == 0:
        torch.save(gathered, out)
    torch.distributed.destroy_process_group()


def test_ranks_mask_other_blocks_by_the_same_projections(root, tmp_path):
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    out = tmp_path / 'ranks.pth'
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2']
        + [f'--master_port={port}', __file__, str(out)],
        env={**os.environ, 'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = torch.load(out, weights_only=True)
    assert not torch.equal(first['masked'], second['masked'])
    assert first['masked'].sum() == second['masked'].sum() == 16  # half of 2 x 16 blocks
    assert torch.equal(first['product'], second['product'])


# --- batches, controls and the temperature ----------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(20, 120), st.integers(20, 120)),
    quantile=st.sampled_from([None, 0.3, 0.8]),
    keep=st.sampled_from([0.0, 0.5]),
)
def test_a_batch_is_filtered_as_its_samples_alone(seed, size, quantile, keep):
    """One generator gives a batch the draws that it gives the samples in turn."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(3, 4, 5, generator=generator)
    targets = torch.rand(3, *size, generator=generator) < 0.2
    inside = [(size[0], size[1]), (size[0] // 2, size[1]), (size[0], size[1] // 3)]
    canvas = conftest().canvas
    threshold = 0.7 if quantile is None else None
    afm = AFM(threshold=threshold, quantile=quantile, ratio=0.6, block_size=16, keep_target=keep)
    view = canvas(size, inside=inside, targets=targets)
    together = afm(scores, view, torch.Generator().manual_seed(seed))
    draws = torch.Generator().manual_seed(seed)
    alone = [
        afm(
            scores[i : i + 1],
            canvas(size, inside=inside[i : i + 1], targets=targets[i : i + 1]),
            draws,
        )
        for i in range(3)
    ]
    assert torch.equal(together.masked, torch.cat([one.masked for one in alone]))
    assert torch.equal(together.weak, torch.cat([one.weak for one in alone]))


def test_random_control_has_the_area_of_the_map_but_not_its_place(build, batch):
    """Step by step the same areas; the map's low scores are hit by 'aligned' alone."""
    aligned = build(loss_wrapper=dict(AML, filter=dict(type='mmseg_aml.AFM', quantile=0.5)))
    options = dict(filter=dict(type='mmseg_aml.AFM', quantile=0.5), control='random')
    random = build(loss_wrapper=dict(AML, **options))
    areas, heights = ([], []), ([], [])
    for step in range(12):
        data = batch((1, 1), size=(128, 160), seed=step)
        for i, model in enumerate((aligned, random)):
            prepared = model.data_preprocessor(copy.deepcopy(data), True)
            with torch.no_grad():
                model(**prepared, mode='loss')
            record = model.loss_wrapper.last
            areas[i].append(record.masked.flatten(1).sum(1))
            above = record.scores - record.scores.mean((1, 2), keepdim=True)
            heights[i].append(float(above[record.masked].mean()))
    assert torch.equal(torch.stack(areas[0]), torch.stack(areas[1]))
    assert sum(heights[0]) / 12 < -0.03
    assert sum(heights[0]) < 2 * sum(heights[1])


@pytest.mark.parametrize('words', [5, 8, 12, 20])
def test_default_temperature_straddles_the_threshold_on_the_blocks_of_caris(words):
    """Features without any signal, 14 x 14 patches of width 1024, tokens of width 768."""
    generator = torch.Generator().manual_seed(words)
    mask = torch.zeros(8, 20, dtype=torch.bool)
    mask[:, :words] = True
    tokens = torch.randn(8, 20, 768, generator=generator)
    visual = torch.randn(8, 1024, 14, 14, generator=generator)
    features = TextImageFeatures((visual,), TextFeatures(tokens, mask, tokens[:, 0]), ())
    view = conftest().canvas((448, 448), 8, features=features)
    default, literal = (
        float(AFM().weak(PMME(**options)(view).scores, view).float().mean())
        for options in ({}, dict(temperature=1.0))
    )
    assert 0.05 < default < 0.9
    assert literal == 1.0  # the formula as written


def test_the_literal_filter_warns_that_it_masks_everything(capsys):
    MODELS.build(dict(type='mmseg_aml.AFM'))
    assert 'masks' not in capsys.readouterr().out
    MODELS.build(dict(type='mmseg_aml.LiteralAFM'))
    assert 'masks (nearly) every weak block' in capsys.readouterr().out


if __name__ == '__main__':
    rank_record(sys.argv[1])
