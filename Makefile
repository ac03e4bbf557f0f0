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
PORT ?= 8000
PYTEST_FLAGS ?= -n 2 --dist loadfile

.PHONY: export test lint format benchmark quantisation training training_parity folder web clean

export: $(VENV)/export.stamp
	$(BIN)/python scripts/port_and_export.py $(EXPORT_FLAGS)

test: $(VENV)/dev.stamp lint
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Compares our files with those of other converters and runtimes, each in a virtual environment of its own (an hour, 9 GB
# of disk, and g++ for torch.compile).
benchmark: $(VENV)/export.stamp
	$(BIN)/python benchmarks/run.py --pip_flags="$(PIP_FLAGS)" $(BENCHMARK_FLAGS)

# What each choice of the int8 export brings; needs labelled photos (10 minutes):
#   make quantisation DATA=folder
quantisation: $(VENV)/export.stamp
	$(BIN)/python benchmarks/quantisation.py --data $(DATA)

# A training step side by side with PyTorch's (5 minutes).
training: $(VENV)/export.stamp
	$(BIN)/python benchmarks/training.py

# Twenty training steps in Keras and in PyTorch, from the same weights on the same batches.
training_parity: $(VENV)/export.stamp
	$(BIN)/python benchmarks/training_parity.py

# A folder of photos, from files to label files, against the original PyTorch script (5 minutes).
folder: $(VENV)/export.stamp
	$(BIN)/python benchmarks/folder.py

# The page that runs the .tflite files in a browser, built into build/web and served (needs Node >= 20 and npm). It runs
# those of build/face_parsing, and the int8 one that the package ships where there is none:
#   make web PORT=8001
web: $(VENV)/export.stamp
	npm ci --prefix web
	PYTHON=$(abspath $(BIN))/python npm run build --prefix web
	$(BIN)/python scripts/serve_web.py --port $(PORT)

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"error: Python {sys.version.split()[0]} is too old, 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/export.stamp: setup.cfg pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install $(PIP_FLAGS) --constraint constraints.txt --editable '.[port,export,train]'
	touch $@

# facexlib ships the published PyTorch code that the tests compare with; what it depends on is not needed.
$(VENV)/dev.stamp: $(VENV)/export.stamp
	$(BIN)/python -m pip install $(PIP_FLAGS) --constraint constraints.txt --editable '.[port,export,train,onnx,makeup,detect,video,ray,dev]'
	$(BIN)/python -m pip install $(PIP_FLAGS) --constraint constraints.txt --no-deps facexlib
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info tests/browser/node_modules web/node_modules
