# Blocks of 2 x 2 patches: 32 pixels would cut patches of 14 apart.
_base_ = '../detris/detris_dinov2-b_2xb16-65e_refcocog-google-448x448.py'

model = dict(
    loss_wrapper=dict(
        type='mmseg_aml.AMLLossWrapper', filter=dict(type='mmseg_aml.AFM', block_size=28)
    )
)
default_hooks = dict(aml=dict(type='mmseg_aml.PMMEHook', interval=500))
