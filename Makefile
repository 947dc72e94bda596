# Every target makes .venv and installs what it needs. Only Python 3.11+, make and the package
# registries are needed. Elsewhere than on a machine with a GPU, name PyTorch's CPU index in
# PIP_EXTRA_INDEX_URL to spare gigabytes of CUDA libraries.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
DEMO_HOME := demo-home
UP_HOME := service-home
INSTALLED := $(VENV)/.installed
INSTALLED_LOCAL := $(VENV)/.installed-local
INSTALLED_DEV := $(VENV)/.installed-dev
LOG := $(VENV)/install.log

# Test processes share few cores, and wait for servers half of the time: one thread in each.
# What they compile is kept: each process would compile all tests again.
TEST_ENV := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=

.PHONY: help install demo up test browser soak lint format bench secrets clean

help:
	@echo "make install   .venv with datagen and what it needs"
	@echo "make demo      1,000 labelled images, a check of every byte, what they are worth ($(DEMO_HOME)/)"
	@echo "make up        the whole service on this machine, until Ctrl-C ($(UP_HOME)/)"
	@echo "make test      lint, then all tests"
	@echo "make soak      the long tail of the fault suite and of the API's contract"
	@echo "make lint      ruff and mypy"
	@echo "make format    ruff, changing files"
	@echo "make bench     images per second: model alone and whole path"
	@echo "make secrets   random passwords for docker-compose.yml, into secrets/"
	@echo "make clean     remove .venv and $(DEMO_HOME)"

install: $(INSTALLED)
	@echo "Installed. Next: $(BIN)/datagen --help"

demo: $(INSTALLED)
	@$(BIN)/datagen run recipes/fashion-1000.yaml --home $(DEMO_HOME) --workers 2
	@$(BIN)/datagen verify fashion-1000 --home $(DEMO_HOME)
	@echo
	@$(BIN)/datagen evaluate fashion-1000 --reference fashion-mnist-sample --quick --home $(DEMO_HOME)

up: $(INSTALLED_LOCAL)
	@$(BIN)/datagen up --home $(UP_HOME)

# Beside lint, which keeps one core busy, the tests are compiled: together, each of their processes
# would do it for itself. A file's tests stay together, for what they share; those with slow tests
# come first (tests/conftest.py), so that at the end no core waits for one of them.
test: $(INSTALLED_DEV) browser
	@$(TEST_ENV) $(BIN)/python -m pytest --collect-only -q >/dev/null 2>&1 & \
	compiling=$$!; $(MAKE) --no-print-directory lint || { kill $$compiling; exit 1; }; \
	wait $$compiling || true
	$(TEST_ENV) $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not soak"

# The report's tests drive a real one. Where it cannot be installed, they are skipped, but not in CI.
browser:
	@command -v chromium >/dev/null || { \
	  if [[ $$(id -u) == 0 ]] && command -v apt-get >/dev/null; then \
	    echo "Installing chromium"; export DEBIAN_FRONTEND=noninteractive; \
	    { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } \
	      >>$(LOG) 2>&1 </dev/null || { tail -5 $(LOG) >&2; echo "No chromium" >&2; }; \
	  else \
	    echo "No chromium: its tests are skipped. On Debian: apt-get install chromium"; \
	  fi; }

soak: $(INSTALLED_DEV)
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 -m soak

lint: $(INSTALLED_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED_DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)
	@$(BIN)/datagen bench

# The files are readable by the containers' users; the folder keeps other users of this machine out.
secrets:
	@[[ ! -e secrets ]] || { echo "secrets/ exists: remove it first to make new ones" >&2; exit 1; }
	@random() { head -c 24 /dev/urandom | base64 | tr '+/' '-_'; }; \
	umask 022; mkdir -m 700 secrets; cd secrets; database=$$(random); store=$$(random); broker=$$(random); \
	printf '%s' "$$database" >postgres_password; \
	printf '[datagen]\nhost=postgres\nport=5432\ndbname=datagen\nuser=datagen\npassword=%s\n' \
	  "$$database" >pg_service; \
	printf 'requirepass %s\nsave ""\nappendonly no\n' "$$broker" >valkey_config; \
	printf 'redis://:%s@valkey:6379/0' "$$broker" >broker_url; \
	printf '[default]\naws_access_key_id = datagen\naws_secret_access_key = %s\n' \
	  "$$store" >aws_credentials; \
	printf '{"identities": [{"name": "datagen", "actions": %s, "credentials": %s}]}\n' \
	  '["Admin", "Read", "Write", "List", "Tagging"]' \
	  "[{\"accessKey\": \"datagen\", \"secretKey\": \"$$store\"}]" >s3_config
	@echo "Made secrets/: keep it out of backups that others read"

clean:
	rm -rf $(VENV) $(DEMO_HOME)

$(INSTALLED): pyproject.toml constraints.txt
	@$(call pip_install,.)
	@touch $@

$(INSTALLED_LOCAL): pyproject.toml constraints.txt
	@$(call pip_install,.[local])
	@touch $(INSTALLED) $@

$(INSTALLED_DEV): pyproject.toml constraints.txt
	@$(call pip_install,.[test$(comma)dev])
	@touch $(INSTALLED) $(INSTALLED_LOCAL) $@

comma := ,

# pip's chatter goes to a log, shown only if pip fails. hatchling comes first and build isolation
# is off, so that the build's own packages are pinned too.
define pip_install
$(find_python) \
started=$$SECONDS; \
$(BIN)/python -m pip --version >/dev/null 2>&1 || "$$python" -m venv --clear $(VENV) || { \
  echo "Cannot make $(VENV). On Debian: apt-get install python3-venv" >&2; exit 1; }; \
echo "Installing into $(VENV), a few minutes the first time (log: $(LOG))"; \
pip="$(BIN)/python -m pip install --disable-pip-version-check --no-input -c constraints.txt"; \
{ $$pip hatchling editables && $$pip --no-build-isolation -e '$(1)'; } >$(LOG) 2>&1 </dev/null || { \
  cat $(LOG) >&2; echo "The installation failed; the lines above are $(LOG)." >&2; exit 1; }; \
echo "Installed in $$((SECONDS - started)) s"
endef

define find_python
for python in python3.11 python3 none; do \
  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
done; \
if [[ $$python == none ]]; then \
  echo "Python 3.11 or newer is needed: neither python3.11 nor python3 is one." >&2; \
  echo "On Debian: apt-get install python3 python3-venv" >&2; exit 1; fi;
endef
