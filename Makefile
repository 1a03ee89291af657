# Every target says what it does: `make` lists them. What needs more than a line of shell lies in deploy/setup/.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
CODE := fabricmgr tests cni bench migrations redfish_schemas deploy hatch_build.py
# The console shows what happens as it happens, also through a pipe.
export PYTHONUNBUFFERED := 1

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: ## install what running needs: Debian packages (as root), Python packages by the lock, .venv/bin/fabricmgr
	@deploy/setup/apt.sh run
	@deploy/setup/venv.sh requirements.lock

.PHONY: install-dev
install-dev: ## the same, and what tests and checks need
	@deploy/setup/apt.sh run test
	@deploy/setup/venv.sh requirements-dev.lock

.PHONY: run
run: install ## start it all on this machine: manager, two nodes, pods that ping each other; ONCE=1 shows it and ends
	@$(PY) -m deploy.demo $(if $(ONCE),--once) $(if $(PORT),--port $(PORT))

.PHONY: test
test: install-dev ## run every tier of tests that this machine can run; at the end a table says which, and why not
	@deploy/setup/test.sh $(TESTS)

.PHONY: cluster-build
cluster-build: ## build what the test cluster runs (Kubernetes, etcd, containerd, CNI plugins, Multus), once, outside the checkout; needs Go
	@$$(deploy/setup/python.sh) -m deploy.kube_build

.PHONY: cluster
cluster: install-dev cluster-build $(if $(findstring --manifests,$(ARGS)),image) ## a Kubernetes of two nodes on this machine, with fabricmgr as its pods' network; until Ctrl-C; ARGS=--help
	@$(PY) -m tests.support.kube $(ARGS)

.PHONY: story
story: install-dev cluster-build ## on a cluster of its own: from kubectl apply to addresses that are back, told as it happens; 0 if all held
	@$(PY) -m tests.support.kube.tell

.PHONY: test-k8s
test-k8s: install-dev cluster-build image ## the tests on that cluster alone
	@deploy/setup/test.sh $(or $(TESTS),tests/e2e/kube)

.PHONY: check
check: install-dev ## the quick look before a commit: lint, format, types, imports between rooms, unit tests
	.venv/bin/ruff check $(CODE)
	.venv/bin/ruff format --check $(CODE)
	.venv/bin/mypy
	.venv/bin/lint-imports
	shellcheck deploy/setup/*.sh .ci/run
	$(PY) -m pytest -q tests/unit

.PHONY: format
format: install-dev ## put imports and layout in order
	.venv/bin/ruff check --fix --select I $(CODE)
	.venv/bin/ruff format $(CODE)

.PHONY: lock
lock: ## write both lock files anew from pyproject.toml (the newest versions that fit)
	@deploy/setup/lock.sh

.PHONY: bench-cni
bench-cni: install-dev ## CNI ADD and DEL against the Go reference plugins, paired in one run
	@$(PY) -m bench.cni $(ARGS)

.PHONY: bench-reflector
bench-reflector: install-dev ## memory and processor time of a copy of a cluster's pods
	@$(PY) -m bench.reflector $(ARGS)

.PHONY: bench-events
bench-events: install-dev cluster-build ## from a write at a real API server to the event at a subscriber
	@$(PY) -m bench.events $(ARGS)

.PHONY: bench-alloc
bench-alloc: install-dev ## allocations a second against pgbench's single-row inserts, paired in one run
	@$(PY) -m bench.alloc $(ARGS)

.PHONY: bench-alloc-http
bench-alloc-http: install-dev ## what each layer over HTTP costs an allocation, beside pgbench
	@$(PY) -m bench.alloc_http $(ARGS)

.PHONY: bench-redfish
bench-redfish: install-dev ## Redfish answers a second against a plain Flask service with the same pages, paired in one run
	@$(PY) -m bench.redfish $(ARGS)

.PHONY: bench-elections
bench-elections: install-dev ## what looks at who announces thousands of Services' addresses cost
	@$(PY) -m bench.elections $(ARGS)

.PHONY: bench-kube
bench-kube: install-dev cluster-build ## pods on a real cluster: ours against the CNI project's own plugins, paired in one run
	@$(PY) -m bench.kube $(ARGS)

.PHONY: conformance
conformance: install-dev ## run DMTF's suites against a manager with a filled tree; REDFISH_SCHEMAS: the folder of DMTF's schemas
	@$(PY) -m tests.conformance $(ARGS)

.PHONY: dmtf-schemas
dmtf-schemas: ## fetch DMTF's schema bundle from where DMTF publishes it, for the tests that read it; INTO=FOLDER
	@$$(deploy/setup/python.sh) -m deploy.setup.dmtf_schemas $(or $(INTO),build/dmtf-schemas)

.PHONY: image
image: ## build the container image with podman, without a registry, below the user's cache; NAME: another than localhost/fabricmgr:dev
	@deploy/setup/image.sh $(NAME)

.PHONY: clean
clean: ## remove what was built and installed here; what the demo keeps under .run/ stays (remove it by hand)
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.run/*' -prune -exec rm -rf {} +
