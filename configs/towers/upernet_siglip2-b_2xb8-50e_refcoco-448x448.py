_base_ = './upernet_dinov2-b_2xb8-50e_refcoco-448x448.py'

# Both halves of one SigLIP 2 (fixed size; its position table is interpolated), text in 100
# languages. It normalises to -1..1, which the data preprocessor takes from its record.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmseg_aml.HFBackbone',
        name='google/siglip2-base-patch16-384',
        out_indices=(3, 6, 9, 12),
    ),
    text_encoder=dict(name='google/siglip2-base-patch16-384', max_length=64),
)
