from .hub import model_card, push
from .inferencer import RISInferencer
from .prediction import RISPrediction
from .requests import Request

__all__ = ['RISInferencer', 'RISPrediction', 'Request', 'model_card', 'push']
