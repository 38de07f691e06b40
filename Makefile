# make run    the service up with the shipped model, and a batch of real distorted digits straightened before your eyes
# make test   the tests
# make bench  ours and the peers, measured side by side; PARTS="warp engine" for some parts
# make audit  the pinned versions looked up among known vulnerabilities; needs the network
# make drills  the promises of docs/promises.md put to the test; PARTS="overload clients" for some
# make docs   the documentation as a site, in out/site; make pictures and make notebook make what it shows anew
# make setup  the virtual environment alone, which both make if it is missing

PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test bench drills docs pictures notebook audit setup check format clean

run: setup
	$(BIN)/stn demo

test: setup
	$(BIN)/python -m pytest

bench: setup .venv-peers/.ready
	$(BIN)/python benchmarks/speed/run.py $(PARTS)

drills: setup
	$(BIN)/python -m drills.run $(PARTS)

# The peers want versions of their own.
.venv-peers/.ready: benchmarks/speed/peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

# --strict, or what cannot be looked up, without the network all of it, would count as good.
audit:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	.venv-audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

pictures: setup
	$(BIN)/python docs/making/pictures.py

notebook: setup
	$(BIN)/python docs/making/notebook.py

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

setup: .venv/.ready

# imgaug asks for two builds of OpenCV that overwrite each other, one of which needs libGL: only the headless one stays.
.venv/.ready: pyproject.toml constraints.txt hatch_build.py $(wildcard stn_core/native/*.[ch])
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip uninstall --quiet --yes opencv-python opencv-python-headless
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --constraint constraints.txt opencv-python-headless
	touch $@

clean:
	rm -rf .venv .venv-peers .venv-audit out .pytest_cache .mypy_cache .ruff_cache
