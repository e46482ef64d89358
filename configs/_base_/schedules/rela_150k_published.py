# ReLA's schedule with the oddity of the release: BERT's embeddings and layers 10 and 11 are
# not optimised.
_base_ = './rela_150k.py'

optim_wrapper = dict(
    paramwise_cfg=dict(
        rules=[
            dict(
                name='text_left_out',
                pattern=r'^text_encoder\.model\.(embeddings|encoder\.layer\.1[01])\.',
                frozen=True,
            ),
            dict(name='text', pattern=r'^text_encoder\.'),
            dict(
                name='no_decay',
                pattern=r'norm|\.gn\.|input_proj\.\d+\.1\.|relative_position_bias_table'
                r'|^decode_head\.(query_feat|query_embed|level_embed)\.',
                decay_mult=0.0,
            ),
            dict(name='decay', pattern=''),
        ]
    )
)
