# The text tower is cut out of MiniLM (two layers, 4,000 tokens) by
# tools/model_converters/cut_text_tower.py and learns along; small enough to ship.
_base_ = './wordquery_lite0-minilm_1xb8-12e_photos-384x384.py'

import os

name = os.environ.get('TEXT_TOWER', 'work_dirs/text_tower')
model = dict(text_encoder=dict(name=name, frozen=False))
