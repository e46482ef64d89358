# Clean and masked view; the map comes from the clean one's features, so there is no stage 1.
_base_ = '../caris/caris_swin-b_2xb8-50e_refcoco-448x448.py'

model = dict(loss_wrapper=dict(type='mmseg_aml.AMLLossWrapper', clean_weight=0.5))
default_hooks = dict(aml=dict(type='mmseg_aml.PMMEHook', interval=500))
