# Two frozen towers that packages of PyPI bring, and 1.2 M parameters that learn on top: trains
# on a few hundred photographs and one CPU core. In training the image tower computes every view
# once and keeps it in FEATURE_CACHE (0.7 MB a view); see docs/photos.md.
_base_ = []  # first, or MMEngine takes a file with imports for another kind of config

import os

channels = 128
model = dict(
    type='mmseg_aml.TextImageSegmentor',
    data_preprocessor=dict(type='mmseg_aml.TextImageDataPreprocessor'),
    backbone=dict(
        type='mmseg_aml.FrozenBackbone',
        backbone=dict(
            type='mmseg_aml.EfficientNetLite0',
            out_indices=(2, 4, 7),  # 40, 112 and 1,280 channels at strides 8, 16 and 32
            pretrained='efficientnet-lite0',
        ),
        cache=os.environ.get('FEATURE_CACHE', 'work_dirs/features'),
    ),
    neck=dict(type='mmseg_aml.PixelEncoder', in_channels=(40, 112, 1280), channels=channels),
    text_encoder=dict(
        type='mmseg_aml.HFTextEncoder',
        name='sentence-transformers/all-MiniLM-L6-v2',
        frozen=True,
        max_length=16,
    ),
    decode_head=dict(
        type='mmseg_aml.WordQueryHead',
        in_channels=[channels] * 3,
        text_channels=384,
        threshold=0.5,
    ),
)
