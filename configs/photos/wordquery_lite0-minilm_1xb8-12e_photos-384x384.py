_base_ = [
    '../_base_/models/wordquery_lite0-minilm.py',
    '../_base_/datasets/photos_384x384.py',
    '../_base_/schedules/photos_12e.py',
    '../_base_/default_runtime.py',
]
