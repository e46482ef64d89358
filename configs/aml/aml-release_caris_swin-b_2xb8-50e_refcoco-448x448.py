# The published release, its index fault included: nearly random blocks, two trained views.
# estimator=dict(type='mmseg_aml.UntrainedLinear', checkpoint=FILE) reads its aug.text_proj.
_base_ = '../caris/caris_swin-b_2xb8-50e_refcoco-448x448.py'

model = dict(loss_wrapper=dict(type='mmseg_aml.AMLReleaseLossWrapper'))
default_hooks = dict(aml=dict(type='mmseg_aml.PMMEHook', interval=500))
