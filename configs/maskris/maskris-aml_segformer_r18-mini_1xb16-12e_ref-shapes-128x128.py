# AML chooses the blocks; MaskRIS masks words and teaches the masked view by the clean one.
_base_ = '../mmseg_heads/segformer_r18-mini_1xb16-12e_ref-shapes-128x128.py'

model = dict(
    loss_wrapper=dict(
        type='mmseg_aml.MaskRISLossWrapper',
        estimator=dict(type='mmseg_aml.PMME'),
        filter=dict(type='mmseg_aml.AFM'),
    )
)
custom_hooks = [dict(type='mmseg_aml.PMMEHook', interval=50)]
