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
BRINGS_CUDA = {
    "accelerate",
    "monai",
    "open-clip-torch",
    "peft",
    "segmentation-models-pytorch",
    "timm",
    "torch",
    "torchvision",
}


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


def make(*arguments, folder=PROJECT, **environment):
    """`make` with nothing executed but the conditions themselves; its output."""
    bare = {key: value for key, value in os.environ.items() if not key.startswith("VLSM_") and key != "MAKEFLAGS"}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=folder, env=bare | environment, capture_output=True, text=True)


@pytest.fixture
def fresh(tmp_path):
    """A checkout in which nothing is installed yet."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(PROJECT / name, tmp_path)
    return tmp_path


def commands(folder, *arguments, **environment):
    outcome = make("-n", *arguments, folder=folder, **environment)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


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


@pytest.mark.parametrize("target", ["run", "test", "lab", "site", "rehearse", "notebooks"])
def test_targets_install_first_at_the_locked_versions(fresh, target):
    steps = commands(fresh, target)
    assert "-m venv .venv" in steps
    assert re.search(r"pip .*install -c constraints.txt -e '\.\[test,imagenet\]'", steps)
    assert TORCH_INDEX not in steps


def test_installation_is_not_repeated_until_versions_change(fresh):
    (fresh / ".venv").mkdir()
    (fresh / ".venv" / ".installed").touch()
    assert "install" not in commands(fresh, "run")
    for name in ("pyproject.toml", "constraints.txt"):
        later = (fresh / ".venv" / ".installed").stat().st_mtime + 5
        os.utime(fresh / name, (later, later))
        assert "pip" in commands(fresh, "run"), name
        os.utime(fresh / name, (0, 0))


def test_cpu_torch_comes_from_pytorchs_index_at_the_locked_versions(fresh):
    steps = commands(fresh, "run", "TORCH=cpu").splitlines()
    first = next(line for line in steps if TORCH_INDEX in line)
    assert steps.index(first) < next(n for n, line in enumerate(steps) if "-e '.[test,imagenet]'" in line)
    expression = re.search(r"\$\((.+)\)$", first)[1]
    packages = subprocess.run(["sh", "-c", expression], cwd=fresh, capture_output=True, text=True).stdout.split()
    assert packages == [f"torch=={locked()['torch']}", f"torchvision=={locked()['torchvision']}"]


def test_what_is_chosen_reaches_the_command(fresh):
    steps = " ".join(commands(fresh, "run", "NOTEBOOKS=03*", "DATASET=kvasir_polyp", "SEED=0", PROFILE="full").split())
    assert ".venv/bin/vlsm run '03*' --profile 'full' \\ --dataset 'kvasir_polyp' --seed '0'" in steps
    bare = commands(fresh, "run").splitlines()
    assert not any("--profile" in line or "--dataset" in line or "--seed" in line for line in bare)


def test_tests_run_tiny_on_phantoms_in_one_process(fresh):
    steps = commands(fresh, "test", VLSM_PROFILE="full", VLSM_DATASET="busi")
    assert "env -u VLSM_DATASET -u VLSM_SEED -u VLSM_EPOCHS VLSM_PROFILE=tiny HF_HUB_OFFLINE=1" in steps
    assert steps.count("pytest") == 1
    assert "pytest tests --nbmake notebooks" in steps


def test_the_lock_is_made_by_uv_for_every_platform(fresh):
    steps = " ".join(commands(fresh, "lock").replace("\\\n", " ").split())
    assert (
        "uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --no-emit-index-url "
        '--no-annotate --custom-compile-command "make lock" -o constraints.txt'
    ) in steps
    assert "'.[test,imagenet,dev]'" in steps


def test_formatting_covers_the_notebooks_too(fresh):
    steps = commands(fresh, "format")
    assert "ruff check --fix ." in steps
    assert "ruff format ." in steps


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


def test_a_python_that_is_not_there_is_named(fresh):
    outcome = make("run", "PYTHON=python9", folder=fresh)
    assert outcome.returncode != 0
    assert "There is no python9" in outcome.stderr


# Conda, Binder, continuous integration


def conda(name):
    """The conda dependencies and the pip lines of an environment file."""
    listed = yaml.safe_load(text(name))["dependencies"]
    return [line for line in listed if isinstance(line, str)], next(
        line["pip"] for line in listed if isinstance(line, dict)
    )


def test_conda_installs_what_make_installs():
    packages, lines = conda("environment.yml")
    assert packages == ["python=3.11", "pip"]
    assert lines == ["-c constraints.txt", "-e .[test,imagenet]"]


def test_binder_has_every_requirement_at_its_locked_version():
    packages, lines = conda("binder/environment.yml")
    assert "python=3.11" in packages
    expected = [
        f"{requirement.name}=={locked()[name]}"
        for name, requirement in requirements("imagenet").items()
        if name not in BRINGS_CUDA
    ]
    assert sorted(lines) == sorted(expected), "write these lines to binder/environment.yml:\n" + "\n".join(expected)


def test_binder_installs_the_rest_after_the_cpu_build_of_torch():
    post_build = PROJECT / "binder" / "postBuild"
    lines = [line for line in post_build.read_text().splitlines() if line and not line.startswith("#")]
    assert os.access(post_build, os.X_OK)
    assert post_build.read_text().startswith("#!")
    assert lines[0] == "set -e"
    torch, others, package = [line for line in lines if line.startswith("pip install")]
    assert TORCH_INDEX in torch
    assert {canonicalize_name(word) for word in others.split()} >= BRINGS_CUDA - {"torch", "torchvision"}
    assert "-c constraints.txt" in others
    assert package.endswith("--no-deps -e .")
    pinned = subprocess.run(
        ["bash", "-c", f"{lines[1]}; locked 'torch|torchvision'"], cwd=PROJECT, capture_output=True, text=True
    ).stdout.split()
    assert pinned == [f"torch=={locked()['torch']}", f"torchvision=={locked()['torchvision']}"]


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


def workflow(name):
    return yaml.safe_load(text(f".github/workflows/{name}.yml"))


def steps_of(job):
    return "\n".join(step.get("run", step.get("uses", "")) for step in job["steps"])


def test_the_test_workflow_covers_the_supported_pythons_and_keeps_the_course():
    jobs = workflow("test")["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert ".ci/run" in steps_of(jobs["test"])
    assert "make run" in steps_of(jobs["course"])
    upload = next(step for step in jobs["course"]["steps"] if "upload-artifact" in step.get("uses", ""))
    assert upload["with"]["path"] == "runs/course"
    assert upload["if"] == "always()"  # a failed notebook is just what one wants to look at


def test_the_weekly_workflow_tries_newest_and_colab():
    loaded = workflow("weekly")
    assert "schedule" in loaded[True]  # YAML reads the key `on` as true
    assert "constraints.txt" not in text(".github/workflows/weekly.yml")
    assert "--upgrade" in steps_of(loaded["jobs"]["newest"])
    colab = steps_of(loaded["jobs"]["colab"])
    assert "googlecolab/backend-info" in colab
    assert "tools/colab_constraints.py" in colab
    assert "--constraint colab.txt -e '.[test,imagenet]'" in colab


def test_the_weekly_workflow_rehearses_the_full_profile():
    assert "make rehearse TORCH=cpu" in steps_of(workflow("weekly")["jobs"]["rehearsal"])


def test_the_site_is_built_and_published_from_main():
    loaded = workflow("site")
    assert loaded[True]["push"]["branches"] == ["main"]
    assert "make site TORCH=cpu" in steps_of(loaded["jobs"]["build"])
    upload = next(step for step in loaded["jobs"]["build"]["steps"] if "upload-pages-artifact" in step.get("uses", ""))
    assert upload["with"]["path"] == "runs/site"
    assert "deploy-pages" in steps_of(loaded["jobs"]["publish"])
    assert loaded["jobs"]["publish"]["permissions"] == {"pages": "write", "id-token": "write"}


def test_ci_run_waits_for_nobody_and_fails_on_errors():
    script = PROJECT / ".ci" / "run"
    lines = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert os.access(script, os.X_OK)
    assert lines[0] == "set -e"
    assert lines[1].startswith("exec < /dev/null")
    assert lines[-1] == "make test"


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
