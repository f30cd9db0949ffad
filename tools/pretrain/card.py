"""The model card beside a miniature's weights, written by the script that trained it."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path


def write(
    folder: Path, name: str, recipe: Mapping[str, str], log: Sequence[Mapping[str, float]], *, held_out: int
) -> None:
    """FOLDER/README.md: what the weights are, the `recipe`, and the scores of the training's `log` on `held_out` examples.

    A row of the log: `step`, `minutes`, maybe `lesson`, and any number of scores.
    """
    packages = ", ".join(
        f"{package} {version(package)}" for package in ("torch", "transformers", "open_clip_torch", "timm")
    )
    facts = "\n".join(f"| {key} | {value} |" for key, value in (recipe | {"versions": packages}).items())
    columns = list(log[0])
    rows = "\n".join("| " + " | ".join(_text(key, row[key]) for key in columns) + " |" for row in log)
    module = f"tools.pretrain.{name.lower()}"
    text = f"""# The miniature {name}

A {name} in the published format, small enough for a laptop, trained by this project (`python -m {module}`). It replaces the
published weights in the course's tiny profile, so that the same notebooks run without a GPU and without a network.

**Not for clinical use.** It was trained without any patient's image; it is for teaching how such models work.

| | |
|---|---|
{facts}

Scores on {held_out} held-out examples while it trained:

| {" | ".join(columns)} |
|{"---|" * len(columns)}
{rows}

Licence: Apache-2.0, as the course.
"""
    (folder / "README.md").write_text(text, encoding="utf-8")


def _text(key: str, value: float) -> str:
    return f"{value:.0f}" if key in ("lesson", "step", "minutes") else f"{value:.3f}"
