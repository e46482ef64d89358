# Control: the map of the batch's next sample, the same filter.
_base_ = './aml_segformer_r18-mini_1xb8-8e_ref-shapes-64x64.py'

model = dict(loss_wrapper=dict(control='shuffled'))
custom_hooks = [dict(type='mmseg_aml.PMMEHook', interval=50, warmup=2900)]
