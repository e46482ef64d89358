"""AMLLossWrapper in a real segmentor."""

import copy

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.structures import PixelData

from mmseg_aml.registry import MODELS
from mmseg_aml.strategies.base import frozen_batch_statistics
from mmseg_aml.strategies.iteration import StepGenerator

AML = dict(type='mmseg_aml.AMLLossWrapper')
WEAK = dict(type='mmseg_aml.AFM', threshold=2.0, ratio=0.5)  # every block is weak


def losses_of(model, data):
    prepared = model.data_preprocessor(copy.deepcopy(data), True)
    return model(**prepared, mode='loss')


def test_off_is_plain_training_bit_for_bit(build, batch):
    expected = losses_of(build(), batch((2, 1)))
    found = losses_of(build(loss_wrapper=dict(AML, clean_weight=1.0)), batch((2, 1)))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_state_dict_is_that_of_plain_training(build, batch):
    plain, aml = build(), build(loss_wrapper=AML)
    losses_of(aml, batch())
    assert list(aml.state_dict()) == list(plain.state_dict())


def test_global_random_state_is_left_alone(build, batch):
    model, data = build(loss_wrapper=AML), batch()
    before = torch.get_rng_state()
    losses_of(model, data)
    assert torch.equal(torch.get_rng_state(), before)


def test_keys_and_weights_of_two_views(build, batch):
    data = batch((1, 2))
    plain = losses_of(build(), data)['decode.loss_ce']
    model = build(loss_wrapper=dict(AML, clean_weight=0.25, filter=WEAK))
    losses = losses_of(model, data)
    assert set(losses) == {'decode.loss_ce', 'aml.decode.loss_ce'}
    torch.testing.assert_close(losses['decode.loss_ce'], plain * 0.25)
    total, _ = model.parse_losses(losses)
    total.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_nothing_weak_means_the_masked_view_is_the_clean_one(build, batch):
    data = batch((2, 2))
    plain = losses_of(build(), data)['decode.loss_ce']
    none = dict(type='mmseg_aml.AFM', threshold=0.0)
    losses = losses_of(build(loss_wrapper=dict(AML, filter=none)), data)
    torch.testing.assert_close(losses['aml.decode.loss_ce'], plain)


def test_same_seed_same_masks_other_seed_other_masks(build, batch):
    def masks(seed):
        model = build(loss_wrapper=dict(AML, filter=WEAK, seed=seed))
        found = []
        for _ in range(3):
            losses_of(model, batch((1, 1), size=(128, 160)))
            found.append(model.loss_wrapper.last.masked)
        return torch.stack(found)

    first = masks(0)
    assert torch.equal(masks(0), first)
    assert not torch.equal(masks(1), first)
    assert not torch.equal(first[0], first[1])  # another iteration, another draw


def test_draws_follow_the_iteration_of_the_runner_and_the_rank(monkeypatch):
    generator = StepGenerator(0)
    hub = MessageHub.get_instance('draws')
    draws = {}
    for rank in (0, 1):
        monkeypatch.setattr('mmseg_aml.strategies.iteration.get_rank', lambda rank=rank: rank)
        for iteration in (7, 8, 7):
            hub.update_info('iter', iteration)
            draw = torch.rand(4, generator=generator()).tolist()
            assert draws.setdefault((rank, iteration), draw) == draw
    assert len({tuple(draw) for draw in draws.values()}) == 4


def test_samples_without_target_and_padding_are_not_masked(build, batch):
    data = batch((1, 1), size=(128, 128))
    data['data_samples'][0].samples[0].gt_sem_seg.data.zero_()
    sample = data['data_samples'][1].samples[0]
    sample.set_metainfo(dict(img_shape=(128, 64)))
    data['inputs'][1] = data['inputs'][1][:, :, :64]
    sample.gt_sem_seg = PixelData(data=torch.ones(1, 128, 64, dtype=torch.uint8))
    model = build(loss_wrapper=dict(AML, filter=dict(WEAK, ratio=1.0)))
    losses_of(model, data)
    masked = model.loss_wrapper.last.masked
    assert not masked[0].any()
    assert masked[1, :, :2].all() and not masked[1, :, 2:].any()


def test_random_control_masks_as_many_blocks(build, batch):
    data = batch((1, 1, 1), size=(128, 128))
    aligned = build(loss_wrapper=AML)
    random = build(loss_wrapper=dict(AML, control='random'))
    for model in (aligned, random):
        losses_of(model, data)
    areas = [m.loss_wrapper.last.masked.flatten(1).sum(1) for m in (aligned, random)]
    assert torch.equal(*areas)


def test_half_resolution_stage1_and_stride16_map(build, batch):
    wrapper = dict(
        AML, stage1_scale=0.5, estimator=dict(type='mmseg_aml.PMME', level=2), filter=WEAK
    )
    model = build(loss_wrapper=wrapper)
    losses_of(model, batch((1,), size=(128, 128)))
    assert model.loss_wrapper.last.scores.shape == (1, 4, 4)


@pytest.mark.parametrize('clean_weight', [0.0, 0.5])
def test_decoder_and_statistics_run_once_per_trained_view(build, batch, clean_weight):
    model = build(loss_wrapper=dict(AML, clean_weight=clean_weight, filter=WEAK))
    calls = dict(backbone=0, fusion_conv=0)
    parts = dict(backbone=model.backbone, fusion_conv=model.decode_head.fusion_conv)
    for name, part in parts.items():
        part.register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    losses_of(model, batch())
    assert calls == dict(backbone=2, fusion_conv=1 if clean_weight == 0 else 2)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and all(int(norm.num_batches_tracked) == 1 for norm in norms)


def test_frozen_statistics_restore_what_they_found():
    norm = torch.nn.BatchNorm1d(2)
    with frozen_batch_statistics(norm):
        norm(torch.randn(4, 2) + 5)
    assert norm.track_running_stats and not norm.running_mean.any()


def test_bf16_autocast_trains(build, batch):
    model = build(loss_wrapper=dict(AML, clean_weight=0.5))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        total, _ = model.parse_losses(losses_of(model, batch()))
    total.backward()
    assert torch.isfinite(total)


def test_prediction_ignores_the_wrapper(build, batch):
    plain, aml = build().eval(), build(loss_wrapper=AML).eval()
    with torch.no_grad():
        first, second = (model.test_step(batch((3, 1))) for model in (plain, aml))
    for a, b in zip(first, second):
        assert torch.equal(a.seg_logits.data, b.seg_logits.data)


@pytest.mark.parametrize(
    'wrong',
    [
        dict(clean_weight=2),
        dict(control='rand'),
        dict(control='shuffled'),
        dict(warmup=100),
        dict(stage1_scale=0),
        dict(stage1_scale=0.5, clean_weight=0.5),
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MODELS.build({**AML, **wrong})
