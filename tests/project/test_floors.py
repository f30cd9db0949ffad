"""The floors of CONTRIBUTING.md, enforced; and the size of modules, functions and the engine."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "vlsm_helpers"
ENGINE = ("models", "training", "evaluation", "fusion", "inference", "metrics", "settings", "io")
LINES_OF_A_MODULE, LINES_OF_A_FUNCTION, LINES_OF_THE_ENGINE = 300, 60, 7500


def floors() -> dict[str, int]:
    """The floor of each folder, from the table of CONTRIBUTING.md."""
    rows = re.findall(r"^\| (\d+) \| (`[^|]+`) \|", (PROJECT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)
    return {folder: int(number) for number, folders in rows for folder in re.findall(r"`(\w+)`", folders)}


def modules(package: Path) -> dict[str, Path]:
    """Every module under `package`, by its dotted name; a folder's is that of its `__init__`."""
    found = {path.relative_to(package.parent).with_suffix(""): path for path in sorted(package.rglob("*.py"))}
    return {".".join(name.parts).removesuffix(".__init__"): path for name, path in found.items()}


def imports(package: Path) -> dict[str, set[str]]:
    """The modules of the package that each of its modules imports, wherever in the file."""
    known = modules(package)
    return {name: _imported(ast.parse(path.read_text()), known) - {name} for name, path in known.items()}


def _imported(tree: ast.AST, known: dict[str, Path]) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in known}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module in known:
            inner = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {
                whole if whole in known else node.module for name, whole in inner.items() if name != "__version__"
            }
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"a relative import in line {node.lineno}: write it out")
    return found


def violations(package: Path) -> list[str]:
    """Imports that go up or sideways, and those from the package's own front door."""
    floor = floors()
    found = []
    for name, needed in imports(package).items():
        folder = name.split(".")[1] if "." in name else None
        for other in needed:
            target = other.split(".")[1] if "." in other else None
            if target is None or (folder and folder != target and floor[target] >= floor[folder]):
                found.append(f"{name} imports {other}")
    return sorted(found)


def test_the_table_names_every_folder_once():
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert set(floors()) == parts - {"__init__"}


def test_a_module_imports_from_lower_floors_only():
    assert violations(PACKAGE) == []


def test_no_modules_import_each_other_in_a_circle():
    try:
        list(TopologicalSorter(imports(PACKAGE)).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("from vlsm_helpers.fusion.rule import Rule", "vlsm_helpers.data.bad imports vlsm_helpers.fusion.rule"),
        (
            "def f():\n    import vlsm_helpers.models.factory",
            "vlsm_helpers.data.bad imports vlsm_helpers.models.factory",
        ),
        ("from vlsm_helpers import Predictor", "vlsm_helpers.data.bad imports vlsm_helpers"),
        ("from vlsm_helpers import settings, errors, __version__", None),
    ],
)
def test_an_import_that_goes_up_is_found_wherever_it_stands(tmp_path, line, refused):
    package = tmp_path / "vlsm_helpers"
    for name in (
        "__init__",
        "errors",
        "data/__init__",
        "data/bad",
        "settings/__init__",
        "fusion/rule",
        "models/factory",
    ):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / f"{name}.py").touch()
    (package / "data" / "bad.py").write_text(line)
    assert violations(package) == [refused] * bool(refused)


def test_modules_functions_and_the_engine_stay_small():
    lines = {name: len(path.read_text().splitlines()) for name, path in modules(PACKAGE).items()}
    assert {name: count for name, count in lines.items() if count > LINES_OF_A_MODULE} == {}
    functions = {
        f"{name}.{node.name}": node.end_lineno - node.lineno + 1
        for name, path in modules(PACKAGE).items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert {name: count for name, count in functions.items() if count > LINES_OF_A_FUNCTION} == {}
    assert sum(count for name, count in lines.items() if name.split(".")[1:2] in [[part] for part in ENGINE]) <= (
        LINES_OF_THE_ENGINE
    )


def test_each_folder_says_in_one_sentence_what_it_holds():
    for folder in floors():
        path = PACKAGE / folder / "__init__.py"
        if path.exists():
            first = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")[0]
            assert re.fullmatch(r"[^.]+(\.\w[^.]*)*\.", first.replace("\n", " ")), f"{folder}: {first!r}"
