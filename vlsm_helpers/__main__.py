"""`python -m vlsm_helpers` is `vlsm`: for `accelerate launch -m vlsm_helpers train ...`."""

from vlsm_helpers.cli import app

if __name__ == "__main__":
    app()
