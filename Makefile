# The only entry points. Each one finds or installs what it needs, says what it does, and is quick the second time.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup run test lint type attack bench docs presets lock clean

help:  ## show this list
	@sed -nE 's/^([a-z]+):.*## (.*)$$/  make \1\t\2/p' Makefile | expand -t 18

setup:  ## find or install Python, uv, Rust and the pinned packages; build capsule into .venv
	@scripts/setup

run: setup  ## a real job: an agent-like script works on a real project, under a policy, on the record
	@scripts/demo/run

test: setup  ## everything: lint, types, Rust, Python, again as an ordinary user when root
	@scripts/test

lint: setup  ## ruff, rustfmt and clippy
	@scripts/check lint

type: setup  ## mypy --strict
	@scripts/check type

attack: setup  ## the attack corpus against the default policy on this machine
	@.venv/bin/capsule attack

bench: setup  ## measure capsule and its peers in the same run; rewrites docs/benchmarks
	@scripts/bench

docs: setup  ## regenerate docs/reference and CHANGELOG.md
	@scripts/docs

presets: setup  ## real programs (git, pip, uv, npm, pytest, cargo, node, gcc) under their presets
	@scripts/check presets

lock: setup  ## refresh requirements.lock and Cargo.lock to the newest allowed versions
	@scripts/lock

clean:  ## remove everything that setup and the tests made
	@rm -rf .venv .tools .build .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis capsule/native/target
	@echo "clean: done"
