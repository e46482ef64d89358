"""The paper is ``pmme``, ``afm``, ``wrapper`` and ``hook``; the rest is for study."""
