# The paper's formula as written (t = 1, pixels selected): blacks out every image. For study.
_base_ = '../mmseg_heads/segformer_r18-mini_1xb8-8e_ref-shapes-64x64.py'

model = dict(
    loss_wrapper=dict(
        type='mmseg_aml.AMLLossWrapper',
        estimator=dict(type='mmseg_aml.PMME', temperature=1.0),
        filter=dict(type='mmseg_aml.AFM', select='pixel', block_size=16),
    )
)
custom_hooks = [dict(type='mmseg_aml.PMMEHook', interval=50, warmup=2900)]
