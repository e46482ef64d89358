# As ref_shapes_8e.py for transformers and ConvNeXt: a quarter of the rate.
_base_ = './ref_shapes_8e.py'

optim_wrapper = dict(optimizer=dict(lr=1e-3), paramwise_cfg=dict(_delete_=True, custom_keys=dict()))
