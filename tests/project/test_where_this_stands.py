"""The page about neighbouring models: its Python runs, and its figures are those that the package ships."""

import re
from pathlib import Path

import pandas as pd
import pytest

import vlsm_helpers as vlsm

PAGE = (Path(__file__).parents[2] / "docs" / "where_this_stands.md").read_text("utf-8")
DATASETS = {
    "Kvasir-SEG": "kvasir_polyp",
    "CVC-ClinicDB": "clinicdb_polyp",
    "BKAI": "bkai_polyp",
    "ISIC": "isic",
    "BUSI": "busi",
    "CheXlocalize": "chexlocalize",
}


def test_a_model_of_the_library_joins_late_fusion(capsys):
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "TextPrompted(model" in block][:1]
    names = {}
    exec(code, names)
    assert names["val"].names == [*vlsm.tiny_store("val").names, "zero-shot CLIPSeg"]
    assert sum(names["rule"].weights) == pytest.approx(1)
    assert "zero-shot CLIPSeg" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "end"), [("MedVLSM, Table 2", "**VLSM-Adapter"), ("VLSM-Adapter, Table 1", "**MedCLIPSeg")]
)
def test_its_tables_hold_the_figures_of_the_shipped_literature(source, end):
    part = PAGE.split(f"**{source}**")[1].split(end)[0]
    header, _, *rows = [line.strip("| ").split("|") for line in part.splitlines() if line.startswith("|")]
    shipped = pd.read_csv(Path(vlsm.__file__).parent / "literature.csv")
    own = shipped[(shipped["source"] == source) & (shipped["trained_on"] == shipped["dataset"])]
    published = own.set_index(["model", "dataset"])["dice_percent"]
    assert len(rows) >= 3
    for name, *values in rows:
        for title, value in zip(header[-len(values) :], values, strict=True):
            assert float(value) == published[name.strip(), DATASETS[title.strip()]], (name, title)
