# Every command of the project; each does all the set-up that it needs, once. `make help` lists them.

PYTHON ?= python3
ARGS ?=
MINUTES ?= 15

# Programs that tests drive, each as program:package of Debian; or program:package,package.
PROGRAMS := chromium:chromium curl:curl gcc:gcc,libc6-dev git:git ip:iproute2 java:default-jre-headless \
	nginx:nginx-light node:nodejs npm:npm pg_ctlcluster:postgresql redis-server:redis-server \
	Rscript:r-base-core,r-cran-httr2,r-cran-jsonlite prometheus:prometheus promtool:prometheus slowhttptest:slowhttptest strace:strace wrk:wrk

# Processes that share the machine where no test measures time: servers and browsers often wait.
PROCESSES ?= 3
PYTEST := OMP_NUM_THREADS=1 PATH="$(CURDIR)/.venv/bin:$$PATH" pytest
SHARED := -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

# The tests start hundreds of processes: each would compile what it imports.
unexport PYTHONDONTWRITEBYTECODE

LOCK := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command "make lock" $(ARGS) setup.cfg
EXTRAS := --extra image --extra numbers --extra own --extra zstd
OPERATING := --extra database --extra jobs --extra oidc --extra otel --extra postgres --extra redis
OURS := $(EXTRAS) $(OPERATING) --extra dask --extra http --extra objects --extra packing --extra parquet \
	--extra skops --extra sql

.DEFAULT_GOAL := help
.PHONY: help serve install test unit coverage lowest lock format new-venv

# A virtual environment holds absolute paths. One that was moved here, that has lost its Python, or that has none new
# enough, is made again.
WHOLE := $(shell .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& head -n 2 .venv/bin/pip 2>/dev/null | grep -qF '$(CURDIR)/.venv/bin/' && echo yes)
# Modules are compiled when they are imported: most never are.
INSTALL := .venv/bin/python -m pip --quiet --disable-pip-version-check --no-input install --no-compile

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' Makefile

serve: .venv/serving ## set up, then serve models/ on $PORT (8000)
	@export RETORT_ENV="$${RETORT_ENV:-development}" PATH="$(CURDIR)/.venv/bin:$$PATH"; \
	exec sh -c "exec $$(sed -n 's/^web:[[:space:]]*//p' Procfile)"

install: .venv/serving ## only the set-up for serving, in .venv
	@echo "Set up in .venv: \`make serve\` serves."

test: .venv/testing ## set up, then run every check; ARGS="-k penguins" goes to pytest
	@sh tests/setup/debian.sh $(PROGRAMS)
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy --strict app
	.venv/bin/lint-imports
	@# 5 is pytest's for: nothing of what ARGS asks for is in this part.
	$(PYTEST) --part shared $(SHARED) $(ARGS) || [ $$? = 5 ]
	$(PYTEST) --part alone $(ARGS) || [ $$? = 5 ]
ifneq ($(RETORT_WORKER),gthread)
	RETORT_WORKER=gthread $(PYTEST) --part both_workers $(SHARED) $(ARGS) || [ $$? = 5 ]
	RETORT_WORKER=gthread $(PYTEST) --part both_workers_alone $(ARGS) || [ $$? = 5 ]
endif

unit: .venv/testing ## only the quick tests in one process, without servers, browsers or processes that pack: seconds
	$(PYTEST) --part unit -n 2 --dist loadfile $(ARGS)

coverage: .venv/testing ## branch coverage of app/, by the tests in process; fails below 95 %; takes twice as long as they do
	@mkdir -p build/coverage
	$(PYTEST) --part in_process -n 2 --dist loadfile --cov --cov-config setup.cfg $(ARGS)

# What serves and packs is as old as setup.cfg allows, the tools of the tests are not. Old libraries warn of new ones.
lowest: .venv/testing ## run the tests in process with the lowest versions that setup.cfg allows, in build/lowest
	.venv/bin/uv venv --quiet --clear --seed --python .venv/bin/python build/lowest
	.venv/bin/uv pip compile --quiet --resolution lowest-direct --python .venv/bin/python $(OURS) setup.cfg --output-file build/lowest/requirements.txt
	.venv/bin/uv pip install --quiet --python build/lowest/bin/python --constraint build/lowest/requirements.txt $(OURS) --extra dev --requirement setup.cfg
	OMP_NUM_THREADS=1 PATH="$(CURDIR)/build/lowest/bin:$$PATH" pytest --part lowest -W default -n 2 --dist loadfile $(ARGS)

lock: .venv/testing ## write the requirement files anew from setup.cfg; ARGS=--upgrade takes the newest releases
	$(LOCK) --all-extras --output-file requirements-dev.txt
	$(LOCK) $(EXTRAS) --extra database --extra jobs --extra packing --constraint requirements-dev.txt --output-file requirements.txt
	$(LOCK) $(EXTRAS) --constraint requirements-dev.txt --output-file requirements-serve.txt
	$(LOCK) $(EXTRAS) $(OPERATING) --constraint requirements-dev.txt --output-file requirements-operate.txt
	.venv/bin/python .ci/licences > docs/licences.md

format: .venv/testing ## format, and mend what can be mended
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

ifneq ($(WHOLE),yes)
.venv/serving: new-venv
endif

new-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Retort needs Python 3.11 or newer and \`$(PYTHON)\` is not: install one and name it, as in \`make serve PYTHON=python3.12\`." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "\`$(PYTHON)\` cannot make virtual environments: install its venv module (on Debian and Ubuntu: apt-get install python3-venv), then run this again." >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv

# The stamps are touched last: a set-up that was interrupted is done again.
.venv/serving: requirements.txt
	@echo "Setting up .venv from requirements.txt: a minute or two, this once."
	@$(INSTALL) --requirement requirements.txt
	@touch $@

.venv/testing: .venv/serving requirements-dev.txt
	@echo "Setting up .venv from requirements-dev.txt."
	@$(INSTALL) --requirement requirements-dev.txt
	@touch $@

.PHONY: estimators
estimators: .venv/testing ## pack, prove and compare every estimator; writes docs/estimators.md
	OMP_NUM_THREADS=1 PATH="$(CURDIR)/.venv/bin:$$PATH" pytest tests/sweep --estimators docs/estimators.md

.PHONY: faults
faults: .venv/testing ## run the tests that inject faults; writes docs/faults.md; ARGS="-k o01" runs some again
	@sh tests/setup/debian.sh $(PROGRAMS)
	@$(if $(ARGS),,rm -f build/faults.json)
	@# All are run, whatever fails: the page says what did.
	$(PYTEST) --part shared $(SHARED) --faults=docs/faults.md $(ARGS) || [ $$? = 1 ] || [ $$? = 5 ]
	$(PYTEST) --part alone --faults=docs/faults.md $(ARGS) || [ $$? = 5 ]

.PHONY: versions
versions: .venv/testing ## pack what seven releases of scikit-learn fitted and compare; writes docs/versions.md
	OMP_NUM_THREADS=1 PATH="$(CURDIR)/.venv/bin:$$PATH" python -m tests.sweep.versions --page docs/versions.md $(ARGS)

.PHONY: upgrade
upgrade: ## merge the newest release of Retort into your repository; TO=v1.2.3 names another, REMOTE=upstream the remote
	@REMOTE='$(REMOTE)' TO='$(TO)' sh .ci/upgrade

.PHONY: docs
docs: .venv/testing ## build the documentation into build/docs; fails on a broken link
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

.PHONY: screens
screens: .venv/testing ## screenshots of the pages, for phones and desktops, light and dark; writes docs/screens/
	@sh tests/setup/debian.sh chromium:chromium
	PATH="$(CURDIR)/.venv/bin:$$PATH" python -m tests.browser.screens docs/screens

.PHONY: bench
bench: .venv/testing ## measure against the peers; prints a table, writes benchmarks/RESULTS.md; ARGS="--quick"
	@sh tests/setup/debian.sh wrk:wrk
	PATH="$(CURDIR)/.venv/bin:$$PATH" python -m benchmarks.run $(ARGS)

.PHONY: soak
soak: .venv/testing ## faults at length, each held to its figure, in MINUTES=15; ARGS="--rows o06,r01 --report soak.md"
	@sh tests/setup/debian.sh nginx:nginx-light slowhttptest:slowhttptest
	PATH="$(CURDIR)/.venv/bin:$$PATH" python -m tests.soak --minutes $(MINUTES) $(ARGS)
