"""Pictures of referring segmentation: pure functions (text, panels), a visualizer, a hook."""

from .hook import RISVisualizationHook
from .show_hook import ShowHook
from .visualizer import RISVisualizer

__all__ = ['RISVisualizationHook', 'RISVisualizer', 'ShowHook']
