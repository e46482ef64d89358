# The decoder reads the words instead of the visual expression.
_base_ = '../vipa_r18-mini_1xb8-8e_ref-shapes-64x64.py'

model = dict(decode_head=dict(expression='language'))
