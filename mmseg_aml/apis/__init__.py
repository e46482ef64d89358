from .hub import model_card, push
from .inferencer import RISInferencer, RISPrediction

__all__ = ['RISInferencer', 'RISPrediction', 'model_card', 'push']
