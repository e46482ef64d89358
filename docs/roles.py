"""Hook of MkDocs: cross-references of docstrings, ``:class:`~a.B```, show as names."""

import re

ROLE = re.compile(r':(?:class|func|meth|mod|attr|obj):<code>~?\.*([^<]+)</code>')


def on_page_content(html: str, **_: object) -> str:
    """The page with the last part of each name."""
    return ROLE.sub(lambda m: f'<code>{m[1].rsplit(".", 1)[-1]}</code>', html)
