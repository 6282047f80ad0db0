# `make` checks everything in a few minutes. The first time it makes the environment, in .venv.

BIN := .venv/bin

.DEFAULT_GOAL := check
.PHONY: check lint types test thorough hold words lock sbom space app bench

check: lint types test

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/pyright

test: .venv/ready
	$(BIN)/python -m pytest

# 300 cases for each property, and the browser's tests may not be skipped
thorough: lint types
	SFTDEMO_REQUIRE_BROWSER=1 $(BIN)/python -m pytest --thorough

# the long attacks: HOLD_CASES fuzzed inputs, kills, full disks
HOLD_CASES ?= 10000
hold: .venv/ready
	$(BIN)/python -m pytest --hold -m hold --cases $(HOLD_CASES)

# the page's words, found in the code, for those who translate them
words: .venv/ready
	$(BIN)/python -m tools.words

# every package with its hashes; uv is on the package index
lock:
	{ sed -n '/^[^#]/q;p' requirements.lock; uv pip compile requirements.txt --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet; } > requirements.new
	mv requirements.new requirements.lock

# what is installed, as a CycloneDX bill of materials
sbom: .venv/ready
	$(BIN)/python tools/sbom.py > sbom.json

# the Hugging Face Space on this machine, in an environment of its own: installs torch
space: .venv/ready
	$(BIN)/python tools/space.py

app: .venv/ready
	$(BIN)/python -m sftdemo app

bench: .venv/ready
	$(BIN)/python -m sftdemo bench

.venv/ready: requirements.txt requirements-test.txt
	python3 -m venv .venv
	$(BIN)/pip install -r requirements-test.txt
	touch $@
