# Each target below sets up .venv first (dev/setup_env.sh; seconds when it is up to date). PYTHON=... names the interpreter.
PY := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup horovod train test lint clean

help:
	@echo "make train    train idle_mbv3 on the digits of scikit-learn, into runs/digits"
	@echo "make test     run the tests (make test ARGS='-m fast' for a part)"
	@echo "make lint     check style and formatting"
	@echo "make setup    only make or update .venv (PYTHON=python3.9 chooses the interpreter)"
	@echo "make horovod  build Horovod again after a failed build"
	@echo "make clean    remove caches and build output; .venv and runs stay"

setup:
	@PYTHON="$(PYTHON)" bash dev/setup_env.sh

horovod:
	@rm -f .venv/stamp
	@$(MAKE) --no-print-directory setup

train: setup
	$(PY) train_imagenet.py --model idle_mbv3 --data digits --out runs/digits $(ARGS)

test: setup
	$(PY) -m pytest $(ARGS)

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

clean:
	rm -rf build dist .pytest_cache .ruff_cache
	find . -name .venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
