"""Every shipped config loads, names known keys, and its model trains and predicts.

Widths stay as shipped, so that all channels are checked against each other; depths, image
size and the text model shrink.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.utils._python_dispatch import TorchDispatchMode

from mmseg_aml.engine.config_check import describe_unknown_keys
from mmseg_aml.evaluation.protocols import get_protocols
from mmseg_aml.registry import DATASETS, HOOKS, METRICS, MODELS, TRANSFORMS
from mmseg_aml.structures import ExpressionGroup

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(ROOT.glob('configs/[!_]*/**/*.py'))
TINY_BERT = dict(
    model_type='bert',
    hidden_size=768,
    num_hidden_layers=1,
    num_attention_heads=12,
    intermediate_size=64,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
SHALLOW_VIT = dict(hidden_size=768, num_hidden_layers=4, num_attention_heads=12, image_size=56)
# Hub name -> settings of the same widths with few layers.
TOWERS = {
    'facebook/dinov2-base': dict(SHALLOW_VIT, model_type='dinov2', patch_size=14, mlp_ratio=1),
    'google/siglip2-base-patch16-384': dict(
        SHALLOW_VIT, model_type='siglip_vision_model', patch_size=16, intermediate_size=64
    ),
    'facebook/convnextv2-base-22k-384': dict(
        model_type='convnextv2', hidden_sizes=[128, 256, 512, 1024], depths=[1] * 4
    ),
}
TEXT_TOWERS = {
    'google/siglip2-base-patch16-384': dict(
        TINY_BERT, model_type='siglip_text_model', max_position_embeddings=64
    ),
    'FacebookAI/xlm-roberta-base': dict(TINY_BERT, model_type='xlm-roberta'),
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT / 'configs').with_suffix(''))


def shrink(model: dict) -> dict:
    """The same model with few layers and nothing to download."""
    backbone, text = model['backbone'], model['text_encoder']
    backbone.pop('init_cfg', None)
    if 'depths' in backbone:
        backbone['depths'] = [1] * 4
        backbone['drop_path_rate'] = 0.0
    if 'num_layers' in backbone:
        backbone['num_layers'] = [1] * 4
    if backbone['type'] == 'mmseg_aml.HFBackbone' and 'name' in backbone:
        backbone['config'] = TOWERS[backbone.pop('name')]
        backbone.pop('out_indices', None)
        backbone.get('adapter', {}).pop('save_base', None)  # needs weights to read
    if 'adapter_layers' in text:  # DETRIS
        backbone.update(depth=3, taps=(0, 1), adapter_layers=(1, 2))
        text.update(num_layers=2, adapter_layers=(1,), name=None, tokenizer='tiny')
    elif text.get('config') is None:
        bert = dict(TINY_BERT)
        if model['decode_head']['type'] == 'mmseg_aml.WordQueryHead':
            bert['hidden_size'] = model['decode_head']['text_channels']
        text.update(tokenizer='tiny', config=TEXT_TOWERS.get(text.pop('name', None), bert))
    return model


def batch(size: int = 64) -> dict:
    groups = []
    for count in (2, 1):
        samples = []
        for text in ('the red circle', 'leftmost small square')[:count]:
            shape = (size, size)
            meta = dict(expression=text, ori_shape=(50, 70), img_shape=shape, pad_shape=shape)
            sample = SegDataSample(metainfo=meta)
            mask = torch.zeros(1, size, size, dtype=torch.uint8)
            mask[:, 8:40, 16:48] = 1
            sample.gt_sem_seg = PixelData(data=mask)
            samples.append(sample)
        groups.append(ExpressionGroup(samples))
    images = [torch.randint(256, (3, size, size), dtype=torch.uint8) for _ in groups]
    return dict(inputs=images, data_samples=groups)


def distinct_models() -> list[Path]:
    """One config for every different model."""
    seen: dict[str, Path] = {}
    for path in CONFIGS:
        cfg = Config.fromfile(path)
        seen.setdefault(json.dumps(cfg.model.to_dict(), sort_keys=True, default=str), path)
    return sorted(seen.values())


@pytest.mark.parametrize('path', CONFIGS, ids=name_of)
def test_config_is_complete(path):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    assert not describe_unknown_keys(cfg.to_dict())
    assert cfg.model.type == 'mmseg_aml.TextImageSegmentor'
    for name in ('train', 'val', 'test'):
        loader = cfg[f'{name}_dataloader']
        for data in loader.dataset.get('datasets', [loader.dataset]):
            assert DATASETS.get(data.type) is not None
            for step in data.get('pipeline', []):
                assert TRANSFORMS.get(step['type']) is not None
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        assert METRICS.get(evaluator.type) is not None
        names = [protocol.name for protocol in get_protocols(evaluator.protocols)]
        assert 'original' in names  # what save_best looks at
    for hook in [*cfg.default_hooks.values(), *cfg.get('custom_hooks', [])]:
        assert HOOKS.get(hook['type']) is not None
    if cfg.model.decode_head.get('out_channels') == 1:
        assert cfg.model.decode_head.threshold == 0.5


@pytest.mark.parametrize('path', distinct_models(), ids=name_of)
def test_model_trains_and_predicts(path):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(shrink(cfg.model.to_dict()))
    # Sides are multiples of the patch size; small ones otherwise, to be fast.
    size = 56 if cfg.model.backbone.type == 'mmseg_aml.DETRISDINOv2' else 64
    data = model.data_preprocessor(batch(size), True)
    total, log = model.parse_losses(model.train()(**data, mode='loss'))
    total.backward()
    assert torch.isfinite(total) and total > 0
    idle = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    assert not idle, f'find_unused_parameters=False would hang on {idle}'
    with torch.no_grad():
        samples = model.eval().test_step(batch(size))
    assert [tuple(s.pred_sem_seg.data.shape) for s in samples] == [(1, 50, 70)] * 3
    assert all(torch.isfinite(s.seg_logits.data).all() for s in samples)


class Operators(TorchDispatchMode):
    """Names of the operators that ran."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(str(function.overloadpacket).removeprefix('aten.').removeprefix('_'))
        return function(*args, **(kwargs or {}))


POOLING, SAMPLING = 'adaptive_avg_pool2d_backward', 'grid_sampler_2d_backward'
# What PyTorch lists as raising on GPUs under randomness.deterministic=True, of what models use.
# Bilinear interpolation is not among it: there PyTorch takes another way by itself.
NOT_REPEATABLE = {
    *(POOLING, SAMPLING, 'nll_loss2d_forward', 'nll_loss2d_backward', 'cumsum', 'histc'),
    *('adaptive_max_pool2d_backward', 'reflection_pad2d_backward', 'max_unpool2d', 'put_'),
}


@pytest.mark.parametrize(
    ('name', 'raising'),
    [
        ('lavt/lavt_swin-b_4xb8-40e_refcoco-480x480', set()),
        ('vipa/vipa_swin-b_2xb6-40e_refcoco-480x480', set()),
        ('mmseg_heads/segformer_mit-b2_2xb8-50e_refcoco-448x448', set()),
        ('mmseg_heads/upernet_swin-b_2xb8-50e_refcoco-448x448', {POOLING}),
        ('caris/caris_swin-b_2xb8-50e_refcoco-448x448', {POOLING, SAMPLING}),
    ],
)
def test_repeatable_on_gpus_as_documented(name, raising):
    """Without a GPU: by the operators of a training step. The table is that of docs/cluster.md."""
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    init_default_scope(cfg.default_scope)
    model = MODELS.build(shrink(cfg.model.to_dict())).train()
    data = model.data_preprocessor(batch(), True)
    torch.use_deterministic_algorithms(True)
    try:
        with Operators() as operators:
            model.parse_losses(model(**data, mode='loss'))[0].backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert operators.names & NOT_REPEATABLE == raising
    assert 'convolution_backward' in operators.names


def test_strategy_configs_are_small():
    for folder in ('aml', 'maskris'):
        for path in ROOT.glob(f'configs/{folder}/*.py'):
            lines = [line for line in path.read_text().splitlines() if line.strip()]
            code = [line for line in lines if not line.lstrip().startswith('#')]
            assert len(code) <= 10, f'{path} has {len(code)} lines'
            assert os.path.basename(path).startswith(folder)
