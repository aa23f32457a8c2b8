# Two commands do everything: `make quickstart` and `make test`. Both need only Python 3.11+, make and git.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUNS ?= runs
# Wheels of matching torch packages and everything else at the versions that are tested.
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help quickstart test third-party slow lint docs bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("dynmm needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; say make PYTHON=python3.11") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) --editable '.[torch,text,llm]'
	@touch $@

$(VENV)/.test: $(VENV)/.run
	$(INSTALL) --editable '.[test]'
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	$(INSTALL) --editable '.[dev]'
	@touch $@

$(VENV)/.docs: $(VENV)/.run
	$(INSTALL) --editable '.[docs]'
	@touch $@

quickstart: $(VENV)/.run ## install, fetch data and models, train, re-rank, explain, report
	$(BIN)/dynmm run examples/quickstart.yaml --runs $(RUNS)

test: $(VENV)/.test ## the fast test suite
	$(BIN)/python -m pytest -n auto

# Its environment sees this one's packages, and this one does not see it.
third-party: $(VENV)/.test ## the example of an external plugin, installed and tested in its own environment
	$(BIN)/python -m venv --clear $(VENV)-third-party
	$(BIN)/python -c "import sysconfig; print('import site; site.addsitedir(%r)' % sysconfig.get_path('purelib'))" \
	  > $$($(VENV)-third-party/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/parent.pth
	$(VENV)-third-party/bin/python -m pip install --quiet --no-deps --no-build-isolation ./examples/third_party_plugin
	$(VENV)-third-party/bin/python -c "from dynmm_framework.cli.app import main; main()" plugins info gru4rec
	cd examples/third_party_plugin && $(abspath $(VENV))-third-party/bin/python -m pytest -q -p no:cacheprovider

slow: $(VENV)/.test ## long runs on real data (DYNMM_DATA)
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.dev ## ruff, mypy strict on the core, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=plugins:registry $(BIN)/lint-imports

docs: $(VENV)/.docs ## the documentation, into docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html

bench: $(VENV)/.test ## measure, beside PEER_PYTHON (RecBole) and PEER_CHECKOUT (pmixer), and renew the tables
	$(BIN)/python benchmarks/run_all.py \
	  $(if $(PEER_PYTHON),--peer-python $(PEER_PYTHON)) \
	  $(if $(PEER_CHECKOUT),--peer-checkout $(PEER_CHECKOUT)) $(BENCH)

clean: ## remove the environment and caches, not the runs
	rm -rf $(VENV) $(VENV)-third-party .mypy_cache .ruff_cache .pytest_cache .hypothesis docs/_build
