_base_ = '../mmseg_heads/segformer_r18-mini_1xb16-12e_ref-shapes-128x128.py'

model = dict(loss_wrapper=dict(type='mmseg_aml.AMLLossWrapper'))
custom_hooks = [dict(type='mmseg_aml.PMMEHook', interval=50)]
