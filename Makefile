# `make help` lists the targets. All of them share one environment, .venv, installed from constraints.txt.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
WORKERS ?= 2
CLASSIFIER ?=
EXAMPLE ?=
FUZZ ?=
MUTANTS ?=
FAMILIES ?=
SYSTEMS ?=
GATE ?=
GPU ?=

BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help demo classifier characters digits reformer video figures test lint format unit docs package fuzz fuzz-text mutants families systems gate bench bench-peers bench-systems bench-gpu wheel clean distclean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort | awk -F '\t' '{ printf "  make %-13s %s\n", $$1, $$2 }'

demo: $(STAMP)  ## a pattern in a real model on a real document: equal to the model's own attention, and faster
	$(BIN)/python examples/longformer_document.py

classifier: $(STAMP)  ## fine-tunes a Longformer classifier on the Python reference, beside full attention: minutes
	$(BIN)/python examples/longformer_classifier.py $(CLASSIFIER)

characters: $(STAMP)  ## Longformer's character model in small, beside full attention; EXAMPLE="..." passes options
	$(BIN)/python examples/character_model.py $(EXAMPLE)

digits: $(STAMP) build/digits/.fetched  ## digits read by a neighbourhood in two dimensions, beside dense attention
	$(BIN)/python examples/digits_neighbourhood.py $(EXAMPLE)

reformer: $(STAMP)  ## a Reformer's training step at 65,536 tokens, in bounded memory
	$(BIN)/python examples/reformer_64k.py $(EXAMPLE)

video: $(STAMP)  ## a block over a video with sliding tiles, beside dense attention
	$(BIN)/python examples/video_block.py $(EXAMPLE)

figures:  ## the figures of docs/examples.md anew, one program after the other: half an hour
	$(MAKE) EXAMPLE=--record reformer
	$(MAKE) EXAMPLE=--record video
	$(MAKE) EXAMPLE=--record digits
	$(MAKE) EXAMPLE=--record characters

test: lint unit  ## everything that must pass: lint, then the tests (the package's among them)

lint: $(STAMP)  ## ruff and mypy (strict) over the package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p attnc

format: $(STAMP)  ## lay out the code as lint wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

unit: $(STAMP)  ## the tests alone, WORKERS=2 at a time
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

docs: $(STAMP)  ## renew what is generated in docs/, and try every sample and link there
	$(BIN)/python -m docs.pictures
	$(BIN)/python -m docs.build
	$(BIN)/python -m pytest -q tests/docs/test_docs.py tests/docs/test_systems_pages.py

package: $(STAMP)  ## build wheel and sdist, install each, and use them from an empty folder
	$(BIN)/python -m pytest -q tests/house/test_package.py

fuzz: $(STAMP)  ## random programs, for long: resumable, prints its seed; FUZZ="..." passes options
	$(BIN)/python -m tests.fuzz $(FUZZ)

fuzz-text: $(STAMP)  ## a million hostile texts, ten thousand programs under hostile names: resumable, prints its seeds
	$(BIN)/python -m tests.fuzz text $(FUZZ)
	$(BIN)/python -m tests.fuzz names $(FUZZ)
	@if $(BIN)/python -c 'import atheris' 2>/dev/null; then $(BIN)/python -m tests.fuzz.atheris_texts; else echo "atheris is not installed: no texts found by coverage"; fi

mutants: $(STAMP)  ## small faults planted in a copy, each to be noticed by a test: resumable; MUTANTS="..." passes options
	$(BIN)/python -m tests.mutants --workers $(WORKERS) $(MUTANTS)

families: $(STAMP)  ## every model family of transformers on attnc, against eager attention: resumable; FAMILIES="..." passes options
	$(BIN)/python -m tests.families $(FAMILIES)

systems: $(STAMP)  ## every shipped system against its original, every declaration's kernels against its definition: resumable; SYSTEMS="..." passes options
	$(BIN)/python -m tests.systems $(SYSTEMS)

gate: $(STAMP)  ## the Triton kernels judged without a device: each target met or missed; GATE="..." passes options
	$(BIN)/python -m tests.gate $(GATE)

bench: $(STAMP)  ## the measurements in benchmarks/, side by side with what one would use instead
	@for script in $(filter-out benchmarks/gpu.py,$(wildcard benchmarks/[a-z]*.py)); do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

bench-peers: $(STAMP)  ## installs what benchmarks/cpu.py compares with beside PyTorch: ONNX Runtime, OpenVINO; and what draws its plot
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --constraint benchmarks/constraints.txt --no-build-isolation --editable '.[bench]'

bench-systems: $(STAMP)  ## shipped systems beside their originals' own code: resumable; SYSTEMS="..." passes options
	$(BIN)/python benchmarks/systems.py $(SYSTEMS)

bench-gpu: $(STAMP)  ## a GPU: every kernel checked, then timed beside FlexAttention; resumable; GPU="..." passes options
	$(BIN)/python benchmarks/gpu.py $(GPU)

wheel: $(STAMP)  ## wheel and sdist, into dist/
	$(BIN)/python -m build --no-isolation --outdir dist .

clean:  ## what tools leave behind
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .fuzz .mutants .families .gate
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean  ## and the environment
	rm -rf .venv

# The wheel is read, never installed: it holds the images of the digits.
build/digits/.fetched: $(STAMP)
	$(BIN)/python -m pip download --disable-pip-version-check --quiet --no-deps --only-binary :all: -d build/digits scikit-learn==1.9.1
	touch $@

# venv refuses a colon; the others end the first line of a script that pip installs, where there is a space too.
# Torch first and by its exact version, so that the resolver never looks for another. The stamp is written last: an
# installation that broke off starts again, and a change of the pins or of the dependencies is noticed.
$(STAMP): constraints.txt pyproject.toml hatch_build.py tests/systems/originals.txt
	@bad=$$(printf '%s' "$$PWD" | grep -o '["$$`\:]' | head -n 1); \
	test "$$(printf '%s' "$$PWD" | wc -l)" -eq 0 || bad='a line break'; \
	test -z "$$bad" || { printf 'the tools cannot work in a path with %s: move the clone out of %s\n' "$$bad" "$$PWD" >&2; exit 1; }
	@test -n "$(PYTHON)" || { echo "Python 3.11 is needed: none was found. Set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 is what constraints.txt pins; this is " + sys.version.split()[0] + ". Set PYTHON=/path/to/python3.11" if sys.version_info[:2] != (3, 11) else 0)'
	rm -f $(STAMP)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt hatchling editables
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev,demo]'
	$(BIN)/python -m tests.systems.fetch_originals
	touch $(STAMP)
