# CARIS' schedule with the oddities of the release: the very first update runs at the full
# rate, and the rate drops by 1 % (RefCOCO) after the warm-up, where the polynomial takes over.
_base_ = './caris_50e.py'

param_scheduler = [
    dict(
        type='mmseg_aml.PublishedPolyLR',
        warmup=1500,
        end=50,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
