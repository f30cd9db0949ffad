"""Execute the committed notebooks again, clean and stamp them: `make notebooks`, or `python -m tools.notebooks '03*'`.

Every notebook runs alone, at the tiny profile, on phantoms, without the hub, with empty folders for runs and cache: what a
reader of a clean clone gets. Only what the notebook says and shows is kept, so that running this twice changes little.
"""

import base64
import hashlib
import json
import os
import re
import sys
import tomllib
from collections.abc import Collection
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import nbformat
from nbformat import NotebookNode
from PIL import Image

from tools.opened import hash_of, recorded
from vlsm_helpers import __version__
from vlsm_helpers.course.executed import read
from vlsm_helpers.course.execution import CellBar, run_notebook
from vlsm_helpers.errors import CourseError

PROJECT = Path(__file__).resolve().parents[1]
NOTEBOOKS = PROJECT / "notebooks"
REPOSITORY = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
MAX_BYTES = 600_000
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
KEPT_METADATA = ("accelerator", "colab")
KEPT_CELL_METADATA = ("tags", "jupyter", "nbmake")
HEADLINE = "headline.png"
HEADLINE_WIDTH = 640  # pixels, under the title; the cell that draws it shows it larger
MAX_WIDTH = 1100  # pixels, of any other picture
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_FOLDERS = "home|root|tmp|Users|private|var|work|content|mnt|opt"
ABSOLUTE_PATH = re.compile(rf"(?<![\w.~])(?<!:/)/(?:{_FOLDERS})/|[A-Z]:\\+Users")


def restamp(path: Path) -> None:
    """Execute the notebook `path` and write it back, cleaned and stamped. Raises CourseError, leaving it, where it may not."""
    with TemporaryDirectory() as work:
        executed, runs, cache = Path(work, path.name), Path(work, "runs"), Path(work, "cache")
        os.environ |= {"VLSM_RUNS": str(runs), "VLSM_CACHE": str(cache)}
        with recorded() as opened, CellBar(path.stem) as bar:
            run_notebook(path, executed, {}, told=bar.reach)
        failure = read(executed).failure
        notebook = nbformat.read(executed, as_version=4)
    if failure is not None:
        raise CourseError(
            f"The notebook failed at {failure}", where=path, hint="fix the cell and run the command again."
        )
    shorter = {str(runs): "runs", str(cache): "~/.cache/vlsm", f"{PROJECT}/": ""}
    notebook = cleaned(notebook, path, shorter, opened)
    found = output_problems(notebook)
    text = nbformat.writes(notebook) + "\n"
    if len(text.encode()) > MAX_BYTES:
        found.append(
            f"it has {len(text.encode()) // 1000} KB, more than {MAX_BYTES // 1000}: make figures smaller or fewer"
        )
    if found:
        raise CourseError("The notebook may not be committed so:\n  " + "\n  ".join(found), where=path)
    path.write_text(text, encoding="utf-8")


def cleaned(notebook: NotebookNode, path: Path, shorter: dict[str, str], opened: Collection[str] = ()) -> NotebookNode:
    """A copy as it is committed at `path`: no timings, bars or widget state, small pictures, fresh generated parts and stamp.

    Generated are the badges (cell tagged `badges`), the address in the install cell (`install`), and the picture that
    Markdown names attachment:headline.png (from the cell tagged `headline`). In outputs, the folders that are keys of
    `shorter` are written as its values. `opened`: the shipped files that it opened, whose hashes are stamped.
    """
    notebook = nbformat.from_dict(notebook)
    replacements = shorter | _stable_names(notebook)
    _generate_parts(notebook, path)
    for cell in notebook.cells:
        cell.metadata = {key: cell.metadata[key] for key in KEPT_CELL_METADATA if key in cell.metadata}
        if cell.cell_type == "code":
            cell.outputs = [_cleaned_output(out, replacements) for out in cell.outputs if not _is_progress(out)]
    kept = {key: notebook.metadata[key] for key in KEPT_METADATA if key in notebook.metadata}
    shipped = {name: hash_of(name) for name in sorted(opened)}
    stamp = {"code": code_hash(notebook), "version": __version__, "shipped": shipped}
    notebook.metadata = kept | {"kernelspec": KERNEL, "language_info": {"name": "python"}, "vlsm": stamp}
    return nbformat.from_dict(notebook)


def tagged(notebook: NotebookNode, tag: str) -> list[NotebookNode]:
    """The cells that have this tag."""
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def headline(notebook: NotebookNode) -> str | None:
    """The last PNG, in base64, that the cell tagged `headline` shows."""
    outputs = [output for cell in tagged(notebook, "headline") for output in cell.get("outputs", [])]
    pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    return pictures[-1] if pictures else None


def code_hash(notebook: NotebookNode) -> str:
    """The sha256 of the code cells' sources: it changes when a reader's outputs would no longer be those shown."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def badges(path: Path) -> str:
    """The line of badges that opens the notebook `path` of this checkout on Colab and on Binder."""
    repository = REPOSITORY.removeprefix("https://github.com/")
    file = path.resolve().relative_to(PROJECT).as_posix()
    colab = f"https://colab.research.google.com/github/{repository}/blob/main/{file}"
    binder = f"https://mybinder.org/v2/gh/{repository}/main?urlpath={quote(f'lab/tree/{file}', safe='')}"
    return (
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab}) "
        f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({binder})"
    )


def output_problems(notebook: NotebookNode) -> list[str]:
    """What the outputs must not hold: errors, the stderr stream, absolute paths; a line each, naming the cell."""
    found = []
    for number, cell in enumerate(notebook.cells, start=1):
        where = f"cell {number} ({cell.source.strip().partition(chr(10))[0]!r})"
        for output in cell.get("outputs", []):
            path = ABSOLUTE_PATH.search(_text(output))
            if output.output_type == "error":
                found.append(f"{where}: it ended in {output.ename}")
            elif output.get("name") == "stderr":
                found.append(f"{where}: it wrote to stderr")
            elif path:
                found.append(f"{where}: its output has a path of this machine, {_around(_text(output), path)!r}")
    return found


def _generate_parts(notebook: NotebookNode, path: Path) -> None:
    for cell in tagged(notebook, "badges"):
        cell.source = badges(path)
    for cell in tagged(notebook, "install"):
        cell.source = re.sub(r"git\+[^\s\"']+", f"git+{REPOSITORY}", cell.source)
    picture = headline(notebook)
    for cell in notebook.cells:
        if picture and f"attachment:{HEADLINE}" in cell.source:
            cell.attachments = {HEADLINE: _smaller(picture, HEADLINE_WIDTH)}


def _stable_names(notebook: NotebookNode) -> dict[str, str]:
    """pandas names the styles of each table at random; numbers do as well, and stay."""
    names = re.findall(r"\bT_[0-9a-f]{5}(?=_|\b)", json.dumps([cell.get("outputs", []) for cell in notebook.cells]))
    return {name: f"T_{number:05}" for number, name in enumerate(dict.fromkeys(names))}


def _is_progress(output: NotebookNode) -> bool:
    """Whether the output is a progress bar: what goes to stderr, or tqdm's widget."""
    data = output.get("data", {})
    return output.get("name") == "stderr" or (WIDGET_VIEW in data and "%|" in data.get("text/plain", ""))


def _cleaned_output(output: NotebookNode, replacements: dict[str, str]) -> dict:
    if output.output_type == "stream":
        output.text = _in_columns(output.text, replacements)
    text = re.sub(r" at 0x[0-9a-f]{6,}", "", json.dumps(output))  # an object's address
    text = re.sub(r"( (?:images|samples): [\d,.]+ MB), [^\"\\]*\d[^\"\\]*", r"\1", text)  # how long caching takes here
    for old, new in replacements.items():
        text = text.replace(old, new)
    output = json.loads(text)
    data = output.get("data", {})
    if len(data) > 1:  # a widget's text stays, so that a reader sees that there is one
        data.pop(WIDGET_VIEW, None)
    if "image/png" in data:
        picture = _smaller(data.pop("image/png"), MAX_WIDTH)
        data |= picture
        output["metadata"] = {kind: output["metadata"].get("image/png", {}) for kind in picture}
    return output


def _in_columns(text: str, replacements: dict[str, str]) -> str:
    """Shorter paths in the first column of a table, right-justified: padded, so that its head stays above its columns."""
    for old, new in replacements.items():
        path, margin = re.compile(rf"^( *){re.escape(old)}(?=\S* .*\d\r?$)", re.MULTILINE), " " * (len(old) - len(new))
        text = path.sub(lambda found, padded=margin + new: f"{found[1]}{padded}", text)
    return text


def _smaller(png: str, width: int) -> dict[str, str]:
    """A PNG, in base64, as mime type and base64: at most `width` pixels wide, in 256 colours; photos, far smaller so, a JPEG."""
    image = Image.open(BytesIO(base64.b64decode(png))).convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    image.thumbnail((width, image.height))
    photo, drawing = BytesIO(), BytesIO()
    image.save(photo, "JPEG", quality=70, subsampling="4:2:2", optimize=True)
    # a median cut is exact for 256 colours; of more it merges rare ones, such as those of a legend
    method = Image.Quantize.MEDIANCUT if image.getcolors(256) else Image.Quantize.MAXCOVERAGE
    few_colours = image.quantize(256, method=method, dither=Image.Dither.NONE)
    few_colours.save(drawing, "PNG", optimize=True)
    is_photo = photo.tell() < 0.6 * drawing.tell()
    kind, file = ("image/jpeg", photo) if is_photo else ("image/png", drawing)
    return {kind: base64.b64encode(file.getvalue()).decode()}


def _text(output: NotebookNode) -> str:
    """All that is text in an output; base64 could hold anything."""
    data = {kind: value for kind, value in output.get("data", {}).items() if not kind.startswith("image/")}
    return "\n".join([output.get("text", ""), *map(str, data.values())])


def _around(text: str, path: re.Match) -> str:
    return text[path.start() : path.start() + 60].split()[0]


def main(patterns: list[str]) -> int:
    """Restamp the notebooks that match, solutions included; the exit status."""
    os.environ.update(VLSM_PROFILE="tiny", VLSM_DATASET="", VLSM_SEED="", VLSM_EPOCHS="", HF_HUB_OFFLINE="1")
    paths = [*sorted(NOTEBOOKS.glob("*.ipynb")), *sorted(NOTEBOOKS.glob("solutions/*.ipynb"))]
    chosen = [path for path in paths if not patterns or any(path.match(pattern) for pattern in patterns)]
    failed = 0
    for path in chosen:
        try:
            restamp(path)
        except CourseError as error:
            failed += 1
            print(error, file=sys.stderr)
    print(f"{len(chosen) - failed} of {len(chosen)} notebooks stamped.")
    return int(failed > 0 or not chosen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
