"""Warnings of the frameworks that are known, and that no user of this package can act on."""

import warnings

# Delete when mmseg builds its losses through the registry that it recommends, and when
# avg_non_ignore, which only matters beside ignored pixels, is no longer asked for by a warning.
HARMLESS = (
    (r'``build_loss`` would be deprecated soon', UserWarning),
    (r'Default ``avg_non_ignore`` is False', UserWarning),
    (r'For binary segmentation, we suggest using', UserWarning),
)


def silence_known_warnings() -> None:
    """Ignores ``HARMLESS``; what is asked for later (``-W``, ``simplefilter``) comes first."""
    for message, category in HARMLESS:
        warnings.filterwarnings('ignore', message=message, category=category)
