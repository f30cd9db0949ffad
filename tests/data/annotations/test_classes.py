import pytest

from vlsm_helpers.data.annotations.classes import Classes, slug_of
from vlsm_helpers.errors import CourseError, DataError, SettingsError


@pytest.mark.parametrize(
    ("text", "nouns"),
    [
        ("1=polyp,2=instrument", {"1": "polyp", "2": "instrument"}),
        (" 1 = colon polyp , 2= ", {"1": "colon polyp", "2": ""}),
        ("red=polyp,#00ff00=instrument", {"red": "polyp", "#00ff00": "instrument"}),
        ("polyp,adenoma=polyp", {"polyp": "polyp", "adenoma": "polyp"}),
    ],
)
def test_the_option(text, nouns):
    assert Classes.parse(text).nouns == nouns


def test_only_nouns_count_each_once():
    assert Classes.parse("1=polyp,2=instrument,3=polyp,255=").names == ["polyp", "instrument"]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("a.csv", "value,name\n1,polyp\n2,instrument\n"),
        ("a.csv", "1,polyp\n\n2,instrument"),
        ("a.csv", "\ufeff1;polyp\n2;instrument\n"),
        ("a.tsv", "id\tclass\n1\tpolyp\n2\tinstrument"),
        ("a.json", '{"1": "polyp", "2": "instrument"}'),
    ],
)
def test_files(tmp_path, file, content):
    (tmp_path / file).write_text(content, encoding="utf-8")
    assert Classes.parse(str(tmp_path / file)).nouns == {"1": "polyp", "2": "instrument"}


@pytest.mark.parametrize(
    "text", ["", ",", "1=", "1=,2=", "=polyp", "1=polyp,1=tool", "1=Polyp,2=polyp", "1=a b,2=a_b", "1=?!"]
)
def test_what_names_no_classes(text):
    with pytest.raises(SettingsError) as caught:
        Classes.parse(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("a.csv", "polyp\n"),
        ("a.json", "[1]"),
        ("a.json", "{"),
        ("a.json", '{"1": 2}'),
        ("missing.csv", None),
        ("a.csv", ""),
    ],
)
def test_files_that_name_no_classes(tmp_path, file, content):
    if content is not None:
        (tmp_path / file).write_text(content)
    with pytest.raises(CourseError) as caught:
        Classes.parse(str(tmp_path / file))
    assert file in str(caught.value.where)


def test_a_label_that_is_not_named():
    classes = Classes.parse("polyp=polyp,fold=")
    assert (classes.noun("polyp", "x"), classes.noun("fold", "x")) == ("polyp", "")
    with pytest.raises(DataError, match="tool") as caught:
        classes.noun("tool", "coco.json: annotation 5")
    assert caught.value.where == "coco.json: annotation 5"
    assert "tool=" in caught.value.hint


def test_names_of_a_file_itself():
    assert Classes.own(["Polyp ", "tool"]).nouns == {"Polyp ": "Polyp", "tool": "tool"}
    with pytest.raises(SettingsError):
        Classes.own(["polyp", "Polyp"])


def test_slugs():
    assert slug_of(" Enlarged Cardiomediastinum/heart ") == "enlarged_cardiomediastinum_heart"
