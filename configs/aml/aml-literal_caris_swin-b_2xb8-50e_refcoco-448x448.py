# The paper's formula as written (t = 1, pixels selected): blacks out every image. For study.
_base_ = '../caris/caris_swin-b_2xb8-50e_refcoco-448x448.py'

model = dict(
    loss_wrapper=dict(
        type='mmseg_aml.AMLLossWrapper',
        estimator=dict(type='mmseg_aml.PMME', temperature=1.0),
        filter=dict(type='mmseg_aml.AFM', select='pixel'),
    )
)
custom_hooks = [dict(type='mmseg_aml.PMMEHook', interval=500)]
