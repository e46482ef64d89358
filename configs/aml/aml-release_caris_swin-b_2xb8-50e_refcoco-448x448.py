# The published release, its index fault included: nearly random blocks, two trained views.
_base_ = './aml_caris_swin-b_2xb8-50e_refcoco-448x448.py'

model = dict(
    loss_wrapper=dict(
        estimator=dict(type='mmseg_aml.UntrainedLinear'),
        filter=dict(type='mmseg_aml.ReleaseAFM'),
        clean_weight=0.5,
        text_view='clean',
    )
)
