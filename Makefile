# Gatebook. `make` prints the targets.
SHELL := /bin/bash
export CGO_ENABLED := 0
BIN := bin/gatebook
TOOLS := .cache/tools
GOLANGCI := $(TOOLS)/golangci-lint
# How long each fuzz target runs with `make fuzz`.
T ?= 10s
# How many crashes `make crash` goes through, how long `make soak` lasts and with how many sessions.
CRASHES ?= 300
SOAK ?= 15m
SESSIONS ?= 500

.DEFAULT_GOAL := help
.PHONY: help setup build demo test race fuzz mutants crash hold soak bench lint gen

help: ## print the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## find or install what demo and tests need besides Go
	@scripts/setup.sh

build: ## build bin/gatebook, one static binary
	go build -trimpath -o $(BIN) ./cmd/gatebook

demo: setup build ## two agents work on a real PostgreSQL; the book proves what they did (KEEP=1 leaves it running)
	@demo/demo.sh

test: setup ## all tests, vet and the architecture's rules
	go vet ./...
	go test -shuffle=on -timeout 20m ./...

race: ## the tests with the race detector
	@scripts/setup.sh race
	CGO_ENABLED=1 go test -race -short -shuffle=on -timeout 40m ./...

fuzz: ## every fuzz target in turn, T each
	scripts/fuzz.sh $(T)

mutants: setup ## break the guards one at a time; each must turn its test red (ONLY=ROW or ONLY=NAME)
	go run ./scripts/mutants -only "$(ONLY)"

crash: setup ## the power goes at 300 random moments under load, and every operation on a file is failed (CRASHES=N)
	GATEBOOK_CRASHES=$(CRASHES) go test -count=1 -run 'Crash|Fault|Survive|Create|Space' -timeout 60m ./internal/...

hold: setup ## requests wait while their agents' tokens expire after 5 minutes, and are ruled on after 10
	GATEBOOK_HOLD=5m go test -count=1 -v -run 'TestHeldAndTheTokenExpires$$' -timeout 30m ./internal/app

soak: setup build ## many sessions, agents that misbehave and values of 1 GB for SOAK=15m, SESSIONS=500
	GATEBOOK=$(abspath $(BIN)) GATEBOOK_SOAK=$(SOAK) GATEBOOK_SESSIONS=$(SESSIONS) go test -count=1 -v -run 'TestSoak$$' -timeout 3h ./cmd/gatebook

bench: build ## direct, PgBouncer and Gatebook side by side: bench/results.json and results.svg (about half an hour; BENCH="-only …")
	@scripts/setup.sh bench
	go run ./bench $(BENCH)

gen: ## make generated documents anew
	go run ./internal/config/gen > docs/config.md
	go run ./internal/admin/openapi > docs/openapi.json

lint: $(GOLANGCI) ## the linters
	$(GOLANGCI) run
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "run gofmt -w on these files"; exit 1; }

$(GOLANGCI):
	GOBIN=$(abspath $(TOOLS)) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
