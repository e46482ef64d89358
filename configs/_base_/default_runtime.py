# What every run shares. Types of this package are written `mmseg_aml.X`, mmseg's are bare.
default_scope = 'mmseg'
custom_imports = dict(imports=['mmseg_aml'], allow_failed_imports=False)  # compat comes first

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=True),
    param_scheduler=dict(type='mmseg_aml.ScheduleHook'),
    checkpoint=dict(
        type='mmseg_aml.AtomicCheckpointHook',
        by_epoch=True,
        interval=1,
        max_keep_ckpts=2,  # one to fall back to
        save_best='auto',  # the first metric: ris/original/mIoU, of gRefCOCO gres/original/gIoU
        rule='greater',
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    exact_resume=dict(type='mmseg_aml.ExactResumeHook'),
    interrupt=dict(type='mmseg_aml.InterruptHook'),
    pending_validation=dict(type='mmseg_aml.PendingValidationHook'),
    nonfinite=dict(type='mmseg_aml.NonFiniteHook', policy='raise'),
    data_faults=dict(type='mmseg_aml.DataFaultHook'),
    same_buffers=dict(type='mmseg_aml.SameBuffersHook'),
    visualization=dict(type='mmseg_aml.RISVisualizationHook'),
)

vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(type='mmseg_aml.RISVisualizer', name='visualizer', vis_backends=vis_backends)
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
log_level = 'INFO'

env_cfg = dict(
    cudnn_benchmark=False,  # True picks kernels by speed: faster, not repeatable
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
# deterministic=True also takes PyTorch's slower repeatable CUDA kernels: docs/cluster.md.
randomness = dict(seed=0, deterministic=False)
model_wrapper_cfg = dict(type='mmseg_aml.AnyDeviceDDP', find_unused_parameters=False)

load_from = None
resume = False
