"""How every page is made: one strict template environment, and a policy that lets a page use only its own parts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


def read_part(*names: str) -> str:
    """Our own style or script files, one after the other."""
    return "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)


def render_template(
    name: str, *, css: str, script: str = "", filters: dict[str, Callable[..., Any]], **context: Any
) -> str:
    """The page as HTML text; every word of ``context`` is escaped, and a name that the template lacks is an error.

    ``css`` and ``script`` are our own files' text, named by hash in the page's policy; no text of a study may be in
    them.
    """
    environment = _environment()
    environment.filters.update(filters)
    return environment.get_template(name).render(
        css=Markup(css),  # noqa: S704
        script=Markup(script),  # noqa: S704
        policy=content_policy(css, script),
        **context,
    )


@cache
def _environment() -> Environment:
    """One for all pages: it keeps compiled templates, of which a report renders one as often as it has losses."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,  # for every name, not only .html: the templates end in .j2
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def content_policy(css: str, script: str = "") -> str:
    """The page may use its own style and script, named by hash, and images that it carries: nothing else.

    Without a script no script may run at all.
    """
    scripts = f"script-src 'sha256-{_hash(script)}'; " if script else ""
    return (
        f"default-src 'none'; style-src 'sha256-{_hash(css)}'; {scripts}"
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
