# `make demo` and `make test` set up what they need. Nothing is installed outside .venv but FFmpeg's libraries.
SHELL := /bin/bash
PY := .venv/bin/python
PIP := .venv/bin/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo curriculum starts evidence test test-slow lint types check docs clean

help:  ## show this
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: .venv/.installed  ## the whole path on the micro-world: data, cold start, GRPO-8, GRPO-4 and AVATAR, graded test
	.venv/bin/avatar demo --out runs/demo --seed 0

curriculum: .venv/.installed  ## the four stages on the micro-world, each from the last one's weights
	.venv/bin/avatar curriculum --config configs/micro/curriculum.yaml

starts: .venv/.installed  ## the cold starts that the sweeps in configs/sweeps/plans/ begin from
	bash scripts/make_starts.sh

evidence: .venv/.installed-dev  ## write docs/evidence.md anew from the finished cells in docs/evidence/
	$(PY) scripts/write_evidence.py

test: .venv/.installed-dev  ## all tests but the slow ones
	$(PY) -m pytest -m "not slow"

test-slow: .venv/.installed-dev  ## the slow tests: whole runs
	$(PY) -m pytest -m slow

lint: .venv/.installed-dev  ## ruff, check and format
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: .venv/.installed-dev  ## mypy on avatar/
	.venv/bin/mypy

check: lint types test  ## all that CI asks of a commit

docs: .venv/.installed-dev  ## write the generated tables of docs/ anew
	$(PY) scripts/write_docs.py

.venv/bin/python:
	bash scripts/make_venv.sh

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing (torch comes with CUDA: about 6 GB, some minutes) ..."
	$(PIP) install -q -c constraints.txt -e .
	bash scripts/ensure_ffmpeg.sh $(PY)
	@touch $@

.venv/.installed-dev: .venv/.installed
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@

clean:  ## remove runs and data, keep .venv
	rm -rf runs data
