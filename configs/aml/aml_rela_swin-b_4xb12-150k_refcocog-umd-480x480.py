_base_ = '../rela/rela_swin-b_4xb12-150k_refcocog-umd-480x480.py'

model = dict(loss_wrapper=dict(type='mmseg_aml.AMLLossWrapper'))
default_hooks = dict(aml=dict(type='mmseg_aml.PMMEHook', interval=500))
