# The paper's formula as written (t = 1, pixels drawn): blacks out every image. For study.
_base_ = './aml_segformer_r18-mini_1xb8-8e_ref-shapes-64x64.py'

model = dict(
    loss_wrapper=dict(
        estimator=dict(temperature=1.0), filter=dict(type='mmseg_aml.LiteralAFM')
    )
)
