# Stage 1 at half resolution, whose level of stride 8 has the full size's grid: a quarter of
# its cost.
_base_ = './aml_segformer_r18-mini_1xb8-8e_ref-shapes-64x64.py'

model = dict(loss_wrapper=dict(estimator=dict(level=1), stage1_scale=0.5))
