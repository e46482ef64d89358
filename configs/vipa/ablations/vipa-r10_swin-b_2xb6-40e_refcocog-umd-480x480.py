# A cue retrieves 10 % of the visual tokens: 23 of 225.
_base_ = '../vipa_swin-b_2xb6-40e_refcocog-umd-480x480.py'

model = dict(decode_head=dict(ratio=0.1))
