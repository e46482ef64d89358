_base_ = '../towers/upernet_dinov2-b-xlmr_2xb8-50e_refcoco-448x448.py'

model = dict(loss_wrapper=dict(type='mmseg_aml.MaskRISLossWrapper', whole_words=True))
