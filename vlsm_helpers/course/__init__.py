"""Running, reporting and checking the notebooks."""
