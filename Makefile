# make demo        sets up, then runs the whole chain on the synthetic corpus; ends with a report
# make test        sets up, then runs lint, types, import contracts and tests
# make setup       builds the environment in .venv
# make lint        sets up, then runs only lint, types and import contracts
# make format      sets up, then formats the code and applies the linter's fixes
# make test-wheel  sets up, then installs the wheel in an empty environment and runs the whole chain there
# make mutants     sets up, then changes the code in 100 places and lists the changes that no test notices
# make clean       removes what demo and tests made, but not the environments
#
# Variables: PYTHON=python3.12 chooses the interpreter. TF=latest uses the newest TensorFlow, in an environment of its
# own, and runs only the tests that depend on TensorFlow. SLOW=1 adds the tests that take minutes.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
TF ?= default
PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)

ifeq ($(TF),latest)
VENV := .venv-latest
CONSTRAINTS := constraints/$(PYTHON_VERSION)-latest.txt
EXTRAS := jax-tests,baseline,onnx,dev
else
VENV := .venv
CONSTRAINTS := constraints/$(PYTHON_VERSION).txt
EXTRAS := io,io-tests,baseline,onnx,dev
# On Python 3.13, `io` installs nothing, and both environments have the newest TensorFlow.
ifeq ($(PYTHON_VERSION),3.13)
EXTRAS := $(EXTRAS),jax-tests
endif
endif

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed-$(PYTHON_VERSION)

RECORDS := data/demo/records
RUNS := runs/demo

.PHONY: help setup lint format test test-wheel mutants demo clean constraints
help:
	@sed -n "/^SHELL/q;s/^# \{0,1\}//p" Makefile

setup: $(INSTALLED)

# Modules are compiled and cached on their first import. Compiling at installation would also cover thousands of
# modules that nothing imports, and without the cache every command compiles TensorFlow again.
unexport PYTHONDONTWRITEBYTECODE

# The stamp is written last, so that an incomplete environment is built again.
$(INSTALLED): setup.py constraints/*.txt
	@case "$(PYTHON_VERSION)" in 3.11|3.12|3.13) ;; *) \
	  echo "error: $(PYTHON) is $(if $(PYTHON_VERSION),Python $(PYTHON_VERSION),not a Python); TensorFlow has wheels for 3.11 to 3.13. Try: make PYTHON=python3.12 ..." >&2; exit 2;; esac
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c $(CONSTRAINTS) -e ".[$(EXTRAS)]"
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/lint-imports
	$(BIN)/basedpyright --pythonpath $(BIN)/python

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

PYTEST_FLAGS := --numprocesses=auto --maxprocesses=4 --dist=worksteal

ifeq ($(TF),latest)
# Lint, types and the tests that do not depend on TensorFlow run in the default environment.
test: setup
	$(BIN)/python -m pytest $(PYTEST_FLAGS) --tensorflow-only $(if $(SLOW),--slow)
else
test: lint
	$(BIN)/python -m pytest $(PYTEST_FLAGS) $(if $(SLOW),--slow)
endif

test-wheel: setup
	$(BIN)/python -m pytest --slow tests/test_packaging.py -k empty_environment

mutants: setup
	$(BIN)/python -m tests.mutants

demo: setup
	rm -rf data/demo $(RUNS)
	$(BIN)/python -m tfrecords_tools.synthetic --output_dir=data/demo/corpus
	$(BIN)/python -m tfrecords_tools.make_tfrecords --layout=avec2016 --corpus_dir=data/demo/corpus --output_dir=$(RECORDS) \
	  --detect_every=10
	$(BIN)/python -m tfrecords_tools.inspect_tfrecords --data_dir=$(RECORDS)
	$(BIN)/python train.py --preset=demo --pretrain --data_dir=$(RECORDS) --run_dir=$(RUNS) --picture_epochs=4
	$(BIN)/python eval.py --run_dir=$(RUNS)/audio
	$(BIN)/python eval.py --run_dir=$(RUNS)/video
	$(BIN)/python eval.py --run_dir=$(RUNS)/audiovisual --fail_under_ccc=0.6
	$(BIN)/python -m affect.evaluation.baseline --data_dir=$(RECORDS) --output_dir=$(RUNS)/baseline --protocol=quick
	$(BIN)/python -m affect.serving.export --run_dir=$(RUNS)/audiovisual --output_dir=$(RUNS)/audiovisual/export
	$(BIN)/python -m affect.evaluation.report --run_dirs=$(RUNS)/audio,$(RUNS)/video,$(RUNS)/audiovisual \
	  --baseline=$(RUNS)/baseline --title="Affect demo" --output=$(RUNS)/report.html

clean:
	rm -rf data/demo $(RUNS) .pytest_cache .ruff_cache .import_linter_cache

# Resolves the constraints again, for Linux on x86-64; needs uv on the PATH.
constraints:
	for version in 3.11 3.12 3.13; do \
	  if [ $$version = 3.13 ]; then jax="--extra jax-tests"; else jax=; fi; \
	  uv pip compile setup.py --extra io --extra io-tests $$jax --extra baseline --extra onnx --extra dev --python-version $$version --no-header --no-annotate -q --upgrade -o constraints/$$version.txt; \
	  uv pip compile setup.py --extra jax-tests --extra baseline --extra onnx --extra dev --python-version $$version --no-header --no-annotate -q --upgrade -o constraints/$$version-latest.txt; \
	done
