"""The files around the package: what installs it, runs it and builds it elsewhere agrees with pyproject and the lock."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from vlsm_helpers import __version__

PROJECT = Path(__file__).parents[2]
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
# torch, and what requires it
BRINGS_CUDA = {"accelerate", "open-clip-torch", "peft", "segmentation-models-pytorch", "timm", "torch", "torchvision"}


@cache
def text(name):
    return (PROJECT / name).read_text(encoding="utf-8")


@cache
def project():
    return tomllib.loads(text("pyproject.toml"))["project"]


def requirements(*extras):
    """Direct requirements of the package and of these extras, by canonical name."""
    listed = [
        *project()["dependencies"],
        *(line for extra in extras for line in project()["optional-dependencies"][extra]),
    ]
    return {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, listed)}


@cache
def locked():
    """Name to version, of the lines of constraints.txt that hold for Python 3.11."""
    lines = [Requirement(line) for line in text("constraints.txt").splitlines() if not line.startswith("#")]
    here = {"python_full_version": "3.11.9", "python_version": "3.11"}
    kept = [line for line in lines if line.marker is None or line.marker.evaluate(here)]
    return {canonicalize_name(line.name): str(line.specifier).removeprefix("==") for line in kept}


def make(*arguments, folder=PROJECT):
    command = ["make", "--no-print-directory", *arguments]
    bare = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL")}
    return subprocess.run(command, cwd=folder, env=bare, capture_output=True, text=True)


@pytest.fixture
def fresh(tmp_path):
    """A checkout in which nothing is installed yet."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(PROJECT / name, tmp_path)
    return tmp_path


# constraints.txt


def test_constraints_cover_every_requirement_in_its_range():
    for name, requirement in requirements(*project()["optional-dependencies"]).items():
        assert name in locked(), f"{name} is not locked: run `make lock`"
        assert requirement.specifier.contains(locked()[name]), (
            f"{name} {locked()[name]} is out of range: run `make lock`"
        )


def test_constraints_are_exact_and_name_no_index():
    assert "make lock" in text("constraints.txt")
    assert not re.search(r"https?://|--", text("constraints.txt"))
    for line in text("constraints.txt").splitlines():
        assert line.startswith("#") or re.match(r"[\w.-]+==[\w.]+( ; .+)?$", line), line


def test_files_that_are_not_python_are_installed_too():
    listed = tomllib.loads(text("pyproject.toml"))["tool"]["setuptools"]["package-data"]
    kept = {file for package, globs in listed.items() for glob in globs for file in _package(package).glob(glob)}
    found = {file for file in _package("vlsm_helpers").rglob("*.*") if file.suffix not in (".py", ".pyc")}
    assert found <= kept, f"add to package-data: {', '.join(file.name for file in found - kept)}"


def _package(name):
    return PROJECT / name.replace(".", "/")


# The Makefile


def test_make_alone_explains_itself():
    shown = make().stdout
    for target in ("run", "lab", "test", "site", "rehearse", "notebooks", "format", "lock", "clean"):
        assert re.search(rf"make {target} +\w", shown), target


def test_clean_leaves_runs_and_datasets(fresh):
    for name in ("runs/course", "runs/mine", "data/busi", ".venv"):
        (fresh / name).mkdir(parents=True)
    assert make("clean", folder=fresh).returncode == 0
    assert sorted(path.name for path in fresh.iterdir() if path.is_dir()) == ["data", "runs"]
    assert [path.name for path in (fresh / "runs").iterdir()] == ["mine"]


def test_an_old_python_is_refused_in_words(fresh):
    old = fresh / "python3.10"
    pretends = "import sys; sys.version_info = (3, 10, 1, 'final', 0); exec(sys.argv[1])"
    old.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo Python 3.10.1 && exit\n{sys.executable} -c "{pretends}" "$2"\n'
    )
    old.chmod(0o755)
    outcome = make("run", f"PYTHON={old}", folder=fresh)
    assert outcome.returncode != 0
    assert "needs Python 3.11 or newer; this is Python 3.10.1" in outcome.stderr
    assert not (fresh / ".venv").exists()


# Conda, Binder, continuous integration


def conda(name):
    """The lines for pip of a conda environment file."""
    listed = yaml.safe_load(text(name))["dependencies"]
    return next(line["pip"] for line in listed if isinstance(line, dict))


def test_binder_and_conda_install_what_make_installs():
    chosen = re.search(r"-e '(\.\[[\w,]+\])'", text("Makefile"))[1]
    assert conda("environment.yml") == ["-c constraints.txt", f"-e {chosen}"]
    extras = set(chosen.strip(".[]").split(",")) - {"test"}
    needed = requirements(*extras).items()
    expected = [f"{need.name}=={locked()[name]}" for name, need in needed if name not in BRINGS_CUDA]
    lines = conda("binder/environment.yml")
    assert sorted(lines) == sorted(expected), "write these lines to binder/environment.yml:\n" + "\n".join(expected)


def test_binder_knows_every_package_that_would_bring_cuda():
    from importlib.metadata import requires

    direct = {
        name
        for name in requirements()
        if any(canonicalize_name(Requirement(line).name) == "torch" for line in _required(requires(name)))
    }
    assert direct | {"torch"} == BRINGS_CUDA


def _required(lines):
    """The requirements that hold without any extra."""
    return [line for line in lines or [] if "extra ==" not in line]


@pytest.mark.parametrize(("named", "seen"), [(None, "{clone}/../shared/data"), ("/mine", "/mine")])
def test_ci_run_finds_real_images_beside_the_clone(tmp_path, named, seen):
    clone = tmp_path / "clone"
    (clone / ".ci").mkdir(parents=True)
    (tmp_path / "shared" / "data").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    shutil.copy(PROJECT / ".ci" / "run", clone / ".ci" / "run")
    for name, does in {"make": 'echo "$@ sees $VLSM_DATA"', "chromium": ":"}.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"} | ({"VLSM_DATA": named} if named else {})
    outcome = subprocess.run([clone / ".ci" / "run"], env=environment, cwd="/", capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    expected = Path(seen.format(clone=clone)).resolve()
    assert outcome.stdout == f"test sees {expected}\n"


# Who and where


def test_the_citation_fits_the_project():
    citation = yaml.safe_load(text("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == __version__ == project()["version"]
    assert citation["license"] == project()["license"]
    assert citation["repository-code"] == project()["urls"]["Repository"]
    paper = citation["references"][0]
    assert paper["authors"][0]["family-names"] == "Dietlmeier"
    assert paper["url"] == project()["urls"]["Paper"]


def tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True).stdout.splitlines()
    kinds = (".py", ".md", ".toml", ".yml", ".txt", ".cff", "Makefile", "run", "postBuild")
    return [name for name in listed if name.endswith(kinds) and (PROJECT / name).exists()]


def test_no_index_is_named_but_pytorchs():
    for name in tracked():
        for line in text(name).splitlines():
            if "index-url" in line and not name.startswith("tests/"):
                assert TORCH_INDEX in line or "--no-emit-index-url" in line, f"{name}: {line}"


def test_no_folder_of_a_machine_is_named():
    for name in tracked():
        found = re.search(r"/(root|home/\w+|work/\w+)/", text(name))
        assert not found or name.startswith(("tests/", "tools/")), f"{name} names {found[0]}"
