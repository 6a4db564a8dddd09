# 'make' alone lists what there is to make.

# The version that the program tells: the last tag, and how far we are from it.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION)

# Packages without the end-to-end tests, which are a step of their own.
UNIT = $$(go list ./... | grep -v /test/e2e)
# The packages where things happen at once, found by what they use.
RACE = $$(git grep -lE '\bgo func\b|"sync"|"sync/atomic"|"golang.org/x/sync/' -- '*.go' ':!test' ':!bench' \
	| xargs -n1 dirname | sort -u | sed 's|^|./|')

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install tools build check fmt fmt-check vet lint unit corpus race fuzz e2e test demo soak bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: ## install what the tests and the demo need (Debian; through sudo where not root)
	@sh scripts/install.sh

build: ## build the program, static, into bin/
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ovation ./cmd/ovation

check: fmt-check vet lint ## formatting, go vet and staticcheck

fmt: ## format the code
	gofmt -w $$(git ls-files '*.go')

fmt-check:
	@bad=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$bad" ] || { echo "not formatted (make fmt):"; echo "$$bad"; exit 1; }

vet:
	go vet ./...

lint:
	go tool staticcheck ./...

unit: ## the packages' own tests
	go test $(UNIT)

corpus: ## how many reference descriptors come out of YAML as they went in
	@go test -count=1 -v -run '^TestCorpusRoundTrip$$' ./author/descriptor | grep -E 'come out equal|SKIP|are not at|^ok|^FAIL'

race: ## the tests of the concurrent packages, with the race detector
	CGO_ENABLED=1 go test -race -short -timeout 20m $(RACE)

fuzz: ## every fuzz target for a few seconds
	@sh scripts/fuzz.sh

e2e: build ## the program against real tools and real guests
	go test -timeout 40m ./test/e2e/...

# Without root and without the tools, the tests that need them skip and say so;
# in CI that is a failure.
tools:
	@sh scripts/install.sh || [ "$$CI" != true ]

test: tools check build unit corpus race fuzz e2e ## everything: what CI runs

demo: install build ## build an appliance, serve it, inspect, verify and run it
	@go run ./test/demo

soak: build ## all disk formats against QEMU's; deployments killed at 50 moments; every script with the race detector; fuzz for long: FUZZ_TIME seconds for each target (default 600)
	OVATION_SOAK=1 go test -timeout 3h ./test/interop
	CGO_ENABLED=1 go test -race -timeout 60m ./cmd/ovation
	OVATION_KILLS=50 go test -count=1 -timeout 60m -run TestKilled ./test/e2e
	@FUZZ_TIME=$${FUZZ_TIME:-600} sh scripts/fuzz.sh

bench: build ## compare with what people use today; see bench/
	go run ./bench

clean: ## remove what was built, and the cache
	rm -rf bin .cache
