# AML masks every expression's picture anew, so no feature can be kept: a step costs several
# times that of plain training. Sentences of 3 to 8 tokens: t = 0.02 (0.012 suits 20 tokens).
_base_ = './wordquery_lite0-minilm_1xb8-12e_photos-384x384.py'

model = dict(
    loss_wrapper=dict(
        type='mmseg_aml.AMLLossWrapper', estimator=dict(type='mmseg_aml.PMME', temperature=0.02)
    )
)
default_hooks = dict(aml=dict(type='mmseg_aml.PMMEHook', interval=50))
