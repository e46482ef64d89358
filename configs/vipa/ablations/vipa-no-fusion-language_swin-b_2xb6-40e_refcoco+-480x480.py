# Table 4, without visual expression.
_base_ = './vipa-no-fusion_swin-b_2xb6-40e_refcoco+-480x480.py'

model = dict(decode_head=dict(expression='language'))
