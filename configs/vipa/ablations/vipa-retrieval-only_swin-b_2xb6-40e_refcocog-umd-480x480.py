# Table 3a: step 1 only, the aggregated tokens are the visual expression.
_base_ = '../vipa_swin-b_2xb6-40e_refcocog-umd-480x480.py'

model = dict(decode_head=dict(steps='retrieval'))
