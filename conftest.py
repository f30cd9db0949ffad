"""For every way of starting the tests, `pytest --nbmake notebooks/` typed by hand included."""

from vlsm_helpers import settings


def pytest_configure():
    """Make the folders that VLSM_* name absolute: nbmake runs each notebook in its own folder."""
    settings.absolute_folders()


def pytest_itemcollected(item):
    """Mark what nbmake collects, so that `-m notebooks` and `-m 'not notebooks'` mean these tests too."""
    if getattr(item, "nbmake", False):
        item.add_marker("notebooks")
