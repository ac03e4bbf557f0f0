# `make export` and `make test` are all that a fresh machine needs (Python >= 3.11 and make).
#
# On Linux pip takes PyTorch with CUDA; for the much smaller CPU build:
#   make export PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_FLAGS ?=
EXPORT_FLAGS ?=
BENCHMARK_FLAGS ?=
LOCK_FLAGS ?=
FUZZ_FLAGS ?=
PORT ?= 8000
PYTEST_FLAGS ?= -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: export test test-slow test-all lint format benchmark quantization passes training training_parity throughput soak fuzz web lock audit sbom \
  licenses devices distributions clean

export: $(VENV)/export.stamp
	$(BIN)/python scripts/port_and_export.py $(EXPORT_FLAGS)

# Style and types, and every test that is not marked as slow (6 minutes on two cores).
test: $(VENV)/dev.stamp lint
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m "not slow"

# The tests that take long: other Keras backends, several processes, browsers, MediaPipe, distributions.
test-slow: $(VENV)/dev.stamp
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m slow

test-all: test test-slow

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Compares our files with those of other converters and runtimes, each in a virtual environment of its own (an hour, 9 GB
# of disk, and g++ for torch.compile).
benchmark: $(VENV)/export.stamp
	$(BIN)/python -m benchmarks.runtimes.run --pip_flags="$(PIP_FLAGS)" $(BENCHMARK_FLAGS)

# What each choice of the int8 export brings; needs labelled photos (10 minutes):
#   make quantization DATA=folder
quantization: $(VENV)/export.stamp
	$(BIN)/python -m benchmarks.quantization.run --data $(DATA)

# What each graph pass brings (10 minutes).
passes: $(VENV)/export.stamp
	$(BIN)/python -m benchmarks.passes.run

# A training step side by side with PyTorch's (5 minutes).
training: $(VENV)/export.stamp
	$(BIN)/python -m benchmarks.training.run

# Twenty training steps in Keras and in PyTorch, from the same weights on the same batches.
training_parity: $(VENV)/export.stamp
	$(BIN)/python -m benchmarks.training.run_parity

# A folder of photos, from files to label files, against the original PyTorch script (5 minutes).
throughput: $(VENV)/export.stamp
	$(BIN)/python -m benchmarks.throughput.run

# 10,000 inferences and 500 training steps: do memory, open files and threads stay as they are? (20 minutes, Linux)
soak: $(VENV)/export.stamp
	$(BIN)/python -m benchmarks.soak.run

# Feeds broken and hostile files to everything that reads files (10 minutes a reader; Linux on x86-64).
fuzz: $(VENV)/dev.stamp
	$(BIN)/python fuzzing/run.py $(FUZZ_FLAGS)

# The page that runs the .tflite files in a browser, built into build/web and served (needs Node >= 20 and npm). It runs
# those of build/face_parsing, and the int8 one that the package ships where there is none:
#   make web PORT=8001
web: $(VENV)/export.stamp
	npm ci --prefix web --no-audit --no-fund --loglevel=error
	PYTHON=$(abspath $(BIN))/python npm run build --prefix web --silent
	$(BIN)/python scripts/serve_web.py --port $(PORT)

# Everything is installed as constraints.txt has locked it, by its hash; see docs/SUPPLY_CHAIN.md.
INSTALL = $(BIN)/python -m pip install $(PIP_FLAGS) --disable-pip-version-check --constraint constraints.txt --only-binary :all:

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:3]; sys.exit(0 if (3, 11) <= v < (3, 14) else "error: Python %d.%d.%d is too %s, one of 3.11 to 3.13 is needed: make PYTHON=python3.12" % (v + ("old" if v < (3, 11) else "new",)))'
	$(PYTHON) -m venv $(VENV)

# First of all pip itself: older ones do not check the hashes of constraints.
$(VENV)/pip.txt: constraints.txt | $(BIN)/python
	sed -n -e '/^pip==/,/[^\\]$$/p' -e '/^setuptools==/,/[^\\]$$/p' constraints.txt > $@
	$(BIN)/python -m pip install $(PIP_FLAGS) --disable-pip-version-check --require-hashes --requirement $@

$(VENV)/export.stamp: setup.cfg pyproject.toml $(VENV)/pip.txt
	$(BIN)/python -m pip install --quiet --no-index --no-deps --no-build-isolation --editable .
	$(INSTALL) 'keras-bisenet[port,export,train]'
	touch $@

# facexlib ships the published PyTorch code that the tests compare with; what it depends on is not needed.
$(VENV)/dev.stamp: tests/facexlib.txt $(VENV)/export.stamp
	$(INSTALL) 'keras-bisenet[port,export,train,onnx,makeup,detect,video,ray,dev,fuzz]'
	$(BIN)/python -m pip install $(PIP_FLAGS) --disable-pip-version-check --no-deps --require-hashes --requirement tests/facexlib.txt
	touch $@

.DELETE_ON_ERROR:

# Locks what setup.cfg asks for, and leaves what is locked as it is; for newer versions:
#   make lock LOCK_FLAGS=--upgrade
lock: $(VENV)/dev.stamp
	mkdir -p build
	sed -e '/--hash/d' -e 's/ \\$$//' constraints.txt > build/constraints.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command 'make lock' \
	  --no-emit-index-url --all-extras $(LOCK_FLAGS) --output-file build/constraints.txt setup.cfg
	sed -n 's/\(--hash=[^ ]*\).*/\1 \\/p' torch-cpu.txt > build/torch-cpu.txt
	sed '/^torch==/r build/torch-cpu.txt' build/constraints.txt > constraints.txt

# Known vulnerabilities of what is locked; asks PyPI.
audit: $(VENV)/dev.stamp
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement constraints.txt

# A bill of materials of what is locked, in CycloneDX.
sbom: $(VENV)/dev.stamp
	mkdir -p build
	$(BIN)/cyclonedx-py requirements constraints.txt --output-file build/sbom.json

# The licences of what is installed; on Linux without PIP_FLAGS, so that what CUDA brings is listed too.
licenses: $(VENV)/dev.stamp
	mkdir -p build
	sed '/^| Name/,$$d' docs/LICENSES.md > build/licenses.md
	$(BIN)/pip-licenses --with-system --from=mixed --no-version --format=markdown --ignore-packages keras-bisenet >> build/licenses.md
	mv build/licenses.md docs/LICENSES.md

# The tables of docs/DEVICES.md: which ops of which file an accelerator does not take (2 minutes).
devices: $(VENV)/export.stamp
	$(BIN)/python -m keras_bisenet.export.devices docs/DEVICES.md

# What PyPI takes, into dist/.
distributions: $(VENV)/dev.stamp
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*

clean:
	rm -rf $(VENV) build *.egg-info tests/browser/node_modules web/node_modules
