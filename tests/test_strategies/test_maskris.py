"""MaskRIS: the pure parts, and what must hold in any segmentor."""

import copy
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.structures import PixelData
from torch import nn

from mmseg_aml.registry import MODELS
from mmseg_aml.strategies.masking.text import Vocabulary, mask_tokens
from mmseg_aml.strategies.maskris import RandomBlocks, soft_target_loss

MASKRIS = dict(type='mmseg_aml.MaskRISLossWrapper')


def losses_of(model, data):
    return model(**model.data_preprocessor(copy.deepcopy(data), True), mode='loss')


# --- the pure parts ----------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    size=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    share=st.floats(0.2, 1),
    ratio=st.floats(0, 1),
    block=st.integers(4, 40),
    seed=st.integers(0, 2**31),
)
def test_exact_count_of_whole_blocks_is_masked(canvas, size, share, ratio, block, seed):
    inside = tuple(max(1, int(side * share)) for side in size)
    blocks = RandomBlocks(ratio=ratio, block_size=block)
    view = canvas(size, inside=[inside, size])
    masked = blocks(torch.zeros(2, 1, 1), view, torch.Generator().manual_seed(seed)).masked
    for row, (height, width) in zip(masked, (inside, size)):
        rows, columns = height // block, width // block
        count = rows * columns
        assert int(row.sum()) == count - int(count * (1 - ratio))
        assert not row[rows:].any() and not row[:, columns:].any()


def test_soft_targets_follow_pytorch_and_one_channel_equals_two():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 2, 2, 5, 7, generator=generator)
    weight = torch.tensor([0.9, 1.1])
    loss = soft_target_loss(student, teacher, weight)
    expected = nn.CrossEntropyLoss(weight=weight)(student, teacher.softmax(1))
    torch.testing.assert_close(loss, expected)
    one, its_teacher = (x[:, 1:] - x[:, :1] for x in (student, teacher))
    single = soft_target_loss(one, its_teacher, weight)
    torch.testing.assert_close(single, expected)


def test_special_ids_come_from_the_tokenizer(build):
    encoder = build().text_encoder
    vocabulary = Vocabulary.of(encoder.tokenizer)
    row = encoder.tokenize(['the red circle'])[0][0].tolist()
    masked = mask_tokens(row, random.Random(0), vocabulary, ratio=1.0, shares=(1.0, 0.0))
    words = [token for token in row if token not in vocabulary.special]
    assert len(words) == 3
    assert masked.count(vocabulary.mask_id) == 3
    assert [m for m, t in zip(masked, row) if t in vocabulary.special] == [
        t for t in row if t in vocabulary.special
    ]


# --- in a segmentor ----------------------------------------------------------


def test_off_is_plain_training_bit_for_bit(build, batch):
    expected = losses_of(build(), batch((2, 1)))
    found = losses_of(build(loss_wrapper=dict(MASKRIS, clean_weight=1.0)), batch((2, 1)))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_state_dict_and_global_random_state_are_left_alone(build, batch):
    model, data = build(loss_wrapper=MASKRIS), batch()
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    losses_of(model, data)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state
    assert list(model.state_dict()) == list(build().state_dict())


@pytest.mark.parametrize('out_channels', [1, 2])
@pytest.mark.parametrize(
    ('settings', 'keys'),
    [
        ({}, {'decode.loss_ce', 'maskris.decode.loss_distill'}),
        (dict(text_ratio=0.0), {'decode.loss_ce', 'maskris.decode.loss_distill'}),
        (dict(image_ratio=0.0), {'decode.loss_ce', 'maskris.decode.loss_distill'}),
        (dict(distillation=False), {'decode.loss_ce', 'maskris.decode.loss_ce'}),
        (dict(distillation=False, clean_weight=0.0), {'maskris.decode.loss_ce'}),
        (
            dict(estimator=dict(type='mmseg_aml.PMME')),
            {'decode.loss_ce', 'maskris.decode.loss_distill'},
        ),
        (
            dict(
                estimator=dict(type='mmseg_aml.PMME'),
                filter=dict(type='mmseg_aml.AFM', threshold=2.0),
                distillation=False,
                clean_weight=0.0,
            ),
            {'maskris.decode.loss_ce'},
        ),
    ],
)
def test_every_part_can_be_switched(build, batch, settings, keys, out_channels):
    model = build(loss_wrapper=dict(MASKRIS, **settings))
    if out_channels == 2:
        model = build(
            loss_wrapper=dict(MASKRIS, **settings),
            decode_head=dict(
                type='mmseg_aml.LAVTHead',
                in_channels=[16, 32, 64, 128],
                channels=16,
                loss_decode=dict(type='mmseg_aml.WeightedCrossEntropy'),
            ),
        )
    data = batch((1, 2), size=(64, 96))
    losses = losses_of(model, data)
    assert set(losses) == keys
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    assert all(p.grad is not None for p in model.parameters())


def test_views_hide_what_they_should(build, batch, monkeypatch):
    model, data = build(loss_wrapper=dict(MASKRIS, text_ratio=1.0, text_shares=(1, 0))), batch((2,))
    calls = []
    encode = model.encode

    def spy(inputs, samples, **options):
        calls.append((inputs, options))
        return encode(inputs, samples, **options)

    monkeypatch.setattr(model, 'encode', spy)
    losses_of(model, data)
    (clean, first), (masked, second) = calls
    assert len(clean) == 1 and len(masked) == 2 and second['index'] == [0, 1]
    hidden = (masked == 0).all(1).float().mean((1, 2))
    torch.testing.assert_close(hidden, torch.full((2,), 5 / 6))  # 6 blocks, int(6 * 0.25) kept
    tokenizer = model.text_encoder.tokenizer
    assert (second['tokens'].ids == tokenizer.mask_token_id).any()
    assert torch.equal(first['tokens'].mask, second['tokens'].mask)


def test_same_seed_same_masks_other_seed_other_masks(build, batch):
    def masks(seed):
        model = build(loss_wrapper=dict(MASKRIS, seed=seed))
        found = []
        for _ in range(3):
            losses_of(model, batch((1, 1), size=(128, 160)))
            found.append(model.loss_wrapper.last.masked)
        return torch.stack(found)

    first = masks(0)
    assert torch.equal(masks(0), first)
    assert not torch.equal(masks(1), first)
    assert not torch.equal(first[0], first[1])


def test_padding_is_neither_masked_nor_distilled(canvas, build, batch):
    data = batch((1, 1), size=(128, 128))
    sample = data['data_samples'][1].samples[0]
    sample.set_metainfo(dict(img_shape=(128, 64)))
    data['inputs'][1] = data['inputs'][1][:, :, :64]
    sample.gt_sem_seg = PixelData(data=sample.gt_sem_seg.data[..., :64])
    model = build(loss_wrapper=dict(MASKRIS, image_ratio=1.0))
    losses_of(model, data)
    masked = model.loss_wrapper.last.masked
    assert masked[0].all() and masked[1, :, :2].all() and not masked[1, :, 2:].any()
    wrapper, logits = model.loss_wrapper, torch.zeros(1, 1, 32, 32)
    teacher = logits.clone()
    teacher[..., 16:] = 50.0
    view = canvas((128, 128), inside=[(128, 64)])
    inside = wrapper.distill(logits, teacher, view)
    torch.testing.assert_close(inside, wrapper.distill(logits, logits, view))


def test_decoder_and_statistics_run_once_per_view(build, batch):
    model = build(loss_wrapper=MASKRIS)
    calls = []
    model.decode_head.fusion_conv.register_forward_hook(lambda *_: calls.append(1))
    losses_of(model, batch())
    assert len(calls) == 2
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and all(int(norm.num_batches_tracked) == 1 for norm in norms)
    clean = build()
    losses_of(clean, batch())
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), clean.buffers()))


def test_heads_with_several_outputs(build, batch):
    head = dict(
        type='DAHead',
        in_channels=128,
        in_index=3,
        channels=16,
        pam_channels=8,
        num_classes=2,
        norm_cfg=dict(type='BN'),
        loss_decode=dict(type='CrossEntropyLoss'),
    )
    model = build(loss_wrapper=MASKRIS, decode_head=head)
    losses = losses_of(model, batch())
    assert 'maskris.decode.loss_distill' in losses
    assert model(**model.data_preprocessor(batch(), False), mode='tensor').shape[1] == 2


def test_bf16_autocast_trains(build, batch):
    model = build(loss_wrapper=MASKRIS)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        total, _ = model.parse_losses(losses_of(model, batch()))
    total.backward()
    assert torch.isfinite(total)


@pytest.mark.parametrize(
    'wrong',
    [
        dict(image_ratio=2),
        dict(text_ratio=-1),
        dict(clean_weight=0),
        dict(filter=dict(type='mmseg_aml.AFM')),
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MODELS.build({**MASKRIS, **wrong})


def test_a_tokenizer_without_mask_token_is_refused():
    class Clip:
        mask_token_id = None

    with pytest.raises(ValueError, match='no mask token'):
        Vocabulary.of(Clip())
