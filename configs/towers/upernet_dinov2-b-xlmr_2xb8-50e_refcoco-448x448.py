_base_ = './upernet_dinov2-b_2xb8-50e_refcoco-448x448.py'

# Sentences in 100 languages.
model = dict(text_encoder=dict(name='FacebookAI/xlm-roberta-base', max_length=32))
