# The paper's formula as written (t = 1, pixels drawn): blacks out every image. For study.
_base_ = './aml_caris_swin-b_2xb8-50e_refcoco-448x448.py'

model = dict(
    loss_wrapper=dict(
        estimator=dict(type='mmseg_aml.PMME', temperature=1.0),
        filter=dict(type='mmseg_aml.LiteralAFM'),
    )
)
