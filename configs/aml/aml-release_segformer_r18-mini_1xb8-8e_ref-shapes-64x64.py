# The published release, its index fault included: nearly random blocks, two trained views.
# estimator=dict(type='mmseg_aml.UntrainedLinear', checkpoint=FILE) reads its aug.text_proj.
_base_ = '../mmseg_heads/segformer_r18-mini_1xb8-8e_ref-shapes-64x64.py'

model = dict(loss_wrapper=dict(type='mmseg_aml.AMLReleaseLossWrapper'))
default_hooks = dict(aml=dict(type='mmseg_aml.PMMEHook', interval=50))
