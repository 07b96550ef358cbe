# `make run` and `make test` prepare everything they need; no other command comes before either.

PY := .venv/bin/python
COV_FAIL_UNDER ?= 85
# Tests run side by side, one file to a worker, so that a file's peers and ports are its own.
# They wait as well: two left a quarter of two cores idle.
WORKERS ?= 3
# The slow ones wait a good deal, for peers and for what a box does by itself: three left a third of two cores idle.
SLOW_WORKERS ?= 4
PYTEST := $(PY) -m pytest --dist loadfile --no-loadscope-reorder
COVER := --cov --cov-append --cov-report=
# Containers often forbid Python to keep what it has compiled; then each of hundreds of processes compiles everything again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup run demo test lint fast slow coverage web-test bench campaign test-machine image test-image test-update test-container audit lock clean
.NOTPARALLEL:

help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## install what is missing and build the web assets; quick when nothing has changed
	@.ci/setup

run: setup ## start the appliance: console on http://localhost:8080, DICOM on 11112
	@exec .venv/bin/appliance run

demo: setup ## show the main job in one terminal, on synthetic images
	@exec $(PY) -m tests.demo

# Coverage is asked of the fast tests alone: the slow ones start hundreds of processes, each slower to begin when it is traced.
test: setup lint web-test ## every linter, type check, import contract and test, with coverage enforced
	@rm -rf .cache/coverage && mkdir -p .cache/coverage
	@$(MAKE) --no-print-directory fast COVERAGE=1
	@$(MAKE) --no-print-directory coverage slow

lint: setup ## style, types and import contracts
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-cache
	@if command -v shellcheck >/dev/null; then shellcheck .ci/setup .ci/run .ci/audit $(filter-out %/clock-state,$(wildcard systemd/libexec/*)) provisioning/roles/base/files/restart-replaced image-build/build image-build/oci/build \
		image-build/scripts/* image-build/mkosi.extra/usr/lib/appliance/libexec/*; fi

fast: setup ## the tests that take seconds
	$(PYTEST) -n $(WORKERS) $(if $(COVERAGE),$(COVER)) -m "not slow"

slow: setup ## the tests that start whole processes, break things on purpose, or drive a browser
	$(PYTEST) -n $(SLOW_WORKERS) -m slow

coverage:
	@$(PY) -m coverage combine --append --quiet 2>/dev/null || true
	$(PY) -m coverage report --fail-under=$(COV_FAIL_UNDER)

web-test: setup ## types and tests of the TypeScript
	@.ci/setup web-test

bench: setup ## measure against Orthanc and storescp; prints the table of the README
	@exec $(PY) -m tests.bench $(ARGS)

campaign: setup ## the long fault campaigns: make campaign ARGS="kill --kills 10000"
	@exec $(PY) -m tests.campaigns $(ARGS)

test-machine: setup ## provision a booted Debian 13 twice and use it; ARGS=12, ARGS=runbooks, ARGS=shut, or ARGS="vm 12" in QEMU; needs root, systemd-container, debootstrap; 10 minutes
	@exec $(PY) -m tests.provisioning $(ARGS)

image: setup ## build the appliance's own image into .cache/image; needs root; 5 minutes the first time
	@exec image-build/build $(ARGS)

test-image: setup ## boot the image in QEMU and use it; needs root and 'make image'; 19 minutes, beside tests 47; ARGS=theft, ARGS=starts
	@image-build/build test-disk
	@exec $(PY) -m tests.image $(or $(ARGS),box)

test-update: setup ## boot the image and offer it updates: cut, spoilt, good, damaged, failing, by a ring, at night; three hours; ARGS="good failing" for some
	@$(PY) -m tests.image offers
	@image-build/build test-disk
	@image-build/build test-updates
	@exec $(PY) -m tests.image updates $(ARGS)

test-container: setup ## build the container for evaluation and use it, with podman (ENGINE=docker: with Docker); needs root; a few minutes
	@exec $(PY) -m tests.image container

audit: setup ## ask whether anything is known of what is locked; needs the network, and says where it could not look
	@exec .ci/audit

lock: ## compile the lock files again from pyproject.toml; UPGRADE=1 for newer versions
	@.ci/setup lock

clean: ## remove everything that setup and the tests made, but not the data in var/
	rm -rf .venv .cache .hypothesis web-ui/node_modules appliance/web/static/build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
