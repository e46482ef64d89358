# Control: the map of another image of the batch, the same filter.
_base_ = './aml_caris_swin-b_2xb8-50e_refcoco-448x448.py'

model = dict(loss_wrapper=dict(control='other-image'))
