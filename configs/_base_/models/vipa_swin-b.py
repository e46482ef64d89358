# VIPA (arXiv 2602.14788, no code released): LAVT's Swin-B, which reads BERT's words after every
# stage, stands for the paper's early fusion; its decoder reads a visual expression.
# docs/vipa.md says which numbers are the paper's and which are ours.
_base_ = './lavt_swin-b.py'

model = dict(
    decode_head=dict(
        _delete_=True,
        type='mmseg_aml.VIPAHead',
        in_channels=(128, 256, 512, 1024),
        channels=256,
        text_channels=768,
        ratio=0.3,  # best in the paper: 68 of the 15 x 15 tokens at 480 / 32
        threshold=0.5,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
    ),
)
