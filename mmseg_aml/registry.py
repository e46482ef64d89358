"""Registries of ``mmseg_aml``: children of MMEngine's root, scope ``mmseg_aml``.

This file may import MMEngine only: an import error in here is swallowed by
MMEngine's registry and would surface as "X is not in the registry".
"""

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import INFERENCERS as MMENGINE_INFERENCERS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_MODEL_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import PARAM_SCHEDULERS as MMENGINE_PARAM_SCHEDULERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import VISUALIZERS as MMENGINE_VISUALIZERS
from mmengine.registry import Registry

MODELS = Registry(
    'model', parent=MMENGINE_MODELS, locations=['mmseg_aml.models', 'mmseg_aml.strategies']
)
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, locations=['mmseg_aml.datasets'])
TRANSFORMS = Registry(
    'transform', parent=MMENGINE_TRANSFORMS, locations=['mmseg_aml.datasets.transforms']
)
DATA_SAMPLERS = Registry(
    'data sampler', parent=MMENGINE_DATA_SAMPLERS, locations=['mmseg_aml.datasets']
)
FUNCTIONS = Registry('function', parent=MMENGINE_FUNCTIONS, locations=['mmseg_aml.datasets'])
METRICS = Registry('metric', parent=MMENGINE_METRICS, locations=['mmseg_aml.evaluation'])
VISUALIZERS = Registry(
    'visualizer', parent=MMENGINE_VISUALIZERS, locations=['mmseg_aml.visualization']
)
HOOKS = Registry(
    'hook',
    parent=MMENGINE_HOOKS,
    locations=['mmseg_aml.engine', 'mmseg_aml.strategies', 'mmseg_aml.visualization'],
)
INFERENCERS = Registry('inferencer', parent=MMENGINE_INFERENCERS, locations=['mmseg_aml.apis'])
OPTIM_WRAPPERS = Registry(
    'optimizer wrapper', parent=MMENGINE_OPTIM_WRAPPERS, locations=['mmseg_aml.engine']
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    locations=['mmseg_aml.engine'],
)
PARAM_SCHEDULERS = Registry(
    'parameter scheduler', parent=MMENGINE_PARAM_SCHEDULERS, locations=['mmseg_aml.engine']
)
MODEL_WRAPPERS = Registry(
    'model wrapper', parent=MMENGINE_MODEL_WRAPPERS, locations=['mmseg_aml.engine']
)
LOOPS = Registry('loop', parent=MMENGINE_LOOPS, locations=['mmseg_aml.engine'])
