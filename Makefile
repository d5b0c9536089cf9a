# make demo    set-up and the whole chain on the synthetic corpus, ends with a report
# make test    set-up, lint, import contracts, tests          make test TF=latest: on the newest TensorFlow
# make clean   removes what demo and tests made, not the environments
#
# Variables: PYTHON=python3.12 chooses the interpreter, TF=latest the newest TensorFlow (its own environment),
# SLOW=1 adds the tests that take minutes.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
TF ?= default
PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)

ifeq ($(TF),latest)
VENV := .venv-latest
CONSTRAINTS := constraints/$(PYTHON_VERSION)-latest.txt
EXTRAS := dev
else
VENV := .venv
CONSTRAINTS := constraints/$(PYTHON_VERSION).txt
EXTRAS := io,io_tests,dev
endif

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed-$(PYTHON_VERSION)

RECORDS := data/demo/records
RUNS := runs/demo

.PHONY: help setup lint test demo control clean constraints
help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -6

setup: $(INSTALLED)

# Modules are compiled when they are first imported, and kept: pip would compile thousands that nobody imports, and
# where nothing may be kept every command compiles TensorFlow anew.
unexport PYTHONDONTWRITEBYTECODE

# The environment is complete or its stamp is missing.
$(INSTALLED): setup.py constraints/*.txt
	@case "$(PYTHON_VERSION)" in 3.11|3.12|3.13) ;; *) \
	  echo "error: $(PYTHON) is $(if $(PYTHON_VERSION),Python $(PYTHON_VERSION),no Python); TensorFlow has wheels for 3.11 to 3.13. Try: make PYTHON=python3.12 ..." >&2; exit 2;; esac
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c $(CONSTRAINTS) -e ".[$(EXTRAS)]"
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal $(if $(SLOW),--slow)

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
	$(BIN)/python -m affect.evaluation.baseline --data_dir=$(RECORDS) --output=$(RUNS)/baseline.json
	$(BIN)/python -m affect.serving.export --run_dir=$(RUNS)/audiovisual --output_dir=$(RUNS)/audiovisual/export
	$(BIN)/python -m affect.evaluation.report --run_dirs=$(RUNS)/audio,$(RUNS)/video,$(RUNS)/audiovisual \
	  --baseline=$(RUNS)/baseline.json --title="Affect demo" --output=$(RUNS)/report.html

clean:
	rm -rf data/demo $(RUNS) .pytest_cache .ruff_cache .import_linter_cache

# Resolves the constraints anew, for Linux on x86-64; needs uv on the PATH.
constraints:
	for version in 3.11 3.12 3.13; do \
	  uv pip compile setup.py --extra io --extra io_tests --extra dev --python-version $$version --no-header --no-annotate -q --upgrade -o constraints/$$version.txt; \
	  uv pip compile setup.py --extra dev --python-version $$version --no-header --no-annotate -q --upgrade -o constraints/$$version-latest.txt; \
	done
