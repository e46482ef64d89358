# Stage 1 at half resolution, whose level of stride 16 has the same 14 x 14 grid: a quarter of
# its cost.
_base_ = '../caris/caris_swin-b_2xb8-50e_refcoco-448x448.py'

model = dict(
    loss_wrapper=dict(
        type='mmseg_aml.AMLLossWrapper',
        estimator=dict(type='mmseg_aml.PMME', level=2),
        stage1_scale=0.5,
    )
)
default_hooks = dict(aml=dict(type='mmseg_aml.PMMEHook', interval=500))
