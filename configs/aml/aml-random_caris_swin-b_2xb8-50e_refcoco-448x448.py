# Control: the same area as AML masks, anywhere. What is left is the effect of masking.
_base_ = './aml_caris_swin-b_2xb8-50e_refcoco-448x448.py'

model = dict(loss_wrapper=dict(control='random'))
