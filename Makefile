# Everything runs in .venv, installed at the versions of constraints.txt. `make help` lists the targets.

PYTHON ?= python3
# cpu: PyTorch without CUDA, a much smaller download.
TORCH ?=
# Handed on to `vlsm run` when set; also: VLSM_DATA, VLSM_RUNS, VLSM_CACHE.
NOTEBOOKS ?=
PROFILE ?=
DATASET ?=
SEED ?=
JOBS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install
# Formatting and locking need one more extra, so they have a stamp of their own.
INSTALLED := .venv/.installed
INSTALLED_DEV := .venv/.installed-dev

.DEFAULT_GOAL := help
.PHONY: help run lab test site student rehearse notebooks format lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  e.g. make run NOTEBOOKS='03*' DATASET=kvasir_polyp; PYTHON=python3.12; TORCH=cpu"

run: $(INSTALLED) ## run the course (NOTEBOOKS= PROFILE= DATASET= SEED= JOBS=) and report in runs/course
	$(BIN)/vlsm run $(if $(NOTEBOOKS),'$(NOTEBOOKS)') $(if $(PROFILE),--profile '$(PROFILE)') \
	  $(if $(DATASET),--dataset '$(DATASET)') $(if $(SEED),--seed '$(SEED)') $(if $(JOBS),--jobs '$(JOBS)')

lab: $(INSTALLED) ## open the notebooks in JupyterLab
	@# Kernels run in notebooks/, where a relative VLSM_DATA would name another folder: each is made absolute here.
	@$(BIN)/python -c "from vlsm_helpers import settings; settings.absolute_folders(); \
	from jupyterlab.labapp import main; main(['notebooks'])"

# One pytest run, so one closing line: a worker per core, four at most (each takes about 1 GB), each with one thread. Tiny
# and on phantoms whatever the environment says; the tests that want real images name them themselves. Solutions are executed by
# tests/course/test_solutions.py, in one process.
test: $(INSTALLED) ## run all tests and every notebook; -ra says what was left out
	env -u VLSM_DATASET -u VLSM_SEED -u VLSM_EPOCHS VLSM_PROFILE=tiny HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 \
	  $(BIN)/python -m pytest tests --nbmake notebooks --ignore=notebooks/solutions -n logical --maxprocesses 4

site: $(INSTALLED) ## build the course as a static site in runs/site: search, dark mode, opens without a server
	$(BIN)/python -m tools.site

student: $(INSTALLED) ## copies of the notebooks without outputs for a class, in student
	$(BIN)/jupyter nbconvert --ClearOutputPreprocessor.enabled=True --to notebook --output-dir student notebooks/0*.ipynb

rehearse: $(INSTALLED) ## run the course at full size on random weights: no GPU, no hub, 25 minutes (maintainers)
	$(BIN)/python -m tools.rehearse $(if $(NOTEBOOKS),'$(NOTEBOOKS)')
	$(BIN)/python -m benchmarks.gpu --dry --minutes 30

notebooks: $(INSTALLED) ## execute the committed notebooks again and stamp them (maintainers)
	$(BIN)/python -m tools.notebooks $(if $(NOTEBOOKS),'$(NOTEBOOKS)')

format: $(INSTALLED_DEV) ## format and lint code and notebooks (maintainers)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(INSTALLED_DEV) ## bring constraints.txt up to date (maintainers)
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --no-emit-index-url \
	  --no-annotate --custom-compile-command "make lock" -o constraints.txt

clean: ## remove .venv, caches and the report; trained runs and datasets stay
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis runs/course runs/site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@command -v '$(PYTHON)' > /dev/null || { echo "There is no $(PYTHON). Name a Python 3.11 or newer: make PYTHON=..." >&2; exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "The course needs Python 3.11 or newer; this is $$('$(PYTHON)' --version 2>&1). Name one: make PYTHON=python3.12" >&2; exit 1; }
	'$(PYTHON)' -m venv .venv
ifeq ($(TORCH),cpu)
	$(PIP) --no-deps --index-url https://download.pytorch.org/whl/cpu $$(grep -oE '^torch(vision)?==[^ ;]+' constraints.txt)
endif
	$(PIP) -c constraints.txt -e '.[test,imagenet,dicom,nifti,annotations]'
	@touch $@

$(INSTALLED_DEV): $(INSTALLED)
	$(PIP) -c constraints.txt -e '.[test,imagenet,dicom,nifti,annotations,dev]'
	@touch $@
