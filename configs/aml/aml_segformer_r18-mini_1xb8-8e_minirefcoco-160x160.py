_base_ = '../mmseg_heads/segformer_r18-mini_1xb8-8e_minirefcoco-160x160.py'

model = dict(loss_wrapper=dict(type='mmseg_aml.AMLLossWrapper'))
custom_hooks = [dict(type='mmseg_aml.PMMEHook', interval=20, draw_interval=20)]
