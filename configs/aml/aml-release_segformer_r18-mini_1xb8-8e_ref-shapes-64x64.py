# The published release, its index fault included: nearly random blocks, two trained views.
_base_ = './aml_segformer_r18-mini_1xb8-8e_ref-shapes-64x64.py'

model = dict(
    loss_wrapper=dict(
        estimator=dict(_delete_=True, type='mmseg_aml.UntrainedLinear'),
        filter=dict(type='mmseg_aml.ReleaseAFM'),
        clean_weight=0.5,
        text_view='clean',
    )
)
