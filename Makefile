# make quick [ARGS="--seed 0"]   builds an environment, runs the quick grid on real images, prints the table and where the page is
# make test    the fast tests, in two minutes on two cores: no trainings, no clusters, no browser; prints the slowest ten
# make types   mypy --strict alone
# make check   what CI runs: ruff, mypy --strict, all tests, in 25 minutes on two cores
# make speed   prints how fast the victim engine is on this machine, as ratios of one run
# make generators   prints how fast poisons without a surrogate are made, as ratios of one run
# make speed-purifiers   the same for what is done to images before training
# make smoke   every protocol with every architecture, one epoch on a few images of CIFAR-10 (`bench data get cifar10`)
# make smoke-attacks, make smoke-defenses, make smoke-contrastive, make smoke-analyses   every attack, every defense, training without labels, new analyses on 2,000 of them
# make toy-attacks, make toy-defenses   the same as frozen tables of $BENCH_DATA/cifar10-jpeg75, see docs/results/toy.md
# make toy-blocks   a defense that wants residual blocks, see docs/results/toy.md
# make toy-contrastive   which poison stops training with labels, which without, see docs/results/toy.md
# make toy-analyses   what every analysis sees in them, see docs/results/toy.md
# make scale   prints how long planning and looking take for 100, 1,000 and 10,000 cells
# make site-speed   prints what a board of 10,000 cells costs to render, to open and to sort
# make wheel   installs a wheel in an empty environment: one package, the quick grid, the example plug-in; fifteen minutes
# make reliability   the robustness campaign: damages, kills, full disks, thousands of cells; some hours, see docs/explanation/reliability.md
# make gpu MINUTES=9 OUT=DIR [DATA=DIR]   checks a GPU against the CPU, measures speeds, then records until the time is over, see docs/how-to/gpu.md
# make slurm-full   the long tests on a private SLURM cluster, half an hour; needs slurm-wlm, munge, slurmdbd, mariadb-server
# make docs    writes the generated parts of the documents anew
# make site-docs   builds the site of the documents in build/docs-site and checks its links
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
WORKSPACE ?= quick-run
MINUTES ?= 9
DEVICE ?= cuda
BIN := $(VENV)/bin
# three processes, since clusters and killed processes are waited for; whole files in their order, the slowest first: see tests/conftest.py
PYTEST := $(BIN)/python -m pytest --numprocesses=3 --dist=loadfile --no-loadscope-reorder

.PHONY: quick test check all-tests types speed generators speed-purifiers smoke smoke-attacks smoke-defenses smoke-contrastive smoke-analyses toy-attacks toy-defenses toy-blocks toy-contrastive toy-analyses scale site-speed wheel reliability gpu slurm-full docs site-docs clean

quick: $(VENV)/installed
	@$(BIN)/bench run --grid quick $(ARGS) --workspace $(WORKSPACE)
	@echo "page: $$($(BIN)/bench report --workspace $(WORKSPACE))"

test: $(VENV)/installed
	$(PYTEST) -m "not slow" --durations=10

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/density.py
	@$(MAKE) --no-print-directory --jobs=2 types all-tests

all-tests: $(VENV)/installed
	$(PYTEST) -rs --durations=10

# mypy reads no build settings: it sees the five folders as the packages that they become through links
LINKED := benchmark leaderboard poisons registry results unlearnable_bench/__init__.py unlearnable_bench/py.typed
types: $(VENV)/installed
	@rm -rf build/typing && mkdir -p build/typing/unlearnable_bench
	@ln -s $(addprefix $(CURDIR)/,$(LINKED)) build/typing/unlearnable_bench
	$(BIN)/mypy

speed: $(VENV)/installed
	PYTHONPATH=tests $(BIN)/python -m speed.engine

generators: $(VENV)/installed
	PYTHONPATH=tests $(BIN)/python -m speed.generators

speed-purifiers: $(VENV)/installed
	PYTHONPATH=tests $(BIN)/python -m speed.purifiers

smoke: $(VENV)/installed
	$(BIN)/bench run --grid tests/smoke.toml --workspace smoke-run

smoke-attacks smoke-defenses smoke-contrastive smoke-analyses: $(VENV)/installed
	@$(BIN)/bench run --grid $@ --workspace smoke-run

toy-attacks toy-defenses toy-blocks toy-contrastive: $(VENV)/installed
	@$(BIN)/bench run --grid $@ --workspace toy-run

toy-analyses: $(VENV)/installed
	@for grid in toy-analyses toy-defending toy-detection toy-making; do $(BIN)/bench run --grid $$grid --workspace toy-run || exit; done

scale: $(VENV)/installed
	PYTHONPATH=tests $(BIN)/python -m speed.scale

site-speed: $(VENV)/installed
	PYTHONPATH=tests $(BIN)/python -m speed.site

# what a user has who never saw this repository
WHEEL := build/wheel
INSTALLED := cd $(WHEEL)/empty && ../env/bin
wheel: $(VENV)/installed
	rm -rf $(WHEEL) && mkdir -p $(WHEEL)/empty
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir $(WHEEL) . ./examples/bench-checkerboard
	$(PYTHON) -m venv $(WHEEL)/env
	$(WHEEL)/env/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) $(WHEEL)/*.whl
	$(INSTALLED)/python -c "from importlib.metadata import files; assert {p.parts[0] for p in files('unlearnable-bench') if p.suffix == '.py'} == {'unlearnable_bench'}"
	$(INSTALLED)/bench check attack:checkerboard
	$(INSTALLED)/bench check defense:box-blur
	$(INSTALLED)/bench check attack:lsp
	$(INSTALLED)/bench run --grid quick --workspace .
	$(INSTALLED)/bench run --attack checkerboard,none --defense none,box-blur --workspace .
	$(INSTALLED)/bench report --workspace .

reliability: $(VENV)/installed
	PYTHONPATH=tests $(BIN)/python -m campaign

gpu: $(VENV)/installed
	PYTHONPATH=tests $(BIN)/python -m gpu --device $(DEVICE) --minutes $(MINUTES) --out $(OUT) $(if $(DATA),--data $(DATA))

slurm-full: $(VENV)/installed
	SLURM_FULL=1 $(BIN)/python -m pytest -s tests/slurm

docs: $(VENV)/installed
	$(BIN)/python docs/generate.py

site-docs: $(VENV)/installed
	$(BIN)/python docs/build_site.py
	@echo "site: $(CURDIR)/build/docs-site/index.html"

# one environment for all of it: the tested versions, the project itself editable; Python compiles what is imported, not all of torch
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint $(CONSTRAINTS) --editable ".[dev,docs]"
	@touch $@

clean:
	rm -rf $(VENV) quick-run smoke-run toy-run build *.egg-info
