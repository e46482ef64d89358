# The paper's AML (ours: t, whole blocks) on the host as released, with its schedule. What the
# AMLRIS release itself does is aml-release_*.
_base_ = '../caris/caris_swin-b_2xb8-50e_refcoco-448x448_published.py'

model = dict(loss_wrapper=dict(type='mmseg_aml.AMLLossWrapper'))
default_hooks = dict(aml=dict(type='mmseg_aml.PMMEHook', interval=500))
