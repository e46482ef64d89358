# CARIS as released, oddities included: use it to compare with published numbers.
_base_ = [
    '../_base_/models/caris_swin-b.py',
    '../_base_/datasets/refcoco_448x448.py',
    '../_base_/schedules/caris_50e_published.py',
    '../_base_/default_runtime.py',
]

model = dict(text_encoder=dict(truncation='cut'))  # a long sentence loses its [SEP]
# Published numbers count pixels of the squashed 448 x 448 masks; the best oIoU is kept.
default_hooks = dict(checkpoint=dict(save_best='ris/resized-448/oIoU'))
