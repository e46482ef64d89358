# Table 3a: step 2 only, the cues read all visual tokens (Table 3b: no cue retrieves).
_base_ = '../vipa_swin-b_2xb6-40e_refcocog-umd-480x480.py'

model = dict(decode_head=dict(steps='refinement'))
