# MaskRIS as released, on the released CARIS: use it to compare with published numbers.
_base_ = '../caris/caris_swin-b_2xb8-50e_refcoco-448x448_published.py'

model = dict(loss_wrapper=dict(type='mmseg_aml.MaskRISLossWrapper'))
