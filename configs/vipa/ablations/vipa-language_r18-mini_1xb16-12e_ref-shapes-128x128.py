# The decoder reads the words instead of the visual expression.
_base_ = '../vipa_r18-mini_1xb16-12e_ref-shapes-128x128.py'

model = dict(decode_head=dict(expression='language'))
