# make help says what there is. Everything is checked by .ci/run.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The cache that scripts/setup.sh fills; it says why it is there.
CACHE := $(or $(PGMEDIC_CACHE),$(if $(filter 0,$(shell id -u)),/var/cache/pgmedic,$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pgmedic))
VERSION := $(or $(shell git describe --tags --always --dirty 2>/dev/null),unknown)

# The packages of all modules of the workspace, which ./... is not. What takes longest is
# first: it runs beside all the others, and not alone at the end.
ALL := github.com/pgmedic/pgmedic/test github.com/pgmedic/pgmedic/...
# Build tags of make test-all.
ALL_TAGS := failpoint
# Tests start servers of their own, so not many packages at once; in memory, since
# those write and remove files by the thousand. Without what debuggers read (-w), a hundred
# test programs are linked in half the time.
TEST = scripts/in-memory.sh go test -p 2 -ldflags=-w -timeout 60m
# Tests write here that they are skipped; scripts/skipped.sh counts them at the end.
COUNT_SKIPS = skips=$$(mktemp) && trap 'rm -f "$$skips"' EXIT && export PGMEDIC_TEST_SKIPS=$$skips
# The race detector makes what hashes, compresses and encrypts several times as slow: it
# has a part of what make test runs, of the packages whose goroutines share the most.
RACE := ./cmd/... ./internal/archive/... ./internal/backup ./internal/catalog ./internal/physical/... ./internal/restore/... ./internal/store/... ./internal/walstream ./pool/... ./test/pool

.PHONY: help
help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## find or install what building and testing take
	@scripts/setup.sh

.PHONY: build
build: ## build bin/pgmedic, as go install does: without the workspace
	@GOWORK=off CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/pgmedic ./cmd/pgmedic

.PHONY: release
release: ## build the archives and packages of a release into dist/VERSION: make release VERSION=1.2.3
	@scripts/release.sh "$(VERSION)" "dist/$(VERSION)"

.PHONY: demo
demo: ## show a backup, its proof and a restore, on servers of its own
	@scripts/setup.sh --demo
	@$(MAKE) --no-print-directory build
	@bin/pgmedic demo

# -count=1: what a test of a real server said about another day's server is no
# answer, so nothing comes from the cache of test results.
.PHONY: test
test: setup ## run the tests on one PostgreSQL
	@$(COUNT_SKIPS); $(TEST) -count=1 $(ALL) && scripts/skipped.sh "$$skips" && echo "make test: all tests passed" || { echo "make test: tests FAILED"; exit 1; }

.PHONY: test-all
test-all: ## run what make test leaves out, on every supported PostgreSQL, the race detector, and a part of test-hostile
	@scripts/setup.sh --all
	@scripts/client-programs.sh --versions "$(CACHE)"
	@scripts/regression-tests.sh --versions "$(CACHE)"
	@$(COUNT_SKIPS); PGMEDIC_TEST_ALL=1 $(TEST) -count=1 -tags '$(ALL_TAGS)' $(ALL) && \
		scripts/skipped.sh "$$skips" && \
		$(TEST) -race -count=1 -tags '$(ALL_TAGS)' $(RACE) && \
		scripts/test-hostile.sh --part && \
		echo "make test-all: all tests passed" || { echo "make test-all: tests FAILED"; exit 1; }

.PHONY: test-hostile
test-hostile: setup ## run the tests as another user, in another locale, read-only and under load
	@scripts/test-hostile.sh && echo "make test-hostile: all tests passed" || { echo "make test-hostile: tests FAILED"; exit 1; }

# Turn by turn with the rival, on the same data: docs/benchmarks.md says more.
.PHONY: bench
bench: setup ## measure pgmedic side by side with pg_dump, and the pool with pgxpool
	@go test ./test/pool -run '^$$' -bench . -benchtime 500x -timeout 60m
	@go test ./bench -run '^$$' -bench . -benchtime 5x -timeout 60m

# Written from scratch each time; a few of its cases are in make test, too. What
# toxiproxy logs, and go test when it begins a test, is left out.
.PHONY: chaos
chaos: setup ## break everything midway, and write docs/reliability.md
	@PGMEDIC_CHAOS="$(CURDIR)/docs/reliability.md" go test ./test -run '^TestChaos$$' -count=1 -parallel 3 -timeout 30m -v | \
		grep --line-buffered -v -e '^{"level":' -e '^=== '
	@PGMEDIC_CAMPAIGNS=1 PGMEDIC_TEST_ALL=1 go test ./test ./internal/drill ./internal/physical ./internal/walstream ./internal/restore ./internal/restore/cluster ./internal/pgtool/dumpsql ./internal/postgres ./internal/monitor -p 1 \
		-run '^(TestKillAtEveryPoint|TestLanguages|TestPassphraseOnlyHost|TestDamageParallel|TestEscapesInManifest|TestForgedStore|TestEachSetting|TestMutations|TestSoundBackupsAreProven|TestEncodings|TestWhatSettingsDecide|TestRestoreGivesWhatThereIs|TestLoadFuzzed|TestPoolers|TestOnEveryMajor|TestTraps|TestReportMemory|TestRandomTargets|TestWALKilled|TestWALKilledAt|TestWALServerKilled|TestRestoreClusterDamaged|TestRestoreChainDamaged|TestWALLoad|TestWALOutage|TestPhysicalMemory|TestUnderLoad|TestIncrementalHistories|TestIncrementalChain|TestFetchFaults|TestFailover)$$' -count=1 -timeout 600m -v | grep -v '^=== '

.PHONY: lint
lint: ## check form and common mistakes
	@scripts/setup.sh --lint
	@unformatted=$$(gofmt -l .); if [[ -n $$unformatted ]]; then echo "not formatted by gofmt:" $$unformatted; exit 1; fi
	@go vet $(ALL)
	@GOOS=darwin go vet $(ALL)
	@for module in $$(go list -m -f '{{.Dir}}'); do \
		(cd "$$module" && go mod tidy -diff && $(CACHE)/bin/golangci-lint run --allow-serial-runners ./...); \
	done
	@sums() { go list -m -f '{{.Dir}}/go.mod {{.Dir}}/go.sum' | xargs cat go.work go.work.sum | sha256sum; }; \
	before=$$(sums); go work sync; \
	if [[ $$(sums) != "$$before" ]]; then echo "go work sync changed versions or sums: run go mod tidy in each module, and commit both"; exit 1; fi
	@shellcheck scripts/*.sh .ci/run
	@echo "make lint: nothing to object to"

.PHONY: clean
clean: ## remove what make build made
	@rm -rf bin
