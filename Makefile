# `make demo` trains sparse networks on real images, `make test` runs the
# tests; both set up everything they need in .venv first.

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/ready
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: demo test test-slow coverage lint matrix notebooks docs bench \
	bench-quick clean

demo: $(READY)
	$(RUN) examples/sparse_images.py

test: $(READY) lint
	$(RUN) -m pytest -n 2 --dist worksteal

test-slow: $(READY)
	$(RUN) -m pytest -m slow

# Lines of the package that the tests run, on Python 3.12 or later as fast.
coverage: export COVERAGE_CORE ?= sysmon
coverage: $(READY)
	$(RUN) -m pytest -n 2 --dist worksteal --cov=keras_sparse_rl

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

# Every version that the package promises, each in an environment of its own:
# make matrix, or make matrix ENV=colab. Any Python 3.10 to 3.13 that are there.
matrix:
	$(PYTHON) -m tests.versions $(ENV)

# Runs every notebook in full and stores what it shows.
notebooks: $(READY)
	$(RUN) notebooks/run.py

# The documentation as a site, in build/docs.
docs: $(READY)
	$(RUN) -m sphinx -W --keep-going -q docs build/docs

# Results that exist are not computed again: this renders what is there and
# computes what is not. Data and peers: make bench WITH="--mnist DIR ...", see
# python -m benchmarks --help.
bench: $(READY)
	$(RUN) -m benchmarks $(WITH)

# Speeds in fewer turns and a seed of what learns in a minute.
bench-quick: $(READY)
	$(RUN) -m benchmarks --quick $(WITH)

$(READY): setup.py
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet -e ".[dev,examples]"
	$(RUN) -m pip install --quiet --no-deps tf-agents==0.19.0
	touch $(READY)

clean:
	rm -rf $(VENV)
