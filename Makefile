# Each target makes .venv when it is missing or older than the lock. After that nothing here needs the network.

SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
PY := $(VENV)/bin/python
PYTHON ?= python3.11 python3.12 python3
LOCK := requirements/lock.txt
BOOTSTRAP := requirements/bootstrap.txt
BENCH := requirements/bench.txt
DOCS := requirements/docs.txt

# The stamp is named after what is locked, so that another lock, and nothing else, means another installation.
STAMP := $(VENV)/.installed-$(shell cat $(LOCK) $(BOOTSTRAP) 2>/dev/null | cksum | cut -d ' ' -f 1)
BENCH_STAMP := $(STAMP)-bench-$(shell cksum < $(BENCH) 2>/dev/null | cut -d ' ' -f 1)
DOCS_VENV := .venv-docs
DOCS_STAMP := $(DOCS_VENV)/.installed-$(shell cksum < $(DOCS) 2>/dev/null | cut -d ' ' -f 1)
ifeq ($(shell $(PY) -c "print(1)" 2>/dev/null),)
.PHONY: $(STAMP)
endif

# Two processes suit two cores and the memory of a laptop; loadfile keeps the fixtures of a file in one process.
PYTEST_ARGS ?= -n 2 --dist loadfile

export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.PHONY: help setup demo live-demo up down test fuzz lint format bench bench-check gpu-check docs pictures lock audit sbom pins clean distclean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## Make .venv from the lock (Python 3.11 or 3.12; once, about 7 GB)
	@echo "Ready: $(PY), $$($(PY) --version)"

demo: $(STAMP) ## Analyse the bundled sample; no network, no weights needed
	@$(PY) -m flows demo

live-demo: $(STAMP) ## Show a camera: stream, windows, visits, an alert, a report; no network
	@$(PY) -m flows live-demo

up: $(STAMP) ## Start everything on this machine: Prefect, S3, Dask, workers; ARGS="--prefect-port 4300"
	@$(PY) -m deployments up $(ARGS)

down: $(STAMP) ## End exactly what `make up` started
	@$(PY) -m deployments down $(ARGS)

test: $(STAMP) ## Run the tests; ARGS="tests/core -k probe" for some of them
	@$(PY) -m pytest $(PYTEST_ARGS) $(ARGS)

fuzz: $(STAMP) ## Analyse damaged media; N=1000 SEED=1 say how many and which
	@$(PY) -m tests.fuzz --count $(or $(N),1000) --seed $(or $(SEED),1) $(ARGS)

lint: $(STAMP) ## Check style, formatting and types
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: $(STAMP) ## Rewrite the code in the project's format
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

bench: $(BENCH_STAMP) ## List the benchmarks; NAME=pipeline runs one
	@$(PY) -m benchmarks $(NAME) $(ARGS)

bench-check: $(STAMP) ## Hold five short ratios against their floors (under 4 minutes on 2 quiet cores)
	@$(PY) -m benchmarks check $(ARGS)

gpu-check: $(STAMP) ## Measure the networks on a GPU, as JSON (8 minutes at most); ARGS=--cpu tries the check itself
	@$(PY) -m benchmarks gpu_check $(ARGS)

docs: $(DOCS_STAMP) ## Build the documentation's site in build/site and check its links
	@NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict --quiet
	@echo "build/site/index.html: $$(find build/site -name '*.html' | wc -l) pages"

pictures: $(STAMP) ## Take the pictures of the pages from the bundled sample (needs chromium)
	@$(PY) -m tests.pictures

lock: $(PY) ## Resolve pyproject.toml into requirements/; UPGRADE=1 takes newer versions
	@test -x $(VENV)/bin/uv || $(PY) -m pip install --quiet --disable-pip-version-check -r requirements/bootstrap.in
	@for lock in $(LOCK):pyproject.toml:--all-extras $(BOOTSTRAP):requirements/bootstrap.in:--constraints=$(LOCK) \
	    $(BENCH):requirements/bench.in:--constraints=$(LOCK) $(DOCS):requirements/docs.in:--constraints=$(LOCK); do \
	    IFS=: read -r out from flags <<< "$$lock"; \
	    UV_CUSTOM_COMPILE_COMMAND="make lock" $(VENV)/bin/uv pip compile $$from $$flags --output-file $$out --quiet \
	        --universal --fork-strategy fewest --python-version 3.11 \
	        --generate-hashes --no-emit-index-url --no-annotate $(if $(UPGRADE),--upgrade) || exit 1; \
	    echo "$$out: $$(grep -c '^[a-z]' $$out) packages"; \
	done

audit: $(STAMP) ## Ask OSV for known flaws of the locked packages (needs a network; says so where there is none)
	@$(PY) requirements/audit.py $(ARGS)

sbom: $(STAMP) ## Write build/sbom.json: every locked package with its hashes (CycloneDX)
	@mkdir -p build
	@$(PY) -m cyclonedx_py requirements --pyproject pyproject.toml --output-reproducible --output-file build/sbom.json $(LOCK)
	@echo "build/sbom.json: $$(grep -c '"purl"' build/sbom.json) packages"

pins: $(PY) ## Pin the images of infra/compose.yaml by digest in infra/.env (asks docker); ARGS=--check only looks
	@$(PY) -m infra.pins $(ARGS)

clean: ## Remove caches and what tests and builds left; what is stored and .venv stay
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
	@rm -rf .pytest_cache .mypy_cache .ruff_cache build

distclean: clean ## Remove .venv, .venv-docs and .reelflow as well, with all that `make up` has stored
	@[ ! -e .reelflow/stack/stack.json ] || $(PY) -m deployments down
	@rm -rf $(VENV) $(DOCS_VENV) .reelflow

$(PY):
	@for python in $(PYTHON); do \
	    "$$python" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null \
	        || continue; \
	    echo "Making $(VENV) with $$($$python --version) ($$(command -v $$python))"; \
	    "$$python" -m venv --clear $(VENV) && exit 0; \
	done; \
	echo "make: no Python 3.11 or 3.12 with its venv module was found (tried: $(PYTHON))." >&2; \
	echo "make: install one (Debian, Ubuntu: apt-get install python3.11-venv), or name it: make setup PYTHON=/path/to/python3.11" >&2; \
	exit 1

# The .pth file lets Dask workers and schedulers of this environment find flows and tasks from any folder.
# Bytecode is compiled now, because each Dask worker and server process would otherwise do it again where it cannot be written.
$(STAMP):
	@$(PY) -c "" 2>/dev/null || { rm -rf $(VENV); $(MAKE) --no-print-directory $(PY); }
	@rm -f $(VENV)/.installed-*
	@echo "Installing $(LOCK) into $(VENV) (about 7 GB; a minute or two on a fast line)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r $(BOOTSTRAP)
	@$(VENV)/bin/uv pip sync --python $(PY) --require-hashes --build-constraints $(BOOTSTRAP) $(LOCK) \
	    --compile-bytecode $$([ -t 2 ] || echo --quiet)
	@$(PY) -c "import os, sysconfig; open(sysconfig.get_path('purelib') + '/reelflow.pth', 'w').write(os.getcwd() + '\n')"
	@touch $@

# What the benchmarks compare with (Ray, Daft, ...), beside the locked packages and fitting them.
$(BENCH_STAMP): $(STAMP)
	@echo "Installing $(BENCH) into $(VENV): what the benchmarks compare with"
	@$(VENV)/bin/uv pip install --python $(PY) --require-hashes -r $(BENCH) $$([ -t 2 ] || echo --quiet)
	@touch $@

# Apart from .venv: the pages need none of the project's packages, and who writes them not its 7 GB.
$(DOCS_STAMP): $(PY)
	@echo "Installing $(DOCS) into $(DOCS_VENV)"
	@rm -rf $(DOCS_VENV)
	@$(PY) -m venv $(DOCS_VENV)
	@$(DOCS_VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $(DOCS)
	@touch $@
