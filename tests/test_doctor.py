from io import StringIO

from rich.console import Console

from tests.conftest import write_toy
from vlsm_helpers import doctor
from vlsm_helpers.data.registry import DATASETS


def examined():
    out = StringIO()
    problems = doctor.report(Console(file=out, width=140))
    return out.getvalue(), problems


def test_the_report_says_what_a_bug_report_needs():
    text, problems = examined()
    assert problems == []
    for word in ("Software", "torch", "Machine", "Folders", "kvasir_polyp", "Published weights", "auto picks"):
        assert word in text


def test_a_folder_that_cannot_be_written_to_is_a_problem(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("VLSM_CACHE", str(tmp_path / "file" / "cache"))
    _, problems = examined()
    assert any("VLSM_CACHE" in problem for problem in problems)


def test_availability(tmp_path, monkeypatch):
    monkeypatch.setenv("VLSM_DATA", str(tmp_path))
    write_toy(tmp_path, "busi")
    assert doctor.availability(DATASETS["busi"]) == "prepared"
    assert doctor.availability(DATASETS["isic"]) == "no"
    assert doctor.availability(DATASETS["bkai_polyp"]) == "no, needs an account"
    assert doctor.availability(DATASETS["phantom_skin"]) == "drawn when used"
