# Clean and masked view; the map comes from the clean one's features, so there is no stage 1.
_base_ = './aml_segformer_r18-mini_1xb8-8e_ref-shapes-64x64.py'

model = dict(loss_wrapper=dict(clean_weight=0.5))
