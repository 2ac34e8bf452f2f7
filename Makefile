# `make serve` and `make test` are all a newcomer needs; both install what they use into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# onnxruntime-gpu where an NVIDIA driver answers, onnxruntime elsewhere: they cannot share a venv.
ifndef RUNTIME
RUNTIME := $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
endif
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e
MODEL ?= custom_cnn
DATA ?= fer2013.zip
VOTES ?= ferplus.csv
BASE ?= docker.io/library/python:3.12-slim-bookworm
URL ?= http://localhost:8000

.DELETE_ON_ERROR:  # half a .venv would count as made

.PHONY: docs serve site test test-slow test-all test-cluster lint format train export evaluate results robustness bench fuzz image-check clean

serve: $(VENV)/.serve-$(RUNTIME)  ## The service on port 8000
	$(BIN)/ferserve serve

site: web/node_modules  ## The demo page as a site of its own, and its private mode for make serve; needs Node.js
	cd web && npm run --silent check && npm run --silent build

test: $(VENV)/.dev-$(RUNTIME)  ## The tests for every day, in about five minutes
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(VENV)/.dev-$(RUNTIME)  ## The rest: trainings, big networks, browser, load, fuzz, hostile input
	$(BIN)/python -m pytest -m slow $(TESTS)

test-all: test test-slow test-cluster

test-cluster: $(VENV)/.dev-$(RUNTIME)  ## The tests that need Ray, which the others skip without it
	$(INSTALL) '.[$(RUNTIME),dev,cluster]'
	$(BIN)/python -m pytest tests/cluster

lint: $(VENV)/.dev-$(RUNTIME)  ## Style, types, and what may import what
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev-$(RUNTIME)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

train: $(VENV)/.dev-$(RUNTIME)  ## make train MODEL=custom_cnn DATA=path/to/fer2013.zip
	$(BIN)/ferserve train $(MODEL) --data $(DATA)

export: $(VENV)/.dev-$(RUNTIME)  ## make export MODEL=custom_cnn DATA=path/to/fer2013.zip
	$(BIN)/ferserve export $(MODEL) --data $(DATA)

evaluate: $(VENV)/.dev-$(RUNTIME)  ## A model's scores on FER2013, measured again
	$(BIN)/ferserve evaluate $(MODEL) --data $(DATA) $(if $(wildcard $(VOTES)),--votes $(VOTES))

docs: $(VENV)/.dev-$(RUNTIME)  ## The tables of settings in docs/operations.md and docs/cluster.md
	$(BIN)/python docs/settings_table.py

results: $(VENV)/.dev-$(RUNTIME)  ## README.md's table, docs/results.md, docs/model-cards.md
	$(BIN)/python -m ferserve_export.results

robustness: $(VENV)/.dev-$(RUNTIME)  ## Accuracy under crops, rotation, blur, light, JPEG: docs/robustness.md
	$(BIN)/ferserve robustness $(MODEL) --data $(DATA) $(if $(wildcard $(VOTES)),--votes $(VOTES)) --models-dir models

# A script ends with status 1 where a goal was missed, which does not keep the others from running.
bench: $(VENV)/.dev-$(RUNTIME)  ## The benchmarks of the service, on a machine that does nothing else: about an hour
	-for name in compare latency memory streams overload disconnects $(if $(wildcard $(DATA)),accuracy); do \
		begun=$$(date +%s); data=; \
		test $$name = accuracy && data="--data $(DATA) $(if $(wildcard $(VOTES)),--votes $(VOTES))"; \
		$(BIN)/python bench/$$name.py $$data; \
		echo "bench/$$name.py took $$(($$(date +%s) - begun)) s"; done
	$(BIN)/python bench/performance.py

fuzz: $(VENV)/.dev-$(RUNTIME)  ## schemathesis against the service at URL, started with FERSERVE_DATASET
	$(BIN)/schemathesis --config-file tests/fuzz/schemathesis.toml run $(URL)/openapi.json --max-examples 150

image-check: $(VENV)/.dev-$(RUNTIME)  ## The image, built by buildah without Docker and asked; as root
	BASE_IMAGE="$(BASE)" SECRETS="$(SECRETS)" $(BIN)/python -m pytest tests/deploy

clean:
	rm -rf site web/node_modules service/ferserve/web/static/private
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache *.egg-info

web/node_modules: web/package.json
	cd web && npm install
	touch $@

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve-$(RUNTIME): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) '.[$(RUNTIME)]'
	touch $@

$(VENV)/.dev-$(RUNTIME): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) '.[$(RUNTIME),dev]'
	touch $@ $(VENV)/.serve-$(RUNTIME)
