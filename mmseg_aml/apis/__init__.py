from .inferencer import RISInferencer, RISPrediction

__all__ = ['RISInferencer', 'RISPrediction']
