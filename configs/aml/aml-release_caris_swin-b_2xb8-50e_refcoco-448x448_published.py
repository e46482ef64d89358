# The released training step on the released CARIS and its schedule.
_base_ = '../caris/caris_swin-b_2xb8-50e_refcoco-448x448_published.py'

model = dict(loss_wrapper=dict(type='mmseg_aml.AMLReleaseLossWrapper'))
default_hooks = dict(aml=dict(type='mmseg_aml.PMMEHook', interval=500))
