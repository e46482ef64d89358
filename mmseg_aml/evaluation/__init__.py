"""Measure: RIS and GRES metrics under named protocols."""

from .gres import GRESMetric
from .protocols import (
    Protocol,
    available_protocols,
    get_protocol,
    get_protocols,
    register_protocol,
)
from .ris_metric import RISMetric

__all__ = [
    'GRESMetric',
    'Protocol',
    'RISMetric',
    'available_protocols',
    'get_protocol',
    'get_protocols',
    'register_protocol',
]
