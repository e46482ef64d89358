"""Referring expressions for any COCO-format file, each proved to mean one object.

``vocabulary`` (what a category may be called) -> ``photo`` (annotations as readings of a scene) ->
``language`` (forms of :mod:`~mmseg_aml.datasets.expressions` to try) and ``templates`` (how they
are said) -> ``convert`` (REFER files).
"""
