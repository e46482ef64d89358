# Table 3b: only the sentence retrieves.
_base_ = '../vipa_swin-b_2xb6-40e_refcocog-umd-480x480.py'

model = dict(decode_head=dict(cues='global'))
