_base_ = '../lavt/lavt_swin-b_4xb8-40e_refcoco-mixed-480x480.py'

model = dict(loss_wrapper=dict(type='mmseg_aml.MaskRISLossWrapper'))
