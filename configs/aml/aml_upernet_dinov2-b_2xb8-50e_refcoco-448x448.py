_base_ = '../towers/upernet_dinov2-b_2xb8-50e_refcoco-448x448.py'

model = dict(loss_wrapper=dict(type='mmseg_aml.AMLLossWrapper'))
default_hooks = dict(aml=dict(type='mmseg_aml.PMMEHook', interval=500))
