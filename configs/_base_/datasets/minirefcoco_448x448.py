# minirefcoco: 326 COCO photographs with machine-written sentences, in REFER layout. It shows
# that the pipeline works on real photographs; its numbers are no RefCOCO results.
# Set the environment variable MINIREFCOCO to its folder.
_base_ = './refcoco_448x448.py'

import os

data_root = os.environ.get('MINIREFCOCO', 'data/minirefcoco')
train_dataloader = dict(num_workers=2, dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root, split='val'))
