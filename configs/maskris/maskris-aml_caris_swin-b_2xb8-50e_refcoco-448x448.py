# AML chooses the blocks; MaskRIS masks words and teaches the masked view by the clean one.
_base_ = '../caris/caris_swin-b_2xb8-50e_refcoco-448x448.py'

model = dict(
    loss_wrapper=dict(
        type='mmseg_aml.MaskRISLossWrapper',
        estimator=dict(type='mmseg_aml.PMME'),
        filter=dict(type='mmseg_aml.AFM'),
    )
)
default_hooks = dict(aml=dict(type='mmseg_aml.PMMEHook', interval=500))
