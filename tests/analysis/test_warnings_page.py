"""docs/warnings.md lists every warning of the analysis, and no other."""

import re

from tests.conftest import REPOSITORY


def test_every_warning_is_listed_once_and_in_order():
    sources = [path.read_text(encoding="utf-8") for path in sorted((REPOSITORY / "analysis").glob("*.py"))]
    raised = {name for source in sources for name in re.findall(r'"(W\d\d)"', source)}
    page = (REPOSITORY / "docs" / "warnings.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (W\d\d) \|", page, flags=re.MULTILINE) == sorted(raised)
