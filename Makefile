# make demo | test | coverage | lint | bench | lock | clean; each prepares the virtual environment that it needs.
# Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv
VENV_DEV ?= .venv-dev
VENV_LOCK ?= .venv-lock
LOCK_PYTHON ?= python3.11
PYTEST_ARGS ?=
UPGRADE ?=
TORCH ?= torch==2.13.0

PIP_INSTALL = -m pip install --quiet --disable-pip-version-check
BASE_READY = $(VENV)/ready
DEV_READY = $(VENV_DEV)/ready
LOCK_READY = $(VENV_LOCK)/ready
# No machine's own package sources, so that the hashes are those of the public index.
COMPILE = PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= PIP_EXTRA_INDEX_URL= $(VENV_LOCK)/bin/pip-compile --quiet \
	--generate-hashes --allow-unsafe --no-strip-extras --no-header --build-deps-for editable \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host $(UPGRADE)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test coverage lint ruff format types imports bench lock clean python

help:
	@sed -n '1,2s/^# //p' Makefile

demo: $(BASE_READY)
	$(VENV)/bin/epochal demo

test: $(DEV_READY)
	$(VENV_DEV)/bin/python -m pytest $(PYTEST_ARGS)

# The same with the lines that no test reaches; it takes about twice as long.
coverage: $(DEV_READY)
	$(VENV_DEV)/bin/python -m pytest --cov --cov-report=term $(PYTEST_ARGS)

lint: ruff format types imports

ruff: $(DEV_READY)
	$(VENV_DEV)/bin/ruff check .

format: $(DEV_READY)
	$(VENV_DEV)/bin/ruff format --check .

types: $(DEV_READY)
	$(VENV_DEV)/bin/mypy

imports: $(DEV_READY)
	$(VENV_DEV)/bin/lint-imports

bench: $(DEV_READY)
	$(VENV_DEV)/bin/python -m bench --size standard

# Resolved by the oldest Python that we support; newer ones install the same pins.
# Keeps the pins that still fit pyproject.toml; make lock UPGRADE=--upgrade renews all of them.
# base.txt starts as a copy of dev.txt, so that both pin the same versions.
lock: $(LOCK_READY)
	$(COMPILE) --extra dev --output-file requirements/dev.txt pyproject.toml
	cp requirements/dev.txt requirements/base.txt
	$(COMPILE) --output-file requirements/base.txt pyproject.toml

clean:
	rm -rf $(VENV) $(VENV_DEV) $(VENV_LOCK) build dist htmlcov .coverage .mypy_cache .ruff_cache .pytest_cache \
		.hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Epochal needs Python 3.11 or newer, and '$(PYTHON)' is not: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; \
		exit 1; }

# The project itself is installed last, as a link to this checkout: a changed source needs no new installation.
$(BASE_READY): requirements/base.txt pyproject.toml | python
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python $(PIP_INSTALL) --require-hashes --requirement requirements/base.txt
	$(VENV)/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV_READY): requirements/dev.txt pyproject.toml | python
	$(PYTHON) -m venv --clear $(VENV_DEV)
	$(VENV_DEV)/bin/python $(PIP_INSTALL) --require-hashes --requirement requirements/dev.txt
	$(VENV_DEV)/bin/python $(PIP_INSTALL) --no-deps $(TORCH)
	$(VENV_DEV)/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(LOCK_READY):
	$(LOCK_PYTHON) -m venv --clear $(VENV_LOCK)
	$(VENV_LOCK)/bin/python $(PIP_INSTALL) "pip-tools==7.6.2"
	@touch $@
