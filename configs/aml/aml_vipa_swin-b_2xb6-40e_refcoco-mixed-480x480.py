_base_ = '../vipa/vipa_swin-b_2xb6-40e_refcoco-mixed-480x480.py'

model = dict(loss_wrapper=dict(type='mmseg_aml.AMLLossWrapper'))
default_hooks = dict(aml=dict(type='mmseg_aml.PMMEHook', interval=500))
