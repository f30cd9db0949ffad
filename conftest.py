"""For every way of starting the tests, `pytest --nbmake notebooks/` typed by hand included."""

from pathlib import PurePosixPath

import pytest

from vlsm_helpers import settings


def pytest_configure():
    """Make the folders that VLSM_* name absolute: nbmake runs each notebook in its own folder."""
    settings.absolute_folders()


def pytest_itemcollected(item):
    """Mark what nbmake collects, so that `-m notebooks` and `-m 'not notebooks'` mean these tests too."""
    if getattr(item, "nbmake", False):
        item.add_marker("notebooks")


def pytest_collection_modifyitems(items):
    """Notebooks first, since they take longest: the short tests after them keep every worker of `-n` busy to the end."""
    items.sort(key=lambda item: not getattr(item, "nbmake", False))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `-n`, one worker runs a whole file, and all that needs a browser or the site: what they share is made once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = PurePosixPath(nodeid.partition("::")[0])
            return "tests/browser" if file.parent.name == "browser" or file.name == "test_site.py" else str(file)

    config.option.loadscopereorder = False  # keep the order of collection
    return ByFile(config, log)
