_base_ = '../caris/caris_swin-b_2xb8-50e_refcoco-448x448_published.py'

model = dict(loss_wrapper=dict(type='mmseg_aml.AMLLossWrapper'))
custom_hooks = [dict(type='mmseg_aml.PMMEHook', interval=500)]
