"""Referring expressions whose uniqueness is proved: one logic for drawn and for annotated scenes.

``scene`` (what an expression can be about) -> ``logic`` (what it means) -> ``choice`` (which forms
refer to an object) -> ``wording`` (how they are said).
"""
