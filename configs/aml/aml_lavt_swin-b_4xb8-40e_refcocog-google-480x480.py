_base_ = '../lavt/lavt_swin-b_4xb8-40e_refcocog-google-480x480.py'

model = dict(loss_wrapper=dict(type='mmseg_aml.AMLLossWrapper'))
default_hooks = dict(aml=dict(type='mmseg_aml.PMMEHook', interval=500))
