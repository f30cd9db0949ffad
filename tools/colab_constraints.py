"""Colab's freeze as constraints for the course: `python tools/colab_constraints.py freeze.txt > constraints`.

Only packages that the course itself requires are kept, at versions it allows: the freeze pins hundreds of others, some
from files that exist on Colab only, some that what Colab lacks (JupyterLab) cannot be installed beside. What is left
out for its version is told on stderr; there, on Colab, installing the course replaces it.
"""

import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def colab_constraints(freeze: str, requirements: list[str]) -> tuple[list[str], list[str]]:
    """The lines `name==version` of a `pip freeze` that the requirements name: those they allow, those they do not.

    Local versions such as +cu128 are cut off.
    """
    wanted = {canonicalize_name(r.name): r.specifier for r in map(Requirement, requirements)}
    pins = re.findall(r"^([\w.-]+)==([\w.]+)(?:\+\w+)?\s*$", freeze, flags=re.MULTILINE)
    allowed, refused = [], []
    for name, version in pins:
        if canonicalize_name(name) in wanted:
            fits = wanted[canonicalize_name(name)].contains(version, prereleases=True)
            (allowed if fits else refused).append(f"{name}=={version}")
    return allowed, refused


if __name__ == "__main__":
    dependencies = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    allowed, refused = colab_constraints(Path(sys.argv[1]).read_text(encoding="utf-8"), dependencies)
    print("\n".join(allowed))
    print("too old or too new for the course:", ", ".join(refused) or "nothing", file=sys.stderr)
