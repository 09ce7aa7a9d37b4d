# The README's two commands are `make demo` and `make test`. Each makes its own environment in .venv.
# `make gpu` is for the rare machine with a GPU.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests of much Python and small tensors, which gain nothing from a second thread.
ONE_THREAD := tests/data tests/detect tests/eval tests/models tests/train
# Threads that wait for others let them have the processor: there are more of them than processors.
export OMP_WAIT_POLICY := passive

.PHONY: demo test lint types imports unit beside training emulated triton address thread asan gpu format clean
.DEFAULT_GOAL := test

# Remade when the project's dependencies, build logic or native sources change.
NATIVE := $(wildcard CMakeLists.txt csrc/* kernels/cpu/*)

$(BIN)/python:
	@echo "== making the environment in $(VENV)"
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml $(NATIVE) | $(BIN)/python
	@echo "== installing torch, then cvperf with its tools (native build: under 2 minutes)"
	$(BIN)/pip install --quiet --no-compile 'torch>=2.10' 'torchvision>=0.25'
	$(BIN)/pip install --quiet --no-compile --editable '.[dev]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/cvperf bench demo

test: lint imports unit beside
	@echo "== PASSED: lint, types, import contracts, tests, training, Triton and CUDA kernels, AddressSanitizer"

lint: $(STAMP)
	@echo "== lint"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/clang-format --dry-run --Werror $$(git ls-files '*.cpp' '*.hpp' '*.cu' '*.cuh')

types: $(STAMP)
	@echo "== types"
	@$(BIN)/mypy

imports: $(STAMP)
	@echo "== import contracts"
	@$(BIN)/lint-imports

unit: $(STAMP)
	@echo "== tests"
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not alone' $(addprefix --ignore=,$(ONE_THREAD))
	@$(BIN)/python -m pytest -m alone tests/test_package.py tests/bench/test_peaks.py

# Side by side, the longest first, most with one thread: the sanitizers, training, the GPU kernels where there is no
# GPU, and mypy. That those kernels compile for every GPU is among the tests above.
beside: $(STAMP)
	@$(MAKE) --no-print-directory -j 2 --output-sync=target asan thread training triton address emulated types

training: $(STAMP)
	@echo "== tests of data, metrics and training"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(ONE_THREAD)

# The Triton kernels in Triton's interpreter, which takes a process of its own.
triton: $(STAMP)
	@echo "== tests of the Triton kernels, interpreted"
	@TRITON_INTERPRET=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/kernels/triton

# The CUDA kernels in the emulator: under every schedule, and under two sanitizers (planted faults end a sanitizer's
# process, so these are for the first).
emulated: $(STAMP)
	@echo "== tests of the CUDA kernels, emulated"
	@CVPERF_EMULATE_CUDA=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/kernels/cuda

address thread: $(STAMP)
	@echo "== tests of the CUDA kernels, emulated under the $@ sanitizer"
	@$(BIN)/python -m tests.kernels.cuda.sanitized $@ -m pytest --capture=sys \
	  --deselect tests/kernels/cuda/test_faults.py tests/kernels/cuda

# The same ops under AddressSanitizer on random input, and the AVX-512 sources on an AVX2 machine:
# a second build with 64-byte vectors emulated.
asan: $(STAMP)
	@echo "== tests under AddressSanitizer"
	@tests/asan/run $(BIN)/python

# For a machine with a GPU, whose own Python has torch: no environment is made, nothing is fetched.
gpu:
	$(PYTHON) -m pip install --quiet --no-build-isolation --no-deps --editable .
	$(PYTHON) -m cvperf.benchmarks.gpu

format: $(STAMP)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/clang-format -i $$(git ls-files '*.cpp' '*.hpp' '*.cu' '*.cuh')

clean:
	rm -rf $(VENV) build report cvperf/_C*.so
