# Sentences of 3 to 8 tokens: t = 0.02 puts the scores around 0.4 (0.012 suits 20 tokens).
# AML masks from the first update on, at real learning rates.
_base_ = '../vipa/vipa_r18-mini_2xb4-4e_ref-shapes-96x96.py'

model = dict(
    loss_wrapper=dict(
        type='mmseg_aml.AMLLossWrapper',
        estimator=dict(type='mmseg_aml.PMME', temperature=0.02),
        filter=dict(type='mmseg_aml.AFM', block_size=16),
    )
)
default_hooks = dict(aml=dict(type='mmseg_aml.PMMEHook', interval=10, draw_interval=200))
