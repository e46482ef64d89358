# A cue retrieves 80 % of the visual tokens: 180 of 225.
_base_ = '../vipa_swin-b_2xb6-40e_refcoco+-480x480.py'

model = dict(decode_head=dict(ratio=0.8))
