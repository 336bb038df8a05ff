# Vedette. `make demo` and `make test` work on a machine with nothing prepared but Python 3.11 and make.
# Other people's programs that tests and the stack use come from Debian where it can be (deploy/debian_packages.py);
# `make test TOOLS= AXE=` installs none of them, and what needs one that is missing is skipped.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TOOLS ?= prometheus prometheus-alertmanager mosquitto chromium postgresql influxdb
# Much of the suite waits for servers: three workers keep two cores busy. A file stays with one of them.
WORKERS ?= 3
AXE ?= .tools/node_modules/axe-core/axe.min.js
AXE_VERSION := 4.14.1
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin:$(CURDIR)/.debian/bin

.PHONY: setup tools demo mosquitto stack test check bench soak clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

# `make demo SITE=city`: simulated stations that speak their own protocols, through `vedette ingest`.
demo: setup $(if $(SITE),mosquitto)
	$(BIN)/vedette demo --out out/demo$(if $(SITE),-$(SITE) --site $(SITE))

mosquitto:
	@$(PYTHON) deploy/debian_packages.py --optional mosquitto

# Costs a thirtieth of a second where everything is there already.
tools: $(AXE)
	@$(PYTHON) deploy/debian_packages.py --optional $(TOOLS)

$(AXE):
	@if ! command -v npm >/dev/null; then echo "axe-core: there is no npm; tests of accessibility are skipped"; \
	elif ! npm install --silent --no-save --no-audit --no-fund --prefix .tools axe-core@$(AXE_VERSION); then \
	echo "axe-core: npm cannot get it; tests of accessibility are skipped"; fi

stack: setup
	@$(PYTHON) deploy/debian_packages.py --optional prometheus prometheus-alertmanager
	@$(BIN)/python -m pipeline.stack

test: setup tools
	$(BIN)/python -m pytest -m "not soak" -n $(WORKERS) --dist loadfile --no-loadscope-reorder

check: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: setup
	$(BIN)/vedette bench step --json
	$(BIN)/vedette bench pipeline --json
	$(BIN)/vedette bench restore --entities 100000 --json
	$(BIN)/vedette bench train --json
	$(BIN)/vedette bench ingest --json
	$(BIN)/vedette bench faces --json
	@if [ -n "$$KAFKA_HOME" ]; then $(BIN)/vedette bench kafka --json; else echo "bench kafka: set KAFKA_HOME to a Kafka folder"; fi

soak: setup
	$(BIN)/python -m pytest -m soak

clean:
	rm -rf $(VENV) out .debian .tools
