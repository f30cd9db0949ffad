"""The messages that docs/common_errors.md explains are messages of the program."""

import ast
import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]
OTHERS = (
    "torchvision::nms",
    "CUDA out of memory",
    "Input image size",
    "Unexpected key",
    "unet_imagenet is",
    "There is no dataset",
)  # not literals
ROW = re.compile(r"^\| (?:[a-z ]+ )?`([^`]{9,})`[^|]*\|", re.M)


def texts():
    """Every string of the package, placeholders of f-strings left empty; and the Makefile."""
    for path in (PROJECT / "vlsm_helpers").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            if isinstance(node, ast.JoinedStr):
                yield "\0".join(part.value if isinstance(part, ast.Constant) else "" for part in node.values)
    yield (PROJECT / "Makefile").read_text(encoding="utf-8")


def test_every_message_that_is_explained_is_printed_by_the_program():
    messages = ROW.findall((PROJECT / "docs" / "common_errors.md").read_text(encoding="utf-8"))
    ours = [message for message in messages if not message.startswith(OTHERS) and OTHERS[0] not in message]
    assert len(ours) > 15
    known = list(texts())
    for message in ours:
        parts = [part.strip() for part in re.split(r"\.\.\.| \d+ | nan$", message)]
        assert any(all(part in text for part in parts) for text in known), message
