import pytest

from tests.experiments.test_grid import plan, told
from vlsm_helpers import settings
from vlsm_helpers.errors import SettingsError
from vlsm_helpers.experiments.members import FUSED, LATE_FUSION, PAPER
from vlsm_helpers.experiments.plan import Cell, Plan, as_shard, paper_plan
from vlsm_helpers.settings.profiles import PROFILES

pytestmark = pytest.mark.usefixtures("own_runs")


def test_cells_come_seed_by_seed_with_late_fusion_after_its_members():
    members = (LATE_FUSION, *FUSED)
    cells = Plan(("a", "b"), members=members, seeds=(0, 1)).cells
    assert [cell.name for cell in cells[:5]] == [
        "a/biomedclipseg-p1-seed0",
        "a/clipseg-p1-seed0",
        "a/unet_d-p1-seed0",
        "a/late_fusion-p1-seed0",
        "a/biomedclipseg-p1-seed1",
    ]
    assert len(cells) == 16
    assert [cell.member for cell in cells[3].joined] == list(FUSED)
    assert cells[0].joined == []


def test_late_fusion_of_other_members_has_a_folder_of_its_own():
    fused = ("clipseg", "unet_d")
    cells = Plan(("a",), members=(*fused, LATE_FUSION), seeds=(0,), fused=fused).cells
    assert cells[2].name == "a/late_fusion-of-clipseg-unet_d-p1-seed0"
    assert cells[2].joined == cells[:2] == [Cell("a", member, "p1", 0) for member in fused]
    with pytest.raises(SettingsError, match="smp_unet"):
        Plan(("a",), members=(*fused, LATE_FUSION), fused=(*fused, "smp_unet"))


def test_shards_hold_every_cell_once():
    whole = Plan(("a", "b", "c"), members=("unet_d", "clipseg"), prompts=("p0", "p1"))
    shards = [whole.shard(number, 5) for number in range(1, 6)]
    assert sorted(cell.name for shard in shards for cell in shard) == sorted(cell.name for cell in whole.cells)
    assert {len(shard) for shard in shards} == {7, 8}  # of 36


@pytest.mark.parametrize(("number", "shards"), [(0, 3), (4, 3)])
def test_a_shard_that_is_not_there_is_refused(number, shards):
    with pytest.raises(SettingsError, match=f"no shard {number} of {shards}"):
        plan().shard(number, shards)


def test_no_shards_at_all_are_refused_without_offering_0_of_0():
    with pytest.raises(SettingsError) as failure:
        plan().shard(1, 0)
    assert "0/0" not in str(failure.value)
    assert "1/1" in failure.value.hint


def test_a_mark_that_was_cut_short_is_told(toy):
    one = plan(seeds=(0,))
    one.cells[0].folder.mkdir(parents=True)
    (one.cells[0].folder / "done.json").write_text('{"facts": {')
    _, failed = told(one)
    assert len(failed) == 1
    assert failed[one.cells[0]].where == one.cells[0].folder / "done.json"


def test_a_shard_is_written_with_a_slash():
    assert as_shard("3/8") == (3, 8)
    for wrong in ("3", "3/", "a/8", "-1/8", "3/8/2"):
        with pytest.raises(SettingsError, match="3/8 for the third of eight"):
            as_shard(wrong)


@pytest.mark.parametrize("changes", [{"seeds": (1, 1)}, {"datasets": ()}, {"prompts": ("p1", "p1")}])
def test_what_is_named_twice_or_not_at_all_is_refused(changes):
    with pytest.raises(SettingsError, match="name at least one, and each once"):
        plan(**changes)


def test_late_fusion_needs_its_members():
    with pytest.raises(SettingsError, match="the plan lacks biomedclipseg, clipseg"):
        plan(members=("unet_d", LATE_FUSION))


def test_the_profile_decides_what_is_not_said(monkeypatch):
    tiny = paper_plan()
    assert (tiny.datasets, tiny.seeds, tiny.limit) == (("phantom_endoscopy",), (0,), 200)
    assert paper_plan(seeds=(4,), limit=None).seeds == (4,)
    full = PROFILES["full"]
    monkeypatch.setattr(settings, "choose_profile", lambda: (full, "asked"))
    assert (paper_plan().datasets, paper_plan().seeds, paper_plan().limit) == (PAPER, (0, 1, 2), None)
