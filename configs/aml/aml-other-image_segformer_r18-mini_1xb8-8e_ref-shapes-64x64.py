# Control: the map of another image of the batch, the same filter.
_base_ = './aml_segformer_r18-mini_1xb8-8e_ref-shapes-64x64.py'

model = dict(loss_wrapper=dict(control='other-image'))
