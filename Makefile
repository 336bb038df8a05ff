# Vedette. `make demo` and `make test` work on a machine with nothing prepared but Python 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test check bench soak clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: setup
	$(BIN)/vedette demo --out out/demo

test: setup
	$(BIN)/python -m pytest -m "not soak"

check: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: setup
	$(BIN)/vedette bench step --json
	$(BIN)/vedette bench pipeline --json
	$(BIN)/vedette bench restore --entities 100000 --json
	$(BIN)/vedette bench train --json
	@if [ -n "$$KAFKA_HOME" ]; then $(BIN)/vedette bench kafka --json; else echo "bench kafka: set KAFKA_HOME to a Kafka folder"; fi

soak: setup
	$(BIN)/python -m pytest -m soak

clean:
	rm -rf $(VENV) out
