# From nothing but Python 3.11: make demo, to see the method at work; make test, to a verdict.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint unit other-cpu travel install clean

# Torch and the two libraries under it compute as on a CPU without AVX (MKL: where it is Intel's), and on more than one
# thread.
OTHER_CPU := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 OMP_NUM_THREADS=2

demo: $(INSTALLED)
	$(BIN)/synood demo

test: lint unit other-cpu travel

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

unit: $(INSTALLED)
	$(BIN)/python -m pytest -n 2

# What would hang on last bits: scores, thresholds, resumed = undisturbed, Detector = command line. No thread waits
# for another in a busy loop (GOMP_SPINCOUNT): where cores are busy that is a hundred times slower.
other-cpu: $(INSTALLED)
	$(OTHER_CPU) GOMP_SPINCOUNT=0 $(BIN)/python -m pytest tests/test_cpu_settings.py tests/models/test_equal_batches.py \
		tests/method/test_boundary.py tests/method/test_scores.py tests/stages/test_torch_head.py \
		tests/stages/test_calibrate.py::test_the_threshold_is_that_of_the_scores \
		tests/stages/test_score.py::test_interrupted_or_with_a_failure_scores_are_the_same_bit_for_bit \
		'tests/stages/test_synthesize.py::test_a_batch_that_was_interrupted_is_done_again_as_a_whole[2]' \
		tests/test_detector.py::test_it_is_what_the_command_line_says

travel: $(INSTALLED)
	scripts/heads_travel.sh

clean:
	rm -rf $(VENV) dist build
