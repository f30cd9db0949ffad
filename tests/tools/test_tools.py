"""What maintainers run from tools/."""

import base64
import gzip
import json
from io import BytesIO

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from transformers import AutoTokenizer

from tools import notebooks as stamping
from tools import random_checkpoints
from tools.colab_constraints import colab_constraints
from tools.opened import hash_of
from vlsm_helpers import __version__
from vlsm_helpers.errors import CourseError

PLACE = stamping.NOTEBOOKS / "03_train.ipynb"
LATE_FUSION = "measured/late_fusion.csv.gz"


def with_outputs(*outputs):
    return new_notebook(cells=[new_code_cell("# draw\nshow()", outputs=list(outputs))])


def stream(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def shown(text, data):
    """What a cell displays: its text, and what else a browser may show of it."""
    return new_output("display_data", data={"text/plain": text} | data)


def test_cleaning_keeps_what_the_notebook_says_and_drops_how_it_was_run():
    notebook = with_outputs(stream("50 %|###", "stderr"), stream("done"))
    notebook.cells[0].metadata.update(
        tags=["headline"], execution={"iopub.status.busy": "now"}, papermill={"duration": 1}
    )
    notebook.metadata.update(
        widgets={"state": {}},
        papermill={"input_path": "/home/me"},
        accelerator="GPU",
        language_info={"version": "3.11.9"},
    )
    clean = stamping.cleaned(notebook, PLACE, {})
    assert clean.cells[0].metadata == {"tags": ["headline"]}
    assert [output.text for output in clean.cells[0].outputs] == ["done"]
    assert set(clean.metadata) == {"accelerator", "kernelspec", "language_info", "vlsm"}
    assert clean.metadata["language_info"] == {"name": "python"}
    assert clean.metadata["vlsm"] == {"code": stamping.code_hash(notebook), "version": __version__, "shipped": {}}
    assert notebook.metadata["widgets"] == {"state": {}}  # the original is left as it was
    nbformat.validate(clean)


def test_known_folders_get_their_short_names():
    html = shown("ä /tmp/x/runs/unet", {"text/html": "<td>/tmp/x/runs/unet</td>"})
    clean = stamping.cleaned(with_outputs(stream("saved in /tmp/x/runs/unet"), html), PLACE, {"/tmp/x/runs": "runs"})
    first, second = clean.cells[0].outputs
    assert first.text == "saved in runs/unet"
    assert second.data == {"text/html": "<td>runs/unet</td>", "text/plain": "ä runs/unet"}
    assert stamping.output_problems(clean) == []


def test_the_head_of_a_table_stays_above_its_columns():
    images = ["/tmp/x/runs/a.png", "/tmp/x/runs/longer.png"]
    table = pd.DataFrame({"image": images, "prompt": ["an instrument", "polyp"], "area": [0.5, 0.25]})
    printed = f"{table.to_string(index=False)}\n/tmp/x/runs/areas.csv\n"
    clean = stamping.cleaned(with_outputs(stream(printed)), PLACE, {"/tmp/x/runs": "runs"})
    head, *rows, last = clean.cells[0].outputs[0].text.splitlines()
    assert {len(row) for row in rows} == {len(head)}
    assert [row.split()[0] for row in rows] == ["runs/a.png", "runs/longer.png"]
    assert last == "runs/areas.csv"


@pytest.mark.parametrize(
    ("text", "left"), [("FusionExplorer()", [{"text/plain": "FusionExplorer()"}]), (" 0%|     | 0/288 [00:00", [])]
)
def test_a_widget_leaves_its_text_and_a_progress_bar_nothing(text, left):
    widget = shown(text, {stamping.WIDGET_VIEW: {"model_id": "1"}})
    clean = stamping.cleaned(with_outputs(widget), PLACE, {})
    assert [output.data for output in clean.cells[0].outputs] == left


def test_what_changes_from_run_to_run_is_made_stable():
    styled = '<style>#T_a1b2c_row0 {}</style><table id="T_a1b2c">', '<table id="T_0f9e8">'
    outputs = [shown("<Styler at 0x7f12ab34cd>", {"text/html": html}) for html in styled]
    first, second = stamping.cleaned(with_outputs(*outputs), PLACE, {}).cells[0].outputs
    assert first.data == {"text/html": '<style>#T_00000_row0 {}</style><table id="T_00000">', "text/plain": "<Styler>"}
    assert second.data["text/html"] == '<table id="T_00001">'


def encoded(pixels):
    file = BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def pixels(picture):
    return np.asarray(Image.open(BytesIO(base64.b64decode(picture))).convert("RGB"), float)


PHOTO = np.random.default_rng(0).normal(0, 3, (400, 800, 3)) + np.linspace(20, 230, 800)[:, None]
DRAWING = np.zeros((400, 800, 3)) + 255 * (np.arange(800) % 40 > 1)[:, None]


@pytest.mark.parametrize(("drawn", "kind", "tolerance"), [(PHOTO, "image/jpeg", 4), (DRAWING, "image/png", 0)])
def test_pictures_are_made_small_and_keep_their_look_and_their_words(drawn, kind, tolerance):
    original = encoded(drawn)
    shown = new_output("display_data", data={"image/png": original}, metadata={"image/png": {"alt": "seen"}})
    clean = stamping.cleaned(with_outputs(shown), PLACE, {}).cells[0].outputs[0]
    assert list(clean.data) == [kind]
    assert len(clean.data[kind]) <= (0.6 if kind == "image/jpeg" else 1) * len(original)
    assert np.abs(pixels(clean.data[kind]) - drawn.astype(np.uint8)).mean() <= tolerance
    assert clean.metadata == {kind: {"alt": "seen"}}


def test_the_headline_stands_under_the_title_and_smaller():
    notebook = with_outputs(new_output("display_data", data={"image/png": encoded(DRAWING)}))
    notebook.cells[0].metadata["tags"] = ["headline"]
    notebook.cells.insert(0, new_markdown_cell("# Title\n![lines](attachment:headline.png)"))
    title, _ = stamping.cleaned(notebook, PLACE, {}).cells
    (attached,) = title.attachments["headline.png"].values()
    assert pixels(attached).shape == (320, 640, 3)


def test_two_rare_colours_of_a_drawing_with_many_stay_two():
    drawing = np.full((600, 400, 3), 255, np.uint8)
    drawing[:, :200] = np.random.default_rng(0).integers(150, 256, (600, 1, 3))  # more colours than are kept
    drawing[:3, -3:], drawing[-3:, -3:] = (240, 200, 60), (213, 94, 0)
    clean = stamping.cleaned(with_outputs(new_output("display_data", data={"image/png": encoded(drawing)})), PLACE, {})
    kept = pixels(clean.cells[0].outputs[0].data["image/png"])
    np.testing.assert_allclose(kept[[0, -1], -1], [(240, 200, 60), (213, 94, 0)], atol=8)


def test_the_address_in_the_install_cell_is_the_repositorys():
    source = 'if "google.colab" in sys.modules:\n    %pip install "vlsm-helpers @ git+REPOSITORY"'
    notebook = new_notebook(cells=[new_code_cell(source, metadata={"tags": ["install"]})])
    clean = stamping.cleaned(notebook, PLACE, {})
    assert f'@ git+{stamping.REPOSITORY}"' in clean.cells[0].source
    assert stamping.cleaned(clean, PLACE, {}).cells[0].source == clean.cells[0].source


def test_badges_are_generated_where_they_are_asked_for():
    cells = [new_markdown_cell("# Title"), new_markdown_cell("old", metadata={"tags": ["badges"]})]
    clean = stamping.cleaned(new_notebook(cells=cells), PLACE, {})
    assert clean.cells[0].source == "# Title"
    owner = stamping.REPOSITORY.removeprefix("https://github.com/")
    assert (
        f"(https://colab.research.google.com/github/{owner}/blob/main/notebooks/03_train.ipynb)"
        in clean.cells[1].source
    )
    assert (
        f"(https://mybinder.org/v2/gh/{owner}/main?urlpath=lab%2Ftree%2Fnotebooks%2F03_train.ipynb)"
        in clean.cells[1].source
    )


def test_the_hash_is_of_code_alone():
    notebook = new_notebook(cells=[new_markdown_cell("a"), new_code_cell("1")])
    before = stamping.code_hash(notebook)
    notebook.cells[0].source = "b"
    notebook.cells[1].outputs = [stream("1")]
    assert stamping.code_hash(notebook) == before
    notebook.cells[1].source = "2"
    assert stamping.code_hash(notebook) != before


@pytest.mark.parametrize(
    "text",
    ["/home/me/x", "in /tmp/tmp12/x", "'/var/cache/x'", "PosixPath('/Users/me')", r"C:\Users\me", "file:///home/me/x"],
)
def test_paths_of_a_machine_are_found(text):
    problems = stamping.output_problems(with_outputs(stream(text)))
    assert len(problems) == 1
    assert "cell 1 ('# draw')" in problems[0]


@pytest.mark.parametrize(
    "text", ["runs/unet_d", "~/.cache/vlsm", "https://example.org/home/me", "notebooks/home/x", "and/or/tmp/", "12/24"]
)
def test_other_slashes_are_no_paths_of_a_machine(text):
    assert stamping.output_problems(with_outputs(stream(text))) == []


def test_pictures_are_no_paths():
    assert stamping.output_problems(with_outputs(shown("<Figure>", {"image/png": "AA /tmp/ AA"}))) == []


def test_errors_and_stderr_are_found():
    error = new_output("error", ename="ValueError", evalue="no", traceback=[])
    problems = stamping.output_problems(with_outputs(error, stream("careful", "stderr")))
    assert ["ended in ValueError" in problems[0], "stderr" in problems[1]] == [True, True]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of its own for the command; `write` puts a notebook there."""
    monkeypatch.setattr(stamping, "PROJECT", tmp_path)
    monkeypatch.setattr(stamping, "NOTEBOOKS", tmp_path / "notebooks")
    for variable in ("VLSM_RUNS", "VLSM_CACHE", "VLSM_PROFILE", "VLSM_DATASET", "VLSM_SEED", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(variable, "set before")
    (tmp_path / "notebooks" / "solutions").mkdir(parents=True)

    def write(name, *sources):
        path = tmp_path / "notebooks" / name
        cells = [new_markdown_cell("x", metadata={"tags": ["badges"]}), *map(new_code_cell, sources)]
        nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": stamping.KERNEL}), path)
        return path

    return write


@pytest.mark.notebooks
def test_the_command_executes_and_stamps(checkout, capsys):
    names = ["VLSM_RUNS", "VLSM_CACHE", "VLSM_PROFILE", "VLSM_DATASET"]
    shows = f"import os\n[*map(os.environ.get, {names}), os.path.exists(os.environ['VLSM_CACHE'])]"
    opens = "import sys; print('careful', file=sys.stderr); import vlsm_helpers as vlsm; vlsm.measured('late_fusion');"
    path = checkout("00_start.ipynb", opens, shows)
    broken = checkout("solutions/00_start.ipynb", "1 / 0")
    before = broken.read_text()
    assert stamping.main([]) == 1
    told = capsys.readouterr()
    assert "1 of 2 notebooks stamped" in told.out
    assert "failed at In [1]: 1 / 0" in told.err
    assert broken.read_text() == before
    stamped = nbformat.read(path, as_version=4)
    assert stamped.metadata["vlsm"]["code"] == stamping.code_hash(stamped)
    assert stamped.metadata["vlsm"]["shipped"] == {LATE_FUSION: hash_of(LATE_FUSION)}
    assert stamped.cells[2].outputs[0].data["text/plain"] == "['runs', '~/.cache/vlsm', 'tiny', '', False]"
    assert stamped.cells[1].outputs == []
    assert stamped.cells[0].source.startswith("[![Open in Colab]")


@pytest.mark.notebooks
def test_what_may_not_be_committed_is_refused(checkout, monkeypatch):
    monkeypatch.setattr(stamping, "MAX_BYTES", 500)
    path = checkout("00_start.ipynb", "print('/home/me/secret')")
    before = path.read_text()
    with pytest.raises(CourseError, match=r"cell 2 \(.*path of this machine, '/home/me/secret'[\s\S]*more than 0"):
        stamping.restamp(path)
    assert path.read_text() == before


def test_a_glob_that_matches_nothing_is_no_success(checkout):
    assert stamping.main(["09*"]) == 1


def test_colab_constraints_are_those_of_the_course_that_it_allows():
    freeze = """# comment
absl-py==1.4.0
albumentations==2.0.8
cucim-cu12 @ https://example.org/cucim.whl
huggingface_hub==1.17.0
torch==2.11.0+cu128
transformers==5.9.0
"""
    required = [
        "albumentations>=2.0.8,<2.1",
        "huggingface-hub>=1.0",
        "open_clip_torch>=3",
        "torch>=2.11",
        "transformers>=5.13",
    ]
    allowed, refused = colab_constraints(freeze, required)
    assert allowed == ["albumentations==2.0.8", "huggingface_hub==1.17.0", "torch==2.11.0"]
    assert refused == ["transformers==5.9.0"]


def test_random_checkpoints_have_the_published_names_and_follow_from_the_seed(tmp_path, monkeypatch):
    for folder in ("first", "second"):
        monkeypatch.setattr("sys.argv", ["random_checkpoints.py", str(tmp_path / folder), "--tiny", "--seed", "3"])
        random_checkpoints.main()
    files = {str(path.relative_to(tmp_path / "first")) for path in tmp_path.glob("first/*/*")}
    assert files == {str(path.relative_to(tmp_path / "second")) for path in tmp_path.glob("second/*/*")}
    assert {"clipseg/model.safetensors", "clipseg/preprocessor_config.json", "clipseg/vocab.json"} <= files
    assert {"biomedclip/open_clip_pytorch_model.bin", "biomedclip/open_clip_config.json"} <= files
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_random_checkpoints_take_vocabularies_as_published(tmp_path):
    merges = ["#version: 0.2", "p o", "po l</w>", *("x y" for _ in range(random_checkpoints.PUBLISHED_MERGES))]
    with gzip.open(tmp_path / "bpe.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(merges))
    random_checkpoints.write_clipseg(tmp_path / "clipseg", tiny=True, vocabulary=tmp_path / "bpe.txt.gz")
    written = json.loads((tmp_path / "clipseg" / "vocab.json").read_text(encoding="utf-8"))
    assert written["pol</w>"] == 513
    assert written["<|endoftext|>"] == 49407
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\npolyp\n", encoding="utf-8")
    random_checkpoints.write_biomedclip_config(tmp_path / "biomedclip", tiny=True, vocabulary=tmp_path / "vocab.txt")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "biomedclip")
    assert tokenizer("polyp")["input_ids"] == [2, 5, 3]


@pytest.mark.parametrize("counted", ["200 images", "72 samples"])
def test_how_long_caching_takes_on_one_machine_is_dropped(counted):
    line = f"caching the features of 600 views of {counted}: 99.2 MB, about 14 s\nnext, about 3 s\n"
    output = new_output("stream", name="stdout", text=line)
    text = stamping._cleaned_output(output, {})["text"]
    assert text == f"caching the features of 600 views of {counted}: 99.2 MB\nnext, about 3 s\n"
