# Table 2: the decoder reads the words (vanilla language expression).
_base_ = '../vipa_swin-b_2xb6-40e_refcocog-umd-480x480.py'

model = dict(decode_head=dict(expression='language'))
