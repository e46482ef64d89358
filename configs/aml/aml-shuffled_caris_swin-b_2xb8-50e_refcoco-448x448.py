# Control: the map of the batch's next sample, the same filter.
_base_ = '../caris/caris_swin-b_2xb8-50e_refcoco-448x448.py'

model = dict(loss_wrapper=dict(type='mmseg_aml.AMLLossWrapper', control='shuffled'))
custom_hooks = [dict(type='mmseg_aml.PMMEHook', interval=500)]
