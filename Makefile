# The words of the project. CI says the same ones (.ci/run).
# Every word prepares the environment by itself: .venv, exactly as requirements.lock pins it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules
# Where this is set, as in many containers, every process of every test would compile all libraries again: 4 s each.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
# Written last, so that a half-made environment has none and is made again. It names what the environment was made from.
STAMP := $(VENV)/.made-from

# PYTHON=python3.12 chooses; otherwise the first that really runs. A shim of pyenv may exist and fail until a version is named.
ifneq ($(origin PYTHON), undefined)
CANDIDATES := $(PYTHON)
else
CANDIDATES := python3.11 python3.12 python3.13 python3
endif

NOTEBOOKS := $(wildcard notebooks/*.ipynb)

# How many processes run the tests.
WORKERS ?= 2
# STRICT=1 makes every skipped test a failure: on CI nothing may be left unseen.
STRICT ?= 0

# The plugins' usage statistics stay off, whatever a tool's default is.
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true

# The part of pyproject.toml that requirements.lock is made from, as one number. Kept in the lock's first line.
LOCK_INPUTS = $(BIN)/python -c 'import hashlib, json, pathlib, tomllib; \
	p = tomllib.loads(pathlib.Path("pyproject.toml").read_text("utf-8"))["project"]; \
	inputs = [p["requires-python"], p["dependencies"], p["optional-dependencies"]]; \
	print("\# made from", hashlib.sha256(json.dumps(inputs).encode()).hexdigest(), "by make lock")'

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##@ Daily words

.PHONY: run
run: environment ## Forecast the farm in data/01_raw: raw signals to report
	@$(BIN)/kedro run
	@echo
	@echo "The report is $(CURDIR)/data/08_reporting/report.html (open it in a browser);"
	@echo "the same facts for a machine are in data/08_reporting/summary.json."

.PHONY: test
test: check ## Every check and every test but the long ones (STRICT=1: a skip is a failure)
	@$(TEST_ENV) $(BIN)/python -m pytest $(AT_ONCE)

# Files go to the workers in the order that tests/conftest.py gives them, the slow ones first.
AT_ONCE = -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: coverage
coverage: environment ## The same tests, and which lines they reach (half as long again)
	@$(TEST_ENV) $(BIN)/python -m pytest $(AT_ONCE) --cov --cov-report=term-missing:skip-covered

.PHONY: test-long
test-long: environment ## The tests that take minutes
	@$(TEST_ENV) $(BIN)/python -m pytest -m long

# Tests load models as production does: from native artefacts, never by unpickling. Each process of theirs keeps to one core.
TEST_ENV = WIND_KEDRO_STRICT=$(STRICT) MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: check
check: check-code check-lock check-notebooks ## Format, lint, types, architecture, lock and notebooks; changes nothing

.PHONY: check-code
check-code: environment
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy --num-workers $(WORKERS)
	@$(BIN)/lint-imports

.PHONY: check-lock
check-lock: environment
	@[[ "$$(head -n 1 requirements.lock)" == "$$($(LOCK_INPUTS))" ]] || \
		{ echo "requirements.lock is out of step with pyproject.toml: run make lock and commit both" >&2; exit 1; }
	@$(BIN)/uv pip check --quiet --python $(BIN)/python

.PHONY: check-notebooks
check-notebooks: environment
	@$(if $(NOTEBOOKS),$(BIN)/nbstripout --verify $(NOTEBOOKS) || \
		{ echo "a notebook holds outputs or counts: run make format" >&2; exit 1; },:)

.PHONY: format
format: environment ## Put code, imports and notebooks into shape
	@$(BIN)/ruff check --fix --exit-zero
	@$(BIN)/ruff format
	@$(if $(NOTEBOOKS),$(BIN)/nbstripout $(NOTEBOOKS),:)

.PHONY: viz
viz: environment ## See the pipelines and their figures in a browser
	@$(BIN)/kedro viz run

.PHONY: notebook
notebook: environment ## Execute the first-look notebook; the result is a copy in data/08_reporting
	@mkdir -p data/08_reporting
	@$(BIN)/jupyter execute notebooks/01_first_look.ipynb --output "$(CURDIR)/data/08_reporting/01_first_look.ipynb"

.PHONY: test-fleet
test-fleet: environment ## Generate the raw data of the test fleet again (conf/test/synthetic.yml); the result is committed
	@PYTHONPATH=tests $(BIN)/python -m synthetic --out data/test/01_raw

.PHONY: fleet
fleet: environment ## Make a fleet of any size for --env fleet: cards, and raw files in data/fleet (FARMS=100 DAYS=90)
	@$(BIN)/python benchmarks/made_fleet.py --farms $(or $(FARMS),100) --days $(or $(DAYS),90)

.PHONY: package
package: environment ## Build the wheel and the configuration archive into dist
	@$(BIN)/kedro package

.PHONY: lock
lock: environment ## Bring requirements.lock into step with pyproject.toml (UPGRADE=1: take newer versions too)
	@cp requirements.lock $(VENV)/lock.next
	@$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --quiet $(if $(UPGRADE),--upgrade) --output-file $(VENV)/lock.next
	@{ $(LOCK_INPUTS); grep -v '^# made from' $(VENV)/lock.next; } > $(VENV)/lock.done
	@mv $(VENV)/lock.done requirements.lock

##@ Proofs and measurements: each prints a table and writes benchmarks/results

.PHONY: bench-cycle
bench-cycle: environment ## Measure a cycle of 1, 10 and 100 farms by what is new (FARMS="1 10", DAYS="92 1461")
	@$(BIN)/python benchmarks/bench_cycle.py --farms $(or $(FARMS),1 10 100) --days $(or $(DAYS),77)

.PHONY: bench-fleet
bench-fleet: environment ## Measure first load, training, a cycle and monitoring of 100 to 1,000 made farms (FARMS="100 300", DAYS=14, PROFILE=folder)
	@$(BIN)/python benchmarks/bench_fleet.py --farms $(or $(FARMS),100 300 1000) --days $(or $(DAYS),14) $(if $(PROFILE),--profile "$(PROFILE)")

.PHONY: costs
costs: environment ## Work out machines, hours and money at 10,000 and 100,000 farms from bench-fleet.csv and conf/prices.yml
	@$(BIN)/python benchmarks/costs.py

.PHONY: bench-training
bench-training: environment ## Measure a weekly training that follows the gain beside own models for all, and their forecasts (FARMS="1 30", DAYS=21)
	@$(BIN)/python benchmarks/bench_training.py --farms $(or $(FARMS),1 30) --days $(or $(DAYS),21)

.PHONY: bench-dask
bench-dask: environment ## Measure the backtest of the test fleet by processes and by one and two workers of Dask
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/bench_dask.py

.PHONY: bench-commits
bench-commits: environment ## Measure the commits of a cycle in the course of a month of quarter-hours
	@$(BIN)/python benchmarks/bench_commits.py

.PHONY: bench-start
bench-start: environment ## Measure installing, the first run, the second run and memory
	@$(BIN)/python benchmarks/bench_start.py

.PHONY: proof-start
proof-start: environment ## Prove the forecast beats its baselines at every lead time
	@$(BIN)/python benchmarks/proof_start.py

.PHONY: proof-data
proof-data: environment ## Prove that the rules find the faults put into real data, and little else
	@$(BIN)/python benchmarks/proof_data.py

.PHONY: proof-onboarding
proof-onboarding: environment ## Prove that add-farm reads exports in any dress
	@$(BIN)/python benchmarks/proof_onboarding.py

# The competition's files, wherever they are, and the tasks to backtest.
DATA ?= data/01_raw/gefcom2014
TASKS ?= 4-9

.PHONY: gefcom2014
gefcom2014: environment ## Backtest GEFCom2014 wind, task by task, beside the published scores (DATA=folder TASKS=4-9)
	@$(BIN)/python benchmarks/gefcom2014.py --data "$(DATA)" --tasks "$(TASKS)"

.PHONY: gefcom2012
gefcom2012: environment ## Backtest GEFCom2012 wind, two days ahead from overlapping runs (DATA=folder MONTHS="2010-11 2010-12")
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/gefcom2012.py \
		--data "$(patsubst data/01_raw/gefcom2014,data/01_raw/gefcom2012,$(DATA))" $(if $(MONTHS),--months $(MONTHS))

.PHONY: gefcom2012-ablation
gefcom2012-ablation: environment ## Measure what families of features and members of the blend are worth in two months of 2010 (DATA=folder)
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/gefcom2012.py --ablation \
		--data "$(patsubst data/01_raw/gefcom2014,data/01_raw/gefcom2012,$(DATA))"

.PHONY: proof-readiness
proof-readiness: environment ## Prove that readiness finds the wrong weather point of GEFCom2014, and no other (DATA=folder)
	@$(BIN)/python benchmarks/proof_readiness.py --data "$(DATA)"

.PHONY: proof-portfolio
proof-portfolio: environment ## Prove that ten zones of GEFCom2014 are more than the sum of their quantiles (DATA=folder TASKS=4-9)
	@$(BIN)/python benchmarks/proof_portfolio.py --data "$(DATA)" --tasks "$(TASKS)"

# Of another environment: ENVIRONMENT=gefcom2014.
.PHONY: proof-calibration
proof-calibration: environment ## Prove that no correction in force makes a forecast worse (needs a backtest: make run)
	@$(BIN)/python benchmarks/proof_calibration.py --env "$(or $(ENVIRONMENT),base)"

.PHONY: proof-gate
proof-gate: environment ## Prove what the gate lets through, on GEFCom2014 to June 2013 (DATA=folder)
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/proof_gate.py --data "$(DATA)"

.PHONY: proof-kills
proof-kills: environment ## Prove that a run killed at any of its write points, or at random, leaves nothing that a rerun does not mend
	@KILLS_CSV="$(CURDIR)/benchmarks/results/kills.csv" $(TEST_ENV) $(BIN)/python -m pytest -m long tests/test_kills.py

.PHONY: bench-mlflow
bench-mlflow: environment ## Measure what a training of 1,000 farms costs to log
	@$(BIN)/python benchmarks/bench_mlflow.py

OF ?= families,entry

.PHONY: ablation
ablation: environment ## Measure what each family of features and part of the entry is worth, on tasks 1 to 3 of GEFCom2014 (DATA=folder OF=families,entry ZONES=all)
	@$(BIN)/python benchmarks/ablation.py --data "$(DATA)" --of "$(OF)" $(if $(ZONES),--zones "$(ZONES)")

# PEER: a Python 3.12 with openstef-models[lgbm,xgb-cpu].
.PHONY: bench-peer
bench-peer: environment ## Measure our entry beside OpenSTEF on the same rows of GEFCom2014 (DATA=folder PEER=python)
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench_peer.py --data "$(DATA)" --python "$(PEER)"

# One thread: seconds are then those of one core.
.PHONY: bench-models
bench-models: environment ## Measure accuracy against time of the routes to 99 quantiles, and a farm's fit for production (needs GEFCom2014's features; FARMS=all)
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/bench_models.py $(if $(FARMS),--farms "$(FARMS)")

.PHONY: proof-cold-start
proof-cold-start: environment ## Prove that a new farm is forecast better by the hand-over than by its own model alone (DATA=folder)
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/proof_cold_start.py --data "$(DATA)"

.PHONY: bench-data
bench-data: environment ## Measure cleaning as rows grow
	@$(BIN)/python benchmarks/bench_data.py

.PHONY: bench-first-load
bench-first-load: environment ## Measure the first load of small farms, from text to observations (FARMS=50 DAYS=365)
	@$(BIN)/python benchmarks/bench_first_load.py $(if $(FARMS),--farms "$(FARMS)") $(if $(DAYS),--days "$(DAYS)")

.PHONY: fuzz
fuzz: environment ## Try hostile files, cards and payloads from a seed (CLASSES=cards,cli SEED=7 N=20; CASE=3: one, its project is kept)
	@$(BIN)/python benchmarks/fuzz.py $(if $(CLASSES),--classes "$(CLASSES)") $(if $(SEED),--seed "$(SEED)") \
		$(if $(N),--n "$(N)") $(if $(CASE),--case "$(CASE)")

# ENVIRONMENT=name chooses whose newest training is backtested.
.PHONY: upgrade
upgrade: environment ## Take newer libraries, if they change no forecast or make them better; else say which broke what
	@if [[ -z "$(ENVIRONMENT)" && ! -d data/test/06_models ]]; then $(BIN)/kedro run --env test; fi
	@$(BIN)/python benchmarks/upgrade.py --env "$(or $(ENVIRONMENT),test)"

.PHONY: clean
clean: ## Remove the environment, the caches and what builds left; data stays
	@rm -rf $(VENV) build dist .viz .coverage .coverage.* htmlcov .pytest_cache .mypy_cache .ruff_cache .import_linter_cache \
		.hypothesis src/*.egg-info
	@find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

##@ The environment

# A function of three things: the Python asked for, requirements.lock, and this place (a virtual environment holds absolute
# paths). The stamp names all three. Without a stamp (interrupted), with another Python or in another place, .venv is made
# from nothing; with another lock it is brought into step; else, and in a fraction of a second, it is left alone.
.PHONY: environment
environment:
	@set -eu; \
	probe='import ensurepip, sys, venv; v = sys.version_info; \
		sys.exit(1) if not (3, 11) <= v < (3, 14) else print(f"{v.major}.{v.minor}", sys.executable)'; \
	found=; \
	for name in $(CANDIDATES); do \
		if found=$$("$$name" -c "$$probe" 2>/dev/null || PYENV_VERSION="$${name#python}" "$$name" -c "$$probe" 2>/dev/null); \
			then break; fi; \
	done; \
	if [[ -z "$$found" ]]; then \
		echo "wind-kedro needs Python 3.11, 3.12 or 3.13 with its venv module; none of these is one: $(CANDIDATES)." >&2; \
		echo "Name yours: make PYTHON=/path/to/python" >&2; \
		exit 1; \
	fi; \
	read -r version python <<< "$$found"; \
	base="$$version $(CURDIR)"; \
	lock=$$(cksum < requirements.lock); \
	project=$$(cat pyproject.toml src/wind_kedro/__init__.py | cksum); \
	made=$$(cat $(STAMP) 2>/dev/null || true); \
	$(BIN)/python -c '' 2>/dev/null || made=; \
	if [[ "$$made" == "$$base|$$lock|$$project" ]]; then exit 0; fi; \
	rm -f $(STAMP); \
	if [[ "$$made" != "$$base|"* ]]; then \
		echo "Making $(VENV) with Python $$version ..."; \
		rm -rf $(VENV); \
		"$$python" -m venv $(VENV); \
		sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > $(VENV)/installer.txt; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(VENV)/installer.txt; \
	fi; \
	if [[ "$$made" != "$$base|$$lock|"* ]]; then \
		echo "Installing requirements.lock ..."; \
		$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock; \
	fi; \
	$(BIN)/uv pip install --quiet --python $(BIN)/python --offline --no-deps --no-build-isolation --editable .; \
	echo "$$base|$$lock|$$project" > $(STAMP)
