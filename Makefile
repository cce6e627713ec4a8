# Atelier in two commands: `make run` serves it, `make test` checks everything.
# Both install what this machine lacks (see .ci/setup.sh); README.md says what that can be.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run build cuda site server test end2end fuzz bench bench-peers format clean-cache

# ARGS reaches the program: make run ARGS='--addr 127.0.0.1:8080'
ARGS ?=
TARGET := $(or $(CARGO_TARGET_DIR),target)

help: ## Says what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

run: build ## Builds what changed and serves it on http://127.0.0.1:3000
	@exec $(TARGET)/release/atelier serve --site-root $(TARGET)/site $(ARGS)

build: ## Builds the interface and the server
	@.ci/setup.sh run
	@.ci/site.sh
	@.ci/server.sh

cuda: ## Builds the worker for NVIDIA GPUs, target/release/atelier-cuda: make cuda CUDA_ARCHS='90 120'
	@CUDA_COMPUTE_CAP='$(CUDA_COMPUTE_CAP)' CUDA_ARCHS='$(CUDA_ARCHS)' .ci/cuda.sh

test: ## Runs every check and every test, in a real browser too
	@.ci/test.sh

end2end: build ## Runs only the browser tests: make end2end ARGS='--project phone'
	@.ci/setup.sh test
	@.ci/end2end.sh $(ARGS)

fuzz: ## Feeds one of the engine's readers hostile bytes: make fuzz ARGS='gguf 3600'
	@.ci/fuzz.sh $(ARGS)

bench: ## Measures the engine on a full-size model with random weights: make bench ARGS='--size 1024'
	@.ci/bench.sh $(ARGS)

bench-peers: ## The same beside other programs, run by run in turns: make bench-peers ARGS='--part unet --isa avx2'
	@.ci/bench.sh peers $(ARGS)

format: ## Formats the Rust code
	@cargo fmt --all

clean-cache: ## Removes the tools that set-up built (~/.cache/atelier)
	@rm -rf "$${ATELIER_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/atelier}"
