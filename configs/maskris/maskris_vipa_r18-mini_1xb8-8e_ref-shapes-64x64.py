_base_ = '../vipa/vipa_r18-mini_1xb8-8e_ref-shapes-64x64.py'

model = dict(loss_wrapper=dict(type='mmseg_aml.MaskRISLossWrapper', patch_size=16))
