"""The form of every committed notebook; `make notebooks` brings most of it about."""

import ast
import re
import warnings
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import notebooks as stamping
from tools.opened import hash_of
from vlsm_helpers import __version__

LESSONS = sorted(stamping.NOTEBOOKS.glob("*.ipynb"))
SOLUTIONS = sorted(stamping.NOTEBOOKS.glob("solutions/*.ipynb"))
MAX_LINES = 25
RESTAMP = "run `make notebooks`"


def sources(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def tree(source):
    """The syntax tree of a code cell, magics included."""
    return ast.parse(TransformerManager().transform_cell(source))


def tagged(notebook, tag):
    return [n for n, cell in enumerate(notebook.cells) if tag in cell.metadata.get("tags", [])]


def first(notebook, kind, *words):
    """The place of the first cell of this kind that has all these words."""
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == kind and all(word in cell.source.lower() for word in words):
            return number
    return None


def title_comes_first(notebook, path):
    assert notebook.cells[0].cell_type == "markdown", "begin with a Markdown cell"
    assert notebook.cells[0].source.startswith("# "), "begin with the title, `# Title`"


def pictures_in_the_text_are_there(notebook, path):
    for number, cell in enumerate(notebook.cells, start=1):
        for name in re.findall(r"\(attachment:([^)]+)\)", cell.source):
            assert name in cell.get("attachments", {}), f"cell {number} shows {name}, which is not attached: {RESTAMP}"


def badges_lead_to_this_notebook(notebook, path):
    cells = tagged(notebook, "badges")
    assert len(cells) == 1, "tag one Markdown cell `badges`; its text is generated"
    assert notebook.cells[cells[0]].source == stamping.badges(path), f"the badges are not up to date: {RESTAMP}"


def a_table_says_what_it_takes(notebook, path):
    place = first(notebook, "markdown", "|", "you will learn", "needs", "minutes", "mb")
    assert place is not None, "add a table: what you will learn, what it needs, minutes, MB that it downloads"


def colab_installs_under_a_guard(notebook, path):
    source = sources(notebook)[0]
    assert "google.colab" in source, "the first code cell installs the package, on Colab only: test for google.colab"
    assert stamping.REPOSITORY in source, f"install from {stamping.REPOSITORY}, pyproject's Repository"
    unguarded = [line for line in source.splitlines() if "install" in line and not line.startswith((" ", "#"))]
    assert not unguarded, f"put under `if`: {unguarded[0]}"


def parameters_are_none(notebook, path):
    cells = tagged(notebook, "parameters")
    assert len(cells) == 1, "tag one code cell `parameters`"
    source = notebook.cells[cells[0]].source
    lines = [ast.unparse(statement) for statement in tree(source).body]
    expected = ["PROFILE = None", "DATASET = None", "SEED = None"]
    assert lines == expected, f"the parameters cell holds nothing but {', '.join(expected)}"


def start_comes_next(notebook, path):
    parameters = tagged(notebook, "parameters")[0]
    following = [cell.source for cell in notebook.cells[parameters + 1 :] if cell.cell_type == "code"]
    calls = [ast.unparse(node) for node in ast.walk(tree(following[0])) if isinstance(node, ast.Call)]
    assert any(call.endswith("start(PROFILE, DATASET, SEED)") for call in calls), (
        "the code cell after the parameters calls vlsm.start(PROFILE, DATASET, SEED)"
    )


def the_opening_is_in_order(notebook, path):
    places = {
        "title": 0,
        "badges": tagged(notebook, "badges")[0],
        "table": first(notebook, "markdown", "|", "you will learn"),
        "install cell": first(notebook, "code", "google.colab"),
        "parameters": tagged(notebook, "parameters")[0],
    }
    in_order = sorted(places, key=places.get)
    assert in_order == list(places), f"order the opening: {', '.join(places)}; it is {', '.join(in_order)}"


def code_cells_are_short(notebook, path):
    for source in sources(notebook):
        lines = len(source.splitlines())
        assert lines <= MAX_LINES, f"split the cell of {lines} lines that begins {source.splitlines()[0]!r}"


def it_was_run_from_top_to_bottom(notebook, path):
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), f"its cells were not all run once, in order: {RESTAMP}"
    assert any(cell.get("outputs") for cell in notebook.cells), f"it has no outputs: {RESTAMP}"


def outputs_are_fit_to_read(notebook, path):
    problems = stamping.output_problems(notebook)
    assert not problems, f"{problems[0]}; fix the cell and {RESTAMP}"


def figures_have_alternative_text(notebook, path):
    for number, cell in enumerate(notebook.cells, start=1):
        for output in cell.get("outputs", []):
            for kind in output.get("data", {}):
                alt = output.metadata.get(kind, {}).get("alt")
                assert alt or not kind.startswith("image/"), (
                    f"show the figure of cell {number} with plots.show(figure, alt)"
                )


def sources_name_no_folder_of_a_machine(notebook, path):
    for source in (cell.source for cell in notebook.cells):
        found = stamping.ABSOLUTE_PATH.search(source)
        assert not found, f"replace the absolute path in {source[max(0, found.start() - 20) :].splitlines()[0]!r}"


def metadata_is_what_the_command_writes(notebook, path):
    kept = {*stamping.KEPT_METADATA, "kernelspec", "language_info", "vlsm"}
    assert set(notebook.metadata) <= kept, f"it keeps {', '.join(set(notebook.metadata) - kept)}: {RESTAMP}"
    assert notebook.metadata.get("kernelspec") == stamping.KERNEL, f"its kernel is not python3: {RESTAMP}"
    for cell in notebook.cells:
        extra = set(cell.metadata) - set(stamping.KEPT_CELL_METADATA)
        assert not extra, f"a cell keeps {', '.join(extra)}: {RESTAMP}"


def the_stamp_fits_the_code(notebook, path):
    stamp = notebook.metadata.get("vlsm")
    assert stamp, f"it was never stamped: {RESTAMP}"
    assert stamp["code"] == stamping.code_hash(notebook), f"its code changed since its outputs were made: {RESTAMP}"
    if stamp["version"] != __version__:
        warnings.warn(f"{path.name} was stamped by version {stamp['version']}, this is {__version__}", stacklevel=1)


def the_stamp_fits_the_shipped_files(notebook, path):
    stamped = notebook.metadata["vlsm"].get("shipped")
    assert stamped is not None, f"what it opens was never stamped: {RESTAMP}"
    changed = [name for name, digest in stamped.items() if hash_of(name) != digest]
    assert not changed, f"files that it opened changed since its outputs were made, {', '.join(changed)}: {RESTAMP}"


OF_ALL = [
    title_comes_first,
    pictures_in_the_text_are_there,
    code_cells_are_short,
    it_was_run_from_top_to_bottom,
    outputs_are_fit_to_read,
    figures_have_alternative_text,
    sources_name_no_folder_of_a_machine,
    metadata_is_what_the_command_writes,
    the_stamp_fits_the_code,
    the_stamp_fits_the_shipped_files,
]
OF_LESSONS = [
    badges_lead_to_this_notebook,
    a_table_says_what_it_takes,
    colab_installs_under_a_guard,
    parameters_are_none,
    start_comes_next,
    the_opening_is_in_order,
]


def named(item):
    return str(item.relative_to(stamping.NOTEBOOKS)) if isinstance(item, Path) else item.__name__


def test_there_are_notebooks():
    assert LESSONS, f"no notebooks in {stamping.NOTEBOOKS}"


@pytest.mark.parametrize("rule", OF_ALL, ids=named)
@pytest.mark.parametrize("path", [*LESSONS, *SOLUTIONS], ids=named)
def test_notebook(path, rule):
    rule(nbformat.read(path, as_version=4), path)


@pytest.mark.parametrize("rule", OF_LESSONS, ids=named)
@pytest.mark.parametrize("path", LESSONS, ids=named)
def test_lesson(path, rule):
    rule(nbformat.read(path, as_version=4), path)


@pytest.mark.parametrize("path", [*LESSONS, *SOLUTIONS], ids=named)
def test_size(path):
    assert path.stat().st_size <= stamping.MAX_BYTES, f"make figures smaller or fewer, then {RESTAMP}"


@pytest.mark.parametrize("path", SOLUTIONS, ids=named)
def test_a_solution_has_its_lesson(path):
    assert path.name in [lesson.name for lesson in LESSONS]


# The rules themselves: a notebook that keeps them all, and what each of them must object to.

INSTALL = (
    f'import sys\n\nif "google.colab" in sys.modules:\n    %pip install "vlsm-helpers @ git+{stamping.REPOSITORY}"'
)
TABLE = "| you will learn | needs | minutes | MB |\n|---|---|---|---|\n| a | b | 1 | 0 |"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg=="
PLACE = stamping.NOTEBOOKS / "00_model.ipynb"
OPENED = "literature.csv"


def model() -> NotebookNode:
    figure = new_output("display_data", data={"image/png": PIXEL}, metadata={"image/png": {"alt": "white"}})
    notebook = new_notebook(
        cells=[
            new_markdown_cell("# A model\n\n![white](attachment:headline.png)"),
            new_markdown_cell("", metadata={"tags": ["badges"]}),
            new_markdown_cell(TABLE),
            new_code_cell(INSTALL, metadata={"tags": ["install"]}, execution_count=1),
            new_code_cell(
                "# left open\nPROFILE = None\nDATASET = None\nSEED = None",
                metadata={"tags": ["parameters"]},
                execution_count=2,
            ),
            new_code_cell("settings = vlsm.start(PROFILE, DATASET, SEED)", execution_count=3),
            new_markdown_cell("What do you expect?"),
            new_code_cell("show(figure)", metadata={"tags": ["headline"]}, execution_count=4, outputs=[figure]),
        ]
    )
    return stamping.cleaned(notebook, PLACE, {}, [OPENED])


def set_source(number, source):
    return lambda notebook: notebook.cells[number].update(source=source)


def set_output(**fields):
    return lambda notebook: notebook.cells[-1].update(outputs=[new_output(**fields)])


def swap(one, other):
    def change(notebook):
        notebook.cells[one], notebook.cells[other] = notebook.cells[other], notebook.cells[one]

    return change


BREAKAGES = [
    (title_comes_first, swap(0, 3)),
    (pictures_in_the_text_are_there, lambda notebook: notebook.cells[0].pop("attachments")),
    (badges_lead_to_this_notebook, set_source(1, "[![Colab](elsewhere)](elsewhere)")),
    (a_table_says_what_it_takes, set_source(2, "You will learn much in few minutes.")),
    (colab_installs_under_a_guard, set_source(3, f"%pip install -q git+{stamping.REPOSITORY}")),
    (colab_installs_under_a_guard, set_source(3, INSTALL.replace(stamping.REPOSITORY, "https://example.org"))),
    (parameters_are_none, set_source(4, "PROFILE = None\nDATASET = None\nSEED = None\nWIDTH = 2")),
    (start_comes_next, set_source(5, "settings = vlsm.start('tiny')")),
    (the_opening_is_in_order, swap(3, 4)),
    (code_cells_are_short, set_source(7, "x = 1\n" * 26)),
    (it_was_run_from_top_to_bottom, lambda notebook: notebook.cells[7].update(execution_count=9)),
    (outputs_are_fit_to_read, set_output(output_type="stream", name="stdout", text="saved in /home/me/runs")),
    (figures_have_alternative_text, set_output(output_type="display_data", data={"image/png": PIXEL})),
    (sources_name_no_folder_of_a_machine, set_source(7, "folder = '/tmp/images'")),
    (metadata_is_what_the_command_writes, lambda notebook: notebook.cells[0].metadata.update(papermill={})),
    (the_stamp_fits_the_code, set_source(7, "show(another)")),
    (the_stamp_fits_the_code, lambda notebook: notebook.metadata.pop("vlsm")),
    (
        the_stamp_fits_the_shipped_files,
        lambda notebook: notebook.metadata["vlsm"]["shipped"].update({OPENED: "0" * 16}),
    ),
    (the_stamp_fits_the_shipped_files, lambda notebook: notebook.metadata["vlsm"]["shipped"].update(gone="0" * 16)),
]


@pytest.mark.parametrize(("rule", "change"), BREAKAGES, ids=lambda item: item.__name__)
def test_a_rule_holds_for_the_model_and_objects_to_a_breakage(rule, change):
    notebook = model()
    rule(notebook, PLACE)
    change(notebook)
    with pytest.raises(AssertionError, match=r"\w"):
        rule(notebook, PLACE)


def test_prose_may_change_without_a_new_stamp_and_an_older_version_only_warns():
    notebook = model()
    notebook.cells[6].source = "What would you expect?"
    the_stamp_fits_the_code(notebook, PLACE)
    notebook.metadata["vlsm"]["version"] = "0.0.1"
    with pytest.warns(UserWarning, match="0.0.1"):
        the_stamp_fits_the_code(notebook, PLACE)
