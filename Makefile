# Every task of the project. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000
WORKERS ?= 2
THREADS ?= 64
VAR_DIR ?= var
export VAR_DIR
# What a request may be and take before the application sees it: docs/operations.md.
export GRANIAN_HTTP ?= 1
export GRANIAN_HTTP1_HEADER_READ_TIMEOUT ?= 30000
export GRANIAN_HTTP1_BUFFER_SIZE ?= 65536

.DEFAULT_GOAL := help
.PHONY: help venv demo run serve test test-embedded test-real test-browser test-cluster check audit format services services-stop cluster cluster-stop \
	test-faults soak bench bench-growth bench-pages screenshots clean

help: ## List the tasks
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  \033[1m%-15s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  Variables: PORT (8000), WORKERS (2), THREADS (64), VAR_DIR (var), PYTHON (python3), SERVICES=native"

venv: $(BIN)/.runtime ## Make the virtual environment with what the service needs

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Name another: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "Python's venv module is missing: apt-get install python3-venv"; exit 1; }

$(BIN)/.runtime: requirements.txt | $(BIN)/python
	@echo "Installing what requirements.txt lists …"
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(BIN)/.dev: requirements.txt requirements-tracing.txt requirements-dev.txt | $(BIN)/python
	@echo "Installing what requirements-dev.txt lists …"
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(BIN)/.runtime

# Without the variables that choose real servers, so that it is embedded in any shell.
REAL := DATABASE_URL CASSANDRA_HOSTS MONGODB_URI REDIS_URL REDIS_HOST MQTT_URL
EMBEDDED := env $(foreach name,$(REAL),-u $(name) -u $(name)_FILE)

demo: $(BIN)/.runtime ## Run everything embedded, with sample data and simulated devices
	@$(EMBEDDED) ALLOW_HTTP=1 WORKER_THREAD=1 $(BIN)/python manage.py demo --port $(PORT)

run: $(BIN)/.runtime ## Run the server on the stores that the environment names, else embedded
	@ALLOW_HTTP=1 $(BIN)/python manage.py setup_stores
	@ALLOW_HTTP=1 WORKER_THREAD=1 $(BIN)/granian --interface wsgi --port $(PORT) \
		--blocking-threads 8 --no-ws iotflow.wsgi:application

serve: $(BIN)/.runtime ## Serve on real stores as in production: WORKERS processes of THREADS; the worker apart
	@$(BIN)/granian --interface wsgi --port $(PORT) --workers $(WORKERS) \
		--blocking-threads $(THREADS) --respawn-failed-workers --workers-kill-timeout 25 \
		--no-ws iotflow.wsgi:application

services: $(BIN)/.runtime ## Start PostgreSQL, Cassandra, Redis, MongoDB, Mosquitto; then: . .services/env
	@$(BIN)/python deploy/services.py up

cluster: $(BIN)/.runtime ## Start three Cassandra nodes on 127.0.0.11 to 13; then: . .services/cluster-env
	@$(BIN)/python deploy/services.py cluster up

cluster-stop: ## Stop those
	@$(PYTHON) deploy/services.py cluster down

services-stop: ## Stop what `make services` started
	@$(PYTHON) deploy/services.py down

check: $(BIN)/.dev ## Format, lint, types, imports, migrations
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(EMBEDDED) $(BIN)/mypy iotflow accounts devices events telemetry
	@$(BIN)/mypy --config-file clients/python/pyproject.toml clients/python/iotflow_client
	@$(BIN)/lint-imports
	@$(EMBEDDED) $(BIN)/python manage.py makemigrations --check --dry-run

audit: $(BIN)/.dev ## Look at dependencies, licences, code, settings, secrets and known holes; OFFLINE=1, ADVISORIES=folder
	@$(EMBEDDED) $(BIN)/python deploy/audit.py

format: $(BIN)/.dev ## Let ruff format and mend the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

CLUSTER_TESTS := tests/contracts/test_telemetry_store.py tests/integration/test_cluster.py

test: $(BIN)/.dev services ## Run the whole suite: on the embedded stores, in a browser, with faults, on real servers
	@$(MAKE) --no-print-directory test-embedded
	@$(MAKE) --no-print-directory test-browser
	@$(MAKE) --no-print-directory test-faults QUICK=1
	@$(MAKE) --no-print-directory test-real

test-embedded: $(BIN)/.dev ## Run the suite on the embedded stores only
	@echo "== The suite on the embedded stores"
	@STORES=embedded $(BIN)/python -m pytest -m "not real and not cluster and not browser" $(ARGS)

test-real: $(BIN)/.dev ## Run the suite on the real servers (make services)
	@echo "== The suite on the real servers"
	@STORES=real $(BIN)/python -m pytest -m "not cluster and not browser" $(ARGS)

test-browser: $(BIN)/.dev ## Try the staff's pages in Chromium, which apt installs where it is missing
	@echo "== The staff's pages in a browser"
	@$(BIN)/python -m tests.browser.chromium
	@STORES=embedded $(BIN)/python -m pytest -m browser tests/browser $(ARGS)

test-faults: $(BIN)/.dev services ## Kill, freeze, cut each part under load; writes docs/reliability.md; QUICK=1
	@echo "== Faults under load"
	@$(BIN)/python -m tests.faults run $(if $(QUICK),--quick) $(ARGS)

soak: $(BIN)/.dev services ## Half of the measured load for MINUTES (30): memory, errors, losses
	@$(BIN)/python -m tests.faults soak --minutes $(or $(MINUTES),30) $(ARGS)

screenshots: $(BIN)/.dev ## Write the pictures of README and docs anew, from a fresh demo
	@$(BIN)/python -m tests.browser.screenshots

test-cluster: $(BIN)/.dev cluster ## Run what three Cassandra nodes have to show, one of them killed
	@$(BIN)/python deploy/services.py up --only postgres redis mongo
	@echo "== The contract and the loss of a node, on three nodes"
	@STORES=cluster $(BIN)/python -m pytest $(CLUSTER_TESTS) $(ARGS)

bench: $(BIN)/.dev services ## Measure on the real servers; QUICK=1 in 3 minutes, ARGS="--help" tells more
	@$(BIN)/python -m tests.bench run $(if $(QUICK),--quick) $(ARGS)

bench-growth: $(BIN)/.dev services ## Measure the same while up to ten million readings are stored; QUICK=1
	@$(BIN)/python -m tests.bench growth $(if $(QUICK),--quick) $(ARGS)

bench-pages: $(BIN)/.dev services ## Measure the staff's pages with 100,000 devices and a million events; QUICK=1
	@$(BIN)/python -m tests.bench pages $(if $(QUICK),--quick) $(ARGS)

clean: services-stop cluster-stop ## Remove what the tasks made: environment, servers' data, var
	rm -rf $(VENV) .services $(VAR_DIR) .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
