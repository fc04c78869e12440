.DEFAULT_GOAL := help
# distributions build Python with profiles, pyenv by default without, and the same program takes half as long again on that
PYTHON ?= $(shell /usr/bin/python3 -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo /usr/bin/python3 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
ORDERS ?=
KEEP ?=
NAME ?=
CHECK ?=
ONLY ?=
SMALL ?=
RUNS ?=
WORKLOAD ?=
JOBS ?=
MINUTES ?=
SEED ?=

# an environment that forbids bytecode would have the tests' assertions, and the library, compiled anew in every process
test test-fast: export PYTHONDONTWRITEBYTECODE =

.PHONY: help install lint type test test-fast bench bench-gate bench-quick demo demo-real drill faults soak servers-up servers-down docs clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

$(BIN)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[cli,postgres,registry]' --group dev
	@touch $@

install: $(BIN)/.installed ## make the virtual environment .venv with everything that development needs

lint: install ## check the style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: install ## check the types
	$(BIN)/mypy

# slow tests wait for sessions and outages to end for half of their time: hence three of them on two processors, and twice
# the time for each, since the first of each waits for its servers too
test: install ## everything: style, types, all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 3 -m 'not slow'
	$(BIN)/pytest -n 3 --timeout 240 --dist loadfile -m slow

test-fast: install ## the tests that start no process and no server, under a minute
	$(BIN)/pytest -n 3 -m 'not slow'

demo: install ## run the fleet on the embedded broker: make demo [ORDERS=file.csv] [KEEP=1]
	$(BIN)/python -m demo $(if $(ORDERS),--orders $(ORDERS)) $(if $(KEEP),--keep)

demo-real: install ## the same on real Kafka, PostgreSQL and registry: yours where SAGA_BROKER, SAGA_DATABASE, SAGA_REGISTRY say so
	$(BIN)/python -m demo --real $(if $(ORDERS),--orders $(ORDERS)) $(if $(KEEP),--keep)

drill: install ## cause what a page of docs/operations is about, to practise: make drill [NAME=parked-growing] [CHECK=1]
	@$(BIN)/python -m drills $(NAME) $(if $(CHECK),--check)

$(BIN)/.bench: $(BIN)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --group bench
	@touch $@

bench: $(BIN)/.bench ## everything measured, peers too, into benchmarks/RESULTS.md, under 20 minutes: make bench [ONLY=peers,latency] [SMALL=1]
	$(BIN)/python -m benchmarks.suite "$(ONLY)" $(SMALL)

bench-gate: install ## fail when the engine has fallen behind the loop by hand by more than benchmarks/floor.json allows
	$(BIN)/python -m benchmarks.gate

faults: install ## break real servers and services under load, judge what comes of it: make faults [ONLY=F-12] [WORKLOAD=bank] [RUNS=3] [JOBS=2] [PAGE=beside]
	$(BIN)/python -m faults $(if $(ONLY),--only $(ONLY)) $(if $(WORKLOAD),--workload $(WORKLOAD)) $(if $(RUNS),--runs $(RUNS)) $(if $(JOBS),--jobs $(JOBS)) $(if $(PAGE),--page $(PAGE))

soak: install ## random faults for a while, judged at the end: make soak [MINUTES=5] [SEED=n] [WORKLOAD=bank]
	$(BIN)/python -m faults --soak $(or $(MINUTES),5) $(if $(SEED),--seed $(SEED)) $(if $(WORKLOAD),--workload $(WORKLOAD))

bench-quick: install ## one participant against the same work by hand, on local Kafka and PostgreSQL, under 3 minutes
	$(BIN)/python -m benchmarks

servers-up: install ## start Kafka, PostgreSQL and a schema registry without Docker, and print how to reach them
	@$(BIN)/python -m servers up

servers-down: install ## stop what servers-up started, and throw its data away
	@$(BIN)/python -m servers down

docs: install ## write the documents of the contracts to build/docs: a site to read without a network, AsyncAPI, Mermaid
	$(BIN)/saga docs schemas/checkout --into build/docs

clean: ## remove what was built
	rm -rf $(VENV) dist build .demo .mypy_cache .ruff_cache .pytest_cache
