# The book's commands. `make help` lists them.
# Nothing but Python and make is needed; everything else goes into .venv.

VENV  := .venv
# Windows keeps a virtual environment's programs in Scripts, other systems in bin.
ifeq ($(OS),Windows_NT)
BIN   := $(VENV)/Scripts
else
BIN   := $(VENV)/bin
endif
PY    := $(BIN)/python
STAMP := $(VENV)/.installed
JOBS  ?= 2
TIMED := "$(PY)" tools/timed.py "$(PY)"

# Tests that run no chapter and train nothing; of these, `make quick` leaves out those marked slow.
QUICK := $(addprefix tests/test_,$(addsuffix .py,distances evidence figures likelihoods mixture notebooks packaging))
# What shows soonest that a figure hangs on the processor.
PART  := tests/test_figures.py tests/test_checkpoints.py tests/test_samplers.py::test_exact book/04_conditional_sampling.ipynb

# The Python that makes the environment: `make book PYTHON=python3.12` picks one.
FOUND  = $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	command -v $$p >/dev/null 2>&1 && $$p tools/check_python.py >/dev/null 2>&1 && { echo $$p; exit; }; done; \
	command -v python3 || command -v python)
PYTHON ?= $(FOUND)

.PHONY: help env book test quick lint ruff mypy pyright calm calm-part lab publish check student zip bench-peers lock clean clean-all
.DEFAULT_GOAL := help

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' Makefile | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

env: $(STAMP) ## make the environment in .venv

$(STAMP): pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then \
		echo "No Python found. Install Python 3.11, 3.12 or 3.13, or name one: make book PYTHON=/path/to/python3"; exit 1; fi
	@"$(PYTHON)" tools/check_python.py
	@if [ ! -x "$(PY)" ]; then echo "Making the environment in $(VENV) with $(PYTHON)"; \
		"$(PYTHON)" -m venv $(VENV) || { \
		echo "Python could not make a virtual environment. On Debian and Ubuntu: apt install python3-venv"; \
		rm -rf $(VENV); exit 1; }; fi
	@"$(PY)" tools/check_python.py || { echo "$(VENV) holds a wrong Python: run make clean-all first."; exit 1; }
	@echo "Installing the packages of constraints.txt into $(VENV) (some minutes the first time)"
	@start=$$(date +%s); \
	"$(PY)" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[book,dask,lint,test]" || { \
		echo "pip could not install the packages; its message is above."; exit 1; }; \
	echo "Environment ready in $$(( $$(date +%s) - start )) s"
	@touch $(STAMP)

book: $(STAMP) ## run the chapters and build _build/html/index.html
	@$(TIMED) tools/book.py build --jobs $(JOBS)

test: $(STAMP) ## test the package, and run every notebook against what it publishes
	@echo "Testing the package and running the chapters with nbval"
	@$(TIMED) -m pytest -n $(JOBS) --dist loadscope --nbval --nbval-current-env tests book

quick: $(STAMP) ## check style, types and what tests in seconds: no chapter, no training
	@start=$$(date +%s); $(MAKE) --no-print-directory -j $(JOBS) lint && \
	"$(PY)" -m pytest -q -n $(JOBS) --dist worksteal -m "not slow" $(QUICK) && \
	echo "It took $$(( $$(date +%s) - start )) s"

lint: ruff mypy pyright ## check style and types

ruff: $(STAMP)
	@"$(PY)" -m ruff check
	@"$(PY)" -m ruff format --check

mypy: $(STAMP)
	@"$(PY)" -m mypy

pyright: $(STAMP)
	@"$(PY)" -m basedpyright --pythonpath "$(PY)"

calm: $(STAMP) ## test everything as on other processors, on one thread and two (takes hours)
	@$(TIMED) tools/calm.py --jobs $(JOBS)

calm-part: $(STAMP) ## test a part of it as on an old processor
	@$(TIMED) tools/calm.py --jobs $(JOBS) --isa SSE41 --threads 1 $(PART)

lab: $(STAMP) ## open the chapters in JupyterLab
	@"$(PY)" -m jupyterlab book

publish: $(STAMP) ## run the chapters and write their outputs into book/ (one: CHAPTER=01_data)
	@"$(PY)" tools/book.py publish $(CHAPTER) --jobs $(JOBS)

check: $(STAMP) ## check the notebooks as they stand, without running them
	@"$(PY)" tools/book.py check $(CHAPTER)

student: $(STAMP) ## write the chapters without solutions, with blanks, into _build/student
	@"$(PY)" tools/student.py student

zip: $(STAMP) ## write all notebooks and the package into _build/notebooks.zip
	@"$(PY)" tools/student.py zip

bench-peers: $(STAMP) ## compare with BlackJAX and NumPyro, in an environment of their own
	@"$(PY)" -m venv _build/peers
	@"_build/peers$(subst $(VENV),,$(BIN))/python" -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt -e . blackjax numpyro
	@"_build/peers$(subst $(VENV),,$(BIN))/python" benchmarks/peers.py

# uv resolves for every Python and system at once; it lives in its own environment.
lock: $(STAMP) ## rewrite constraints.txt from pyproject.toml
	@"$(PY)" -m venv _build/lock
	@"_build/lock$(subst $(VENV),,$(BIN))/python" -m pip install --quiet uv
	@echo "# Every version the project is tested with. Rewrite with: make lock" > _build/constraints.txt
	@"_build/lock$(subst $(VENV),,$(BIN))/uv" pip compile --quiet --upgrade --universal --python-version 3.11 \
		--all-extras --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
		pyproject.toml >> _build/constraints.txt
	@mv _build/constraints.txt constraints.txt
	@echo "constraints.txt is new; make test and make book will install it"

clean: ## remove the built book and what was run for it
	rm -rf _build

clean-all: clean ## remove the environment too
	rm -rf $(VENV)
