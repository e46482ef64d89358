"""Packages that need torchvision: mmpretrain and timm, in a folder of their own.

A torchvision built for CUDA imports on a CPU PyTorch once the schemas that its compiled part
would register are there.
"""

import os
import subprocess
import sys

import pytest

SCHEMAS = """
import torch
if not torch.cuda.is_available():
    library = torch.library.Library('torchvision', 'DEF')
    for op in ('nms', 'qnms'):
        library.define(f'{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
"""


def python(code: str) -> str:
    environment = {**os.environ, 'PYTHONPATH': os.getcwd()}
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope='module')
def extras(tmp_path_factory):
    """mmpretrain, timm and torchvision from the package registry."""
    folder = tmp_path_factory.mktemp('extras')
    for command in (
        ['mmpretrain==1.2.0'],
        ['--no-deps', 'torchvision==0.28.0', 'timm==1.0.31'],
    ):
        done = subprocess.run(
            [f'{os.path.dirname(sys.executable)}/uv', 'pip', 'install', '-q', '--target', folder]
            + ['--python', sys.executable, *command],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            pytest.fail(f'{command} cannot be installed here: {done.stderr[-200:]}')
    return folder


TIMM = """
from mmseg_aml.registry import MODELS
import mmseg_aml.models
image = torch.rand(2, 3, 64, 96)
towers = {
    'convnextv2_atto': {},
    'swin_tiny_patch4_window7_224': dict(
        depths=(1, 1, 1, 1), embed_dim=24, strict_img_size=False
    ),
    'eva02_tiny_patch14_224': dict(depth=4),
    'vit_tiny_patch16_224': dict(depth=4),
    'efficientnet_lite0': {},
}
for name, options in towers.items():
    backbone = MODELS.build(dict(
        type='mmseg_aml.TimmBackbone', model_name=name, model_args=options, with_cp=True))
    levels = backbone.train()(image)
    assert [level.shape[1] for level in levels] == backbone.out_channels
    sum(level.sum() for level in levels).backward()
    assert not [n for n, p in backbone.named_parameters() if p.requires_grad and p.grad is None]
    print(name, [tuple(level.shape[1:]) for level in levels])
record = dict(type='mmseg_aml.TimmBackbone', model_name='convnextv2_atto')
assert MODELS.build(record).normalization is None  # no weights, no record
import timm
whole = timm.create_model('convnextv2_atto')
torch.save(whole.state_dict(), WEIGHTS)
backbone = MODELS.build(dict(record, checkpoint_path=WEIGHTS, frozen=True))
backbone.init_weights()
assert torch.equal(backbone.model.stem_0.weight, whole.stem[0].weight)
assert round(backbone.normalization.mean[0], 3) == 123.675
adapted = MODELS.build(dict(record, adapter=dict(type='lora', r=2, targets=r'.*mlp.fc1')))
assert {n.split('.')[-3] for n, p in adapted.named_parameters() if p.requires_grad} == {
    'lora_A', 'lora_B'}
for wrong, said in (
    (dict(model_name='no_such_net'), 'timm has no'),
    (dict(model_name='convnextv2_atto', model_args=dict(colour=3)), 'colour'),
):
    try:
        MODELS.build(dict(type='mmseg_aml.TimmBackbone', **wrong))
    except ValueError as error:
        assert said in str(error), error
    else:
        raise SystemExit(f'{wrong} was taken')
"""


def test_timm_backbones(extras, tmp_path):
    start = f'import sys; sys.path.append({str(extras)!r}); WEIGHTS = {str(tmp_path / "w.pth")!r}'
    lines = python(start + SCHEMAS + TIMM).splitlines()
    assert [line for line in lines if '[(' in line] == [
        'convnextv2_atto [(40, 16, 24), (80, 8, 12), (160, 4, 6), (320, 2, 3)]',
        'swin_tiny_patch4_window7_224 [(24, 16, 24), (48, 8, 12), (96, 4, 6), (192, 2, 3)]',
        f'eva02_tiny_patch14_224 {[(192, 5, 7)] * 4}',
        f'vit_tiny_patch16_224 {[(192, 4, 6)] * 4}',
        'efficientnet_lite0 [(24, 16, 24), (40, 8, 12), (112, 4, 6), (320, 2, 3)]',
    ]


def test_without_timm_the_install_line_is_said():
    from mmseg_aml.models.backbones.timm_backbone import TimmBackbone

    with pytest.raises(ImportError, match='pip install timm torchvision'):
        TimmBackbone('resnet18')


def test_mmpretrain_backbones(extras):
    """Beside transformers 5 and pycocotools."""
    code = f"""
import sys
sys.path.append({str(extras)!r})
import mmseg_aml, torch
assert 'mmpretrain' not in sys.modules
if not torch.cuda.is_available():
    library = torch.library.Library('torchvision', 'DEF')
    for op in ('nms', 'qnms'):
        library.define(f'{{op}}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
import mmpretrain.models
from mmengine.registry import MODELS
image = torch.zeros(1, 3, 64, 64)
convnext = dict(type='mmpretrain.ConvNeXt', arch='atto', out_indices=(0, 1, 2, 3),
                gap_before_final_norm=False)
vit = dict(type='mmpretrain.VisionTransformer', arch='deit-t', img_size=64, out_type='featmap')
for config in (convnext, vit):
    print([tuple(level.shape) for level in MODELS.build(config)(image)])
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
init_default_scope('mmseg')
bert = dict(model_type='bert', hidden_size=48, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=64)
for config, widths in ((convnext, [40, 80, 160, 320]), (vit, [192])):
    head = dict(type='FCNHead', in_channels=widths[-1], in_index=len(widths) - 1, channels=16,
                num_convs=1, num_classes=2, out_channels=1, threshold=0.5,
                loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True))
    model = MODELS.build(dict(
        type='mmseg_aml.TextImageSegmentor', backbone=config, decode_head=head,
        data_preprocessor=dict(type='mmseg_aml.TextImageDataPreprocessor'),
        text_encoder=dict(type='mmseg_aml.HFTextEncoder', tokenizer='tiny', config=bert),
        fusion=dict(type='mmseg_aml.CrossAttentionFusion', in_channels=widths, text_channels=48,
                    head_channels=20 if len(widths) > 1 else 32),
        loss_wrapper=dict(type='mmseg_aml.AMLLossWrapper')))
    sample = SegDataSample(metainfo=dict(expression='red', img_shape=(64, 64), ori_shape=(9, 9)))
    sample.gt_sem_seg = PixelData(data=torch.ones(1, 64, 64, dtype=torch.uint8))
    data = dict(inputs=[torch.zeros(3, 64, 64, dtype=torch.uint8)], data_samples=[sample])
    total, _ = model.parse_losses(model(**model.data_preprocessor(data, True), mode='loss'))
    total.backward()
    model.eval()
    with torch.no_grad():
        print(tuple(model.test_step(data)[0].pred_sem_seg.data.shape))
"""
    lines = python(code).splitlines()
    assert lines == [
        '[(1, 40, 16, 16), (1, 80, 8, 8), (1, 160, 4, 4), (1, 320, 2, 2)]',
        '[(1, 192, 4, 4)]',
        '(1, 9, 9)',
        '(1, 9, 9)',
    ]
