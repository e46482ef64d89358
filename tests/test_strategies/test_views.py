"""Views, the masker, controls and contracts: what a step sees, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from mmseg_aml.registry import MODELS
from mmseg_aml.strategies.aml.pmme import PMME
from mmseg_aml.strategies.base import Alignment, View
from mmseg_aml.strategies.masking.controls import partners

AML = dict(type='mmseg_aml.AMLLossWrapper')
WEAK = dict(type='mmseg_aml.AFM', threshold=2.0, ratio=0.5, block_size=16)


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


def losses_of(model, data):
    return model(**model.data_preprocessor(copy.deepcopy(data), True), mode='loss')


def runner_of(model, batch, work_dir, hooks=(), **options):
    config = dict(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
            dataset=Scenes(batch),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)),
        custom_hooks=list(hooks),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        default_scope='mmseg',
        log_level='ERROR',
    )
    return Runner(**{**config, **options})


# --- seeds -----------------------------------------------------------------------


def test_the_seed_of_the_run_reaches_projections_and_draws(build, batch):
    """``randomness.seed`` is what RuntimeInfoHook tells the message hub."""

    def step(run, **options):
        MessageHub.get_instance('run').update_info('seed', run)
        model = build(loss_wrapper=dict(AML, filter=WEAK, **options))
        losses_of(model, batch(size=(64, 64)))
        return model.loss_wrapper.last

    first, again, other = step(0), step(0), step(1)
    assert torch.equal(first.scores, again.scores) and torch.equal(first.masked, again.masked)
    assert not torch.equal(first.scores, other.scores)
    assert not torch.equal(first.masked, other.masked)
    own = dict(seed=3, estimator=dict(type='mmseg_aml.PMME', seed=3))
    fixed = [step(run, **own) for run in (0, 1)]
    assert torch.equal(fixed[0].scores, fixed[1].scores)
    assert torch.equal(fixed[0].masked, fixed[1].masked)


def test_a_runner_hands_its_seed_on(build, batch, tmp_path):
    products = []
    for seed in (0, 1):
        model = build(loss_wrapper=AML)
        runner_of(
            model,
            batch,
            tmp_path / str(seed),
            randomness=dict(seed=seed),
            experiment_name=f'seed{seed}',
        ).train()
        products += model.loss_wrapper.masker.estimator._products.values()
    assert len(products) == 2 and not torch.equal(*products)


def test_projections_of_neighbouring_seeds_share_nothing():
    matrices = [part for seed in range(3) for part in PMME(dim=8).projections(5, 5, seed)]
    assert len({str(matrix) for matrix in matrices}) == 6


# --- stage 1 -----------------------------------------------------------------------


def test_stage1_is_in_eval_mode_and_draws_nothing(build, batch, segmentor_config):
    """With drop path, two maps of one sample are the same, and global generators stay."""
    overrides = segmentor_config()['backbone']
    model = build(loss_wrapper=AML, backbone=dict(overrides, drop_path_rate=0.5, drop_rate=0.3))
    training: list = []
    model.backbone.register_forward_pre_hook(lambda module, _: training.append(module.training))
    data = batch()
    maps = []
    for _ in range(2):
        losses_of(model, data)
        maps.append(model.loss_wrapper.last.scores)
    assert training == [False, True] * 2  # stage 1, then the masked view
    assert torch.equal(*maps)
    assert all(part.training for part in model.modules())
    before = torch.get_rng_state()
    view = View(model, *model.data_preprocessor(copy.deepcopy(data), True).values(), learns=False)
    assert not view.features.visual[0].requires_grad
    assert torch.equal(torch.get_rng_state(), before)


def test_frozen_parts_stay_frozen_after_stage1(build, batch):
    model = build(loss_wrapper=AML)
    model.text_encoder.eval()
    losses_of(model, batch())
    assert model.training and model.decode_head.training
    assert not any(part.training for part in model.text_encoder.modules())


def test_an_oracle_needs_no_stage1(build, batch):
    oracle = dict(type='mmseg_aml.GroundTruth')
    model = build(loss_wrapper=dict(AML, estimator=oracle, filter=WEAK))
    calls = []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    losses_of(model, batch())
    assert len(calls) == 1
    assert model.loss_wrapper.last.scores.shape == (2, 64, 96)


class HeadEstimator(nn.Module):
    """The network's own prediction as the map."""

    def forward(self, view):
        return Alignment(view.output.detach().sigmoid()[:, 0])


@pytest.mark.parametrize('clean_weight', [0.0, 0.5])
def test_an_estimator_may_see_the_head_once(build, batch, clean_weight):
    expected = losses_of(build(), batch())['decode.loss_ce']
    model = build(loss_wrapper=dict(AML, clean_weight=clean_weight, filter=WEAK))
    model.loss_wrapper.masker.estimator = HeadEstimator()
    calls = []
    model.decode_head.fusion_conv.register_forward_hook(lambda *_: calls.append(1))
    losses = losses_of(model, batch())
    assert len(calls) == 2  # the clean view's and the masked view's, no third
    if clean_weight:
        torch.testing.assert_close(losses['decode.loss_ce'], expected * clean_weight)
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in model.parameters())


# --- several sentences about an image ------------------------------------------------


def test_what_is_not_masked_shares_the_clean_image(build, batch):
    """Two images, 3 + 2 sentences: rows of the second pass = masked ones + images left."""
    model = build(loss_wrapper=dict(AML, filter=WEAK))
    data = batch((3, 2))
    for sample in (data['data_samples'][0].samples[1], data['data_samples'][0].samples[2]):
        sample.gt_sem_seg.data.zero_()  # nothing of them is masked
    rows = []
    model.backbone.register_forward_hook(lambda _, args, __: rows.append(len(args[0])))
    losses_of(model, data)
    dark = model.loss_wrapper.last.masked.flatten(1).any(1)
    assert dark.tolist() == [True, False, False, True, True]
    assert rows == [2, 4]


def test_sharing_changes_no_loss(build, batch):
    """The same loss as with an image of its own for every sentence (statistics aside)."""
    data = batch((2, 1), size=(64, 64))
    data['data_samples'][0].samples[0].gt_sem_seg.data.zero_()
    alone = dict(inputs=[], data_samples=[])
    for image, group in zip(data['inputs'], data['data_samples']):
        for sample in group.samples:
            alone['inputs'].append(image)
            alone['data_samples'].append(type(group)([sample]))
    together, single = (
        losses_of(build(loss_wrapper=dict(AML, filter=WEAK)).eval(), one) for one in (data, alone)
    )
    torch.testing.assert_close(together['aml.decode.loss_ce'], single['aml.decode.loss_ce'])


@pytest.mark.parametrize('clean_weight', [0.0, 0.5])
def test_sentences_are_tokenised_once(build, batch, monkeypatch, clean_weight):
    model, calls = build(loss_wrapper=dict(AML, clean_weight=clean_weight)), []
    tokenize = model.text_encoder.tokenize

    def counted(texts):
        calls.append(texts)
        return tokenize(texts)

    monkeypatch.setattr(model.text_encoder, 'tokenize', counted)
    losses_of(model, batch((2, 1)))
    assert len(calls) == 1


# --- controls ----------------------------------------------------------------------------


def samples(images):
    return [type('S', (), dict(metainfo=dict(image_index=image)))() for image in images]


def test_controls_take_the_right_partner():
    images = [0, 0, 0, 1, 1, 2]
    other_image = partners('other-image', samples(images))
    assert all(images[row] != images[partner] for row, partner in enumerate(other_image))
    assert partners('other-sentence', samples(images)) == [1, 2, 0, 4, 3, None]
    with pytest.raises(ValueError, match='two images per batch'):
        partners('other-image', samples([0, 0]))
    with pytest.raises(ValueError, match='two sentences about an image'):
        partners('other-sentence', samples([0, 1]))


def test_controls_in_a_step(build, batch):
    data = batch((2, 1), size=(64, 64))
    scores = {}
    for control in (None, 'other-image', 'other-sentence'):
        model = build(loss_wrapper=dict(AML, filter=WEAK, control=control))
        losses_of(model, data)
        scores[control] = model.loss_wrapper.last.scores
        if control == 'other-sentence':
            assert not model.loss_wrapper.last.masked[2].any()  # the only sentence of its image
    own = scores[None]
    assert torch.equal(scores['other-image'], own[[2, 2, 0]])
    assert torch.equal(scores['other-sentence'], own[[1, 0, 2]])


# --- warm-up, logs, hooks ------------------------------------------------------------------


class Keys(Hook):
    """Notes the loss keys of every iteration."""

    def __init__(self):
        self.keys = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.keys.append(sorted(key for key in outputs if 'loss' in key))


@pytest.mark.parametrize('clean_weight', [0.0, 0.5])
def test_warm_up_is_plain_and_no_logged_loss_ends_with_it(build, batch, tmp_path, clean_weight):
    keys = Keys()
    wrapper = dict(AML, filter=WEAK, warmup=0.5, clean_weight=clean_weight)
    model = build(loss_wrapper=wrapper)
    runner_of(model, batch, tmp_path, [keys]).train()
    assert len(keys.keys) == 4 and keys.keys[0] == keys.keys[1] and keys.keys[2] == keys.keys[3]
    assert set(keys.keys[0]) <= set(keys.keys[3])  # nothing is repeated for ever
    assert model.loss_wrapper.last is not None
    hub = MessageHub.get_instance('run')
    hub.update_info_dict(dict(iter=1, max_iters=4))
    expected, found = (losses_of(m, batch()) for m in (build(), build(loss_wrapper=wrapper)))
    assert [v.item() for v in expected.values()] == [v.item() for v in found.values()]
    hub.update_info('iter', 2)
    masked = build(loss_wrapper=wrapper)
    losses_of(masked, batch())
    assert masked.loss_wrapper.last is not None


def test_the_hook_of_a_config_merges_with_those_of_its_baseline(root, tmp_path):
    """``default_hooks`` is a dict: hooks that a baseline adds stay."""
    baseline = tmp_path / 'baseline.py'
    host = root / 'configs/caris/caris_swin-b_2xb8-50e_refcoco-448x448.py'
    baseline.write_text(f"_base_ = {str(host)!r}\ncustom_hooks = [dict(type='EMAHook')]\n")
    for path in root.glob('configs/**/*aml*.py'):
        config = Config.fromfile(path)
        assert not any('PMMEHook' in hook['type'] for hook in config.get('custom_hooks', []))
        assert config.default_hooks.aml.type == 'mmseg_aml.PMMEHook'
    text = (root / 'configs/aml/aml_caris_swin-b_2xb8-50e_refcoco-448x448.py').read_text()
    body = text.split('\n', 1)[1]
    (tmp_path / 'aml.py').write_text(f"_base_ = './baseline.py'\n{body}")
    config = Config.fromfile(tmp_path / 'aml.py')
    assert config.custom_hooks == [dict(type='EMAHook')]
    assert {'aml', 'checkpoint', 'logger'} <= set(config.default_hooks)


def test_maskris_with_an_estimator_and_random_blocks_can_be_watched(build, batch, tmp_path):
    """Every filter says what is weak, so the hook works with every filter."""
    wrapper = dict(
        type='mmseg_aml.MaskRISLossWrapper',
        estimator=dict(type='mmseg_aml.PMME'),
        filter=dict(type='mmseg_aml.RandomBlocks', block_size=16),
    )
    hook = dict(type='mmseg_aml.PMMEHook', interval=1)
    runner = runner_of(build(loss_wrapper=wrapper), batch, tmp_path, [hook])
    runner.train()
    weak = runner.message_hub.get_scalar('train/aml/weak')
    assert weak.data[0].tolist() == [1.0] * 4


# --- contracts ---------------------------------------------------------------------------------


@MODELS.register_module(name='ParametersWithoutLoss')
class ParametersWithoutLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, view):
        return Alignment(torch.zeros(1, 1, 1))


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (dict(estimator=dict(type='mmseg_aml.AFM')), 'AFM is not an alignment estimator'),
        (dict(filter=dict(type='mmseg_aml.PMME')), r'PMME is not a block filter: .*\(scores, view'),
        (dict(estimator=dict(type='ParametersWithoutLoss')), 'add one, or freeze them'),
    ],
)
def test_parts_are_checked_when_built(wrong, message):
    with pytest.raises(TypeError, match=message):
        MODELS.build({**AML, **wrong})
