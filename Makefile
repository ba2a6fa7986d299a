# Two commands are enough: `make demo` and `make test`. Everything runs from .venv in this folder.
PYTHON ?= python3
BIN := .venv/bin
# uv only makes it quicker; pip does the same. A folder of wheels that pip is told about is passed on.
UV := $(shell command -v uv 2>/dev/null)
FIND := $(if $(wildcard $(PIP_FIND_LINKS)),--find-links $(PIP_FIND_LINKS))
INSTALL = $(if $(UV),$(UV) pip install --quiet --python $(BIN)/python $(FIND),$(BIN)/python -m pip install --quiet --disable-pip-version-check)

.PHONY: setup demo test check format docs clean

# The stamps stand for "this was installed since pyproject or the constraints changed".
.venv/local.stamp: pyproject.toml constraints/tested.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "unift needs Python 3.11 or later; try: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing unift[local] into .venv (a minute or more, once) ..."
	@$(INSTALL) -c constraints/tested.txt -e '.[local]'
	@touch $@

.venv/dev.stamp: .venv/local.stamp
	@echo "Installing the development tools into .venv ..."
	@$(INSTALL) -c constraints/tested.txt -e '.[dev]'
	@touch $@

setup: .venv/dev.stamp            ## everything, for working on unift

demo: .venv/local.stamp           ## the main job on embedded model and data, offline
	@HF_HUB_OFFLINE=1 $(BIN)/unift demo $(ARGS)

test: check                       ## what CI runs: checks, then tests
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile $(ARGS)

check: .venv/dev.stamp            ## formatting, lint, types, import contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: .venv/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/dev.stamp             ## the site, under site/; the command reference comes from the code
	$(BIN)/python docs/make_reference.py
	$(BIN)/zensical build --strict

clean:
	rm -rf .venv site build dist
