# minirefcoco with sentences made from category, position and size; it has testA and testB.
_base_ = './minirefcoco_448x448.py'

train_dataloader = dict(dataset=dict(dataset='template'))
val_dataloader = dict(dataset=dict(dataset='template'))
test_dataloader = dict(dataset=dict(dataset='template', split='testA'))
