# t = 0.02 for sentences of 3 to 8 tokens, as on RefShapes; blocks of one patch of stride 16.
_base_ = '../mmseg_heads/segformer_r18-mini_1xb8-8e_minirefcoco-160x160.py'

model = dict(
    loss_wrapper=dict(
        type='mmseg_aml.AMLLossWrapper',
        estimator=dict(type='mmseg_aml.PMME', temperature=0.02),
        filter=dict(type='mmseg_aml.AFM', block_size=16),
    )
)
default_hooks = dict(aml=dict(type='mmseg_aml.PMMEHook', interval=20, draw_interval=20))
