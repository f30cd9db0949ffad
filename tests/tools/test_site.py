import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest

from tools import site
from tools.notebooks import NOTEBOOKS, PROJECT, REPOSITORY


class Found(HTMLParser):
    """The links and pictures of a page."""

    def __init__(self, page: Path):
        super().__init__()
        self.links, self.pictures = [], []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        """Keep where it leads, or what it shows."""
        values = dict(attrs)
        if tag == "a":
            self.links.append(values.get("href") or "")
        if tag == "img":
            self.pictures.append((values.get("src", ""), values.get("alt", "")))


def test_every_notebook_and_page_is_there(built):
    pages = {str(path.relative_to(built)) for path in built.rglob("*.html")}
    lessons = {str(path.relative_to(PROJECT).with_suffix(".html")) for path in NOTEBOOKS.rglob("[0-9]*.ipynb")}
    assert lessons | {"index.html", "docs/glossary.html", "docs/common_errors.html", "docs/teaching.html"} <= pages
    assert (built / "searchindex.js").exists()


def test_links_lead_to_pages_that_are_there(built):
    for page in built.rglob("*.html"):
        for link in Found(page).links:
            target = link.partition("#")[0]
            if target and not re.match(r"[a-z]+:", target):
                assert (page.parent / target).exists(), f"{page.name}: {link}"


def test_pictures_are_there_and_have_alternative_texts(built):
    for lesson in NOTEBOOKS.glob("[0-9]*.ipynb"):
        page = built / "notebooks" / f"{lesson.stem}.html"
        shown = [(source, alt) for source, alt in Found(page).pictures if not source.startswith("http")]
        assert any("headline" in source or "_images" in source for source, _ in shown), lesson.stem
        for source, alt in shown:
            assert (page.parent / source).exists(), source
            assert alt, f"{lesson.stem}: {source} has no alternative text"
            assert "_images" not in alt, f"{lesson.stem}: the text of {source} is its address"


def test_the_fusion_explorer_is_on_the_site_and_loads_nothing(built):
    page = (built / "notebooks" / "05_late_fusion.html").read_text(encoding="utf-8")
    _, _, explorer = page.partition('<div class="vlsm-explorer"')
    explorer, _, _ = explorer.partition("</script>\n</div>")
    assert "class WeightedFusion" in explorer
    assert not re.search(r"(?:src|href)=|import |fetch\(", explorer)


def test_what_is_no_page_leads_to_the_code_host(tmp_path):
    site.write_sources(tmp_path)
    front = (tmp_path / "index.md").read_text()
    assert f"({REPOSITORY}/blob/main/benchmarks/vision_language.md)" in (tmp_path / "docs" / "results.md").read_text()
    assert "](notebooks/03_train_light_cnn.ipynb)" in front
    assert "](https://arxiv.org/abs/2509.05154)" in front


def test_links_between_chapters_stay_in_the_site(tmp_path):
    site.write_sources(tmp_path)
    for page in [*tmp_path.rglob("*.ipynb"), *tmp_path.rglob("*.md")]:
        assert not re.search(rf"{REPOSITORY}/blob/main/(notebooks|docs)/\S+\.(ipynb|md)", page.read_text()), page.name


def test_rows_for_programs_are_left_out_and_attachments_become_files(tmp_path):
    site.write_sources(tmp_path)
    page = tmp_path / "notebooks" / "05_late_fusion.ipynb"
    notebook = nbformat.read(page, as_version=4)
    kinds = {kind for cell in notebook.cells for output in cell.get("outputs", []) for kind in output.get("data", {})}
    assert site.results.MIME_TYPE not in kinds
    assert "attachment:" not in "".join(cell.source for cell in notebook.cells)
    assert list(page.parent.glob("05_late_fusion_headline.*"))


@pytest.mark.parametrize(("target", "status"), [("page.md", 0), ("nowhere.md", 1)])
def test_a_link_that_leads_nowhere_fails_the_build(tmp_path, monkeypatch, target, status):
    def two_pages(folder):
        (folder / "index.md").write_text(f"# Front\n\n[a link]({target})\n\n```{{toctree}}\npage\n```\n")
        (folder / "page.md").write_text("# Page\n")
        (folder / "conf.py").write_text(site.CONFIG)
        (folder / "_own").mkdir()
        (folder / "_own" / "own.css").touch()

    monkeypatch.setattr(site, "write_sources", two_pages)
    assert site.build(tmp_path / "site") == status
