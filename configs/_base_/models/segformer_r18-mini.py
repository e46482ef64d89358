# A net of 1 M parameters that learns RefShapes from scratch on a CPU: three stages of a
# narrow ResNet-18, a one-layer BERT over the package's own word list, and SegformerHead.
channels = [24, 48, 96]
model = dict(
    type='mmseg_aml.TextImageSegmentor',
    data_preprocessor=dict(type='mmseg_aml.TextImageDataPreprocessor'),
    backbone=dict(
        type='ResNetV1c',
        depth=18,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(0, 1, 2),
        stem_channels=16,
        base_channels=24,
        norm_cfg=dict(type='BN'),
    ),
    text_encoder=dict(
        type='mmseg_aml.HFTextEncoder',
        tokenizer='tiny',
        config=dict(
            model_type='bert',
            hidden_size=96,
            num_hidden_layers=1,
            num_attention_heads=3,
            intermediate_size=192,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
    ),
    fusion=dict(
        type='mmseg_aml.CrossAttentionFusion',
        in_channels=channels,
        text_channels=96,
        levels=[1, 2],
        self_attention=[2],
        depth=2,
        head_channels=24,
    ),
    decode_head=dict(
        type='SegformerHead',
        in_channels=channels,
        in_index=[0, 1, 2],
        channels=32,
        dropout_ratio=0.0,
        num_classes=2,
        out_channels=1,
        threshold=0.5,
        norm_cfg=dict(type='BN'),
        loss_decode=[
            dict(type='mmseg_aml.BinaryCrossEntropy', loss_name='loss_ce'),
            dict(type='mmseg_aml.BinaryDiceLoss', loss_weight=0.5),
        ],
    ),
)
