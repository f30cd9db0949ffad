"""The `vlsm` command, one file per group of verbs."""

from vlsm_helpers.cli.app import app

__all__ = ["app"]
