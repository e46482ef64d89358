# Control: the same area as AML masks, anywhere. What is left is the effect of masking.
_base_ = './aml_vipa_r18-mini_1xb8-8e_ref-shapes-64x64.py'

model = dict(loss_wrapper=dict(control='random'))
