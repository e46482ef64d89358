# LAVT's schedule with the oddities of the release: BERT's embeddings and layers 10 and 11
# are not optimised, and the rate would reach 0 one iteration after the last one.
_base_ = './lavt_40e.py'

optim_wrapper = dict(
    paramwise_cfg=dict(
        rules=[
            dict(
                name='text_left_out',
                pattern=r'^text_encoder\.model\.(embeddings|encoder\.layer\.1[01])\.',
                frozen=True,
            ),
            dict(
                name='vision_no_decay',
                pattern=r'^backbone\..*(norm|absolute_pos_embed|relative_position_bias_table)',
                decay_mult=0.0,
            ),
            dict(name='vision', pattern=r'^backbone\.'),
            dict(name='decoder', pattern=r'^decode_head\.'),
            dict(name='text', pattern=r'^text_encoder\.'),
        ]
    )
)
param_scheduler = [
    dict(type='mmseg_aml.PublishedPolyLR', end=40, by_epoch=True, convert_to_iter_based=True)
]
