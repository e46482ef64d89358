"""What plain MMEngine cannot say: schedules, precision, exact resuming, surviving faults."""

from mmseg_aml.engine import (
    bf16_optim_wrapper,
    checkpoint_hook,
    compile_hook,
    data_fault_hook,
    distributed,
    exact_resume_hook,
    interrupt_hook,
    nonfinite_hook,
    optim_constructors,
    pending_validation_hook,
    same_buffers_hook,
    schedule_hook,
    schedulers,
)

__all__ = [
    'bf16_optim_wrapper',
    'checkpoint_hook',
    'compile_hook',
    'data_fault_hook',
    'distributed',
    'exact_resume_hook',
    'interrupt_hook',
    'nonfinite_hook',
    'optim_constructors',
    'pending_validation_hook',
    'same_buffers_hook',
    'schedule_hook',
    'schedulers',
]
