"""The command, for all its groups of verbs."""

import pytest
from typer.testing import CliRunner

from vlsm_helpers.cli import app


@pytest.fixture
def vlsm(monkeypatch):
    """The command with its arguments; wide, so that tables keep to one line."""
    monkeypatch.setenv("COLUMNS", "250")
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))
