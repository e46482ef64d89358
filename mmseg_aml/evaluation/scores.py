"""From intersections and unions to the numbers of papers, in int64 and float64.

Definitions: RefCOCO metrics as in CRIS and LAVT; GRES metrics as in ReLA (Liu et al., GRES:
Generalized Referring Expression Segmentation, CVPR 2023).
"""

from __future__ import annotations

import numpy as np
from prettytable import PrettyTable

from .protocols import PrecisionRule, Protocol

PRECISIONS = (0.5, 0.6, 0.7, 0.8, 0.9)
GRES_PRECISIONS = (0.7, 0.8, 0.9)


def iou(counts: np.ndarray, empty_union: float = 0.0) -> np.ndarray:
    """I / U of (N, 2) int64 pixel counts, (N,) float64; ``empty_union`` where U = 0."""
    intersection, union = counts[:, 0], counts[:, 1]
    return np.where(union > 0, intersection / np.maximum(union, 1), empty_union)


def percent(part: float, whole: float) -> float:
    """100 * part / whole; NaN where there is nothing to count."""
    return 100.0 * (float(part) / float(whole)) if whole else float('nan')


def precision(ious: np.ndarray, threshold: float, rule: PrecisionRule = '>=') -> float:
    """Share of ``ious`` that reach ``threshold``, in percent."""
    hits = ious >= threshold if rule == '>=' else ious > threshold
    return percent(hits.sum(), len(ious))


def ris_scores(counts: np.ndarray, protocol: Protocol) -> dict[str, float]:
    """mIoU, oIoU and Pr@X in percent, and the number of empty unions.

    Args:
        counts: (N, 2) int64, I and U of each expression.
        protocol: Gives the rules for empty unions and for Pr@X.
    """
    ious = iou(counts, protocol.empty_union)
    ious = ious[~np.isnan(ious)]
    scores = {
        'mIoU': percent(ious.sum(), len(ious)),
        'oIoU': percent(counts[:, 0].sum(), counts[:, 1].sum()),
    }
    for threshold in PRECISIONS:
        scores[f'Pr@{threshold}'] = precision(ious, threshold, protocol.precision_rule)
    scores['empty_unions'] = int((counts[:, 1] == 0).sum())
    return scores


def gres_scores(
    counts: np.ndarray, no_target: np.ndarray, predicted: np.ndarray, protocol: Protocol
) -> dict[str, float]:
    """gIoU, cIoU, N-acc, T-acc and Pr@X of generalised referring expressions, in percent.

    A found no-target expression has IoU 1 and adds nothing to cIoU; a missed one has IoU 0 and
    adds its predicted pixels to U. A target expression that is taken for no-target has I = 0 and
    keeps its U. Pr@X is over target expressions, N-acc over no-target, T-acc over target ones.

    Args:
        counts: (N, 2) int64, I and U of each expression.
        no_target: (N,) bool, the expression has no target.
        predicted: (N,) bool, it is predicted to have none.
        protocol: Gives the rules for empty unions (of target expressions) and for Pr@X.
    """
    counts = counts.copy()
    counts[predicted, 0] = 0
    counts[predicted & no_target] = 0
    ious = iou(counts, protocol.empty_union)
    ious[no_target] = predicted[no_target]
    on_target = ious[~no_target & ~np.isnan(ious)]
    valid = ious[~np.isnan(ious)]
    scores = {
        'gIoU': percent(valid.sum(), len(valid)),
        'cIoU': percent(counts[:, 0].sum(), counts[:, 1].sum()),
        'N-acc': percent((no_target & predicted).sum(), no_target.sum()),
        'T-acc': percent((~no_target & ~predicted).sum(), (~no_target).sum()),
    }
    for threshold in GRES_PRECISIONS:
        scores[f'Pr@{threshold}'] = precision(on_target, threshold, protocol.precision_rule)
    return scores


def score_table(title: str, scores: dict[str, dict[str, float]]) -> str:
    """One row per protocol, one column per number; percentages with two decimals."""
    columns = list(next(iter(scores.values())))
    table = PrettyTable(['protocol', *columns], title=title)
    for name, row in scores.items():
        cells = [row[column] for column in columns]
        table.add_row([name, *(f'{v:.2f}' if isinstance(v, float) else v for v in cells)])
    for column in columns:
        table.align[column] = 'r'
    table.align['protocol'] = 'l'
    return table.get_string()
