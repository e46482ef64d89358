# Blocks of 2 x 2 patches; CLIP has no mask token, so words stay.
_base_ = '../detris/detris_dinov2-b_2xb16-65e_refcoco+-448x448.py'

model = dict(loss_wrapper=dict(type='mmseg_aml.MaskRISLossWrapper', patch_size=28, text_ratio=0.0))
