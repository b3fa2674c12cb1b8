"""No line of the product runs what it reads, or hands a text to a shell or a database: every call is looked at."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("study", "trainers", "analysis", "deploy")

UNPICKLE = ("pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle")
FORBIDDEN = {
    "eval": "runs text",
    "exec": "runs text",
    "os.system": "is a shell",
    "os.popen": "is a shell",
    "pandas.read_pickle": "unpickles",
    "pd.read_pickle": "unpickles",
    "torch.jit.load": "runs what it loads",
    "torch.export.load": "runs what it loads",
}
"""Calls that are never right here, beside everything of UNPICKLE's modules that loads."""


def name_of(call: ast.expr) -> str:
    """Dotted, as written; empty where it is something else than names."""
    if isinstance(call, ast.Name):
        return call.id
    if isinstance(call, ast.Attribute):
        return f"{name_of(call.value)}.{call.attr}"
    return ""


def literal(call: ast.Call, keyword: str) -> object:
    """The constant that a keyword is given; None without it."""
    given = [one.value for one in call.keywords if one.arg == keyword]
    return given[0].value if given and isinstance(given[0], ast.Constant) else None


def problem_of(call: ast.Call) -> str:  # noqa: PLR0911
    """What is wrong with a call; empty where nothing is."""
    name = name_of(call.func)
    module, _, last = name.rpartition(".")
    if name in FORBIDDEN:
        return FORBIDDEN[name]
    if module.split(".")[-1] in UNPICKLE and last in ("load", "loads", "open", "Unpickler", "decode"):
        return "unpickles"
    if name == "torch.load" and literal(call, "weights_only") is not True:
        return "unpickles without weights_only=True"
    if last in ("load", "load_all") and module == "yaml":
        return "makes any object that a YAML file names"
    if literal(call, "allow_pickle") is True:
        return "unpickles arrays"
    if literal(call, "shell") is True:
        return "is a shell"
    if last in ("execute", "executemany", "executescript", "read_sql", "read_sql_query") and call.args:
        return "builds SQL" if isinstance(call.args[0], ast.JoinedStr | ast.BinOp) else ""
    return ""


def problems(source: str) -> Iterator[str]:
    """Every call of a file that is forbidden, with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and (problem := problem_of(node)):
            yield f"line {node.lineno}: {ast.unparse(node.func)} {problem}"
        if isinstance(node, ast.ImportFrom) and node.module in UNPICKLE:
            yield f"line {node.lineno}: names of {node.module} hide what they are"


def test_the_product_runs_nothing_that_it_reads() -> None:
    files = [path for package in PRODUCT for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(files) > 100
    assert [f"{path.relative_to(ROOT)}: {line}" for path in files for line in problems(path.read_text())] == []


@pytest.mark.parametrize(
    "line",
    [
        "pickle.load(file)",
        "ray.cloudpickle.loads(data)",
        "from pickle import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=trusted)",
        "torch.jit.load(path)",
        "yaml.load(text, Loader=yaml.Loader)",
        "np.load(path, allow_pickle=True)",
        "joblib.load(path)",
        "pd.read_pickle(path)",
        "eval(text)",
        "exec(text)",
        "subprocess.run(command, shell=True)",
        "os.system(command)",
        "connection.execute(f'select * from runs where name = {name}')",
        "connection.execute('select * from runs where name = ' + name)",
    ],
)
def test_a_planted_one_is_named(line: str) -> None:
    assert len(list(problems(line))) == 1


@pytest.mark.parametrize(
    "line", ["torch.load(path, weights_only=True)", "json.loads(text)", "subprocess.run(command)", "self.load(path)"]
)
def test_a_harmless_one_is_not(line: str) -> None:
    assert list(problems(line)) == []
