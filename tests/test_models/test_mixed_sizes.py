"""A picture beside a larger one gets the mask that it gets alone, in every fusion and head."""

import copy
import json
import runpy

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmseg_aml.registry import MODELS
from mmseg_aml.structures import ExpressionGroup

SIZES = [(64, 40), (96, 96), (40, 64), (64, 40)]
SENTENCES = ['left red circle', 'the small box', 'top']
# Heads of MMSegmentation that look far: pooling, self-attention, decomposition.
FAR = {
    'PSPHead': dict(pool_scales=(1, 2, 3)),
    'ASPPHead': dict(dilations=(1, 3)),
    'DAHead': dict(pam_channels=8),
    'FCNHead': dict(num_convs=1),
}


def hosts(root):
    """Name -> config of a small model."""
    found = {}
    for name in ('mmseg_heads/segformer', 'vipa/vipa', 'rela/rela', 'detris/detris'):
        path = root / f'configs/{name}_r18-mini_1xb8-8e_ref-shapes-64x64.py'
        if path.is_file():
            found[name] = Config.fromfile(path).model.to_dict()
    plain = found['mmseg_heads/segformer']
    for head, settings in FAR.items():
        found[head] = model = copy.deepcopy(plain)
        model['decode_head'] = dict(
            type=head,
            in_channels=96,
            in_index=2,
            channels=16,
            num_classes=2,
            norm_cfg=dict(type='BN'),
            **settings,
        )
    parity = root / 'tests/parity'
    for name in ('caris', 'lavt'):
        case = runpy.run_path(str(parity / f'{name}_case.py'))
        sizes = json.loads((root / f'tests/reference/{name}/config.json').read_text())
        preprocessor = dict(type='mmseg_aml.TextImageDataPreprocessor')
        found[name] = dict(case['model_config'](sizes), data_preprocessor=preprocessor)
        bert = found[name]['text_encoder']['config']  # as wide as the words that the host reads
        bert.update(vocab_size=8192, hidden_size=sizes['text_dim'], num_attention_heads=4)
    return found


def names(root):
    return list(hosts(root))


def pytest_generate_tests(metafunc):
    init_default_scope('mmseg')
    metafunc.parametrize('name', names(metafunc.config.rootpath))


def group(size, count, seed):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(256, (3, *size), dtype=torch.uint8, generator=generator)
    samples = []
    for text in SENTENCES[:count]:
        meta = dict(expression=text, ori_shape=size, img_shape=size)
        sample = SegDataSample(metainfo=meta)
        sample.gt_sem_seg = PixelData(data=torch.zeros(1, *size, dtype=torch.uint8))
        samples.append(sample)
    return image, ExpressionGroup(samples)


def predict(model, rows):
    items = [group(SIZES[row], 1 + row % 3, row) for row in rows]
    data = dict(inputs=[item[0] for item in items], data_samples=[item[1] for item in items])
    with torch.no_grad():
        return model.test_step(data)


def test_same_mask_as_alone(root, name):
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(hosts(root)[name]).eval()
    together = predict(model, range(len(SIZES)))
    assert [s.image_index for s in together] == [0, 1, 1, 2, 2, 2, 3]
    alone = [sample for row in range(len(SIZES)) for sample in predict(model, [row])]
    for mixed, single in zip(together, alone):
        assert mixed.expression == single.expression
        torch.testing.assert_close(
            mixed.seg_logits.data, single.seg_logits.data, atol=1e-4, rtol=1e-4
        )
