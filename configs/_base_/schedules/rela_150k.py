# ReLA: AdamW, 150,000 updates of 48 expressions, one rate for everything, gradient norm <= 0.01.
# Published with fp16: train with --amp. How many GPUs shared the 48 is not published.
#
# Norms and position tables of the tower, norms of fusion and decoder, and the tables of queries
# and levels are not decayed; biases, the pixel decoder's level vectors and BERT are.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mmseg_aml.RISOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-5, weight_decay=0.05),
    clip_grad=dict(max_norm=0.01),
    paramwise_cfg=dict(
        rules=[
            dict(name='text', pattern=r'^text_encoder\.'),
            dict(
                name='no_decay',
                pattern=r'norm|\.gn\.|input_proj\.\d+\.1\.|relative_position_bias_table'
                r'|^decode_head\.(query_feat|query_embed|level_embed)\.',
                decay_mult=0.0,
            ),
            dict(name='decay', pattern=''),
        ]
    ),
)
param_scheduler = [
    dict(type='MultiStepLR', milestones=[110000, 140000], gamma=0.1, by_epoch=False)
]

train_cfg = dict(type='IterBasedTrainLoop', max_iters=150000, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=48)  # 4 GPUs x 12 expressions
