# SPDX-License-Identifier: MIT
# The front door: a thin layer over meson.  `make help` lists what there is.

BUILD  ?= build
PREFIX ?= /usr/local
IMAGE  ?=
RW     ?=

FREEHOLD = $(BUILD)/cli/freehold

.PHONY: help build run test test-xen bench bench-xen install clean check deps
.DEFAULT_GOAL := help

help:
	@echo "make build            build everything into $(BUILD)/ (installs nothing)"
	@echo "make run              install what is missing, build, show the whole thing"
	@echo "make run IMAGE=path   the same with your own disk image, read-only"
	@echo "make run IMAGE=path RW=1    ... and one guest may write to it"
	@echo "make test             install what is missing, build, run every test"
	@echo "make test-xen         only those inside real Xen, in QEMU"
	@echo "make bench            measure; one row per claim (QUICK=1: in a minute)"
	@echo "make bench XEN=1      ... and on real Xen, emulated (minutes more)"
	@echo "make bench-xen        freehold, xen-blkback and qdisk side by side on real Xen,"
	@echo "                      emulated; PROFILE=1: where the instructions go"
	@echo "make check            the style and layer checks alone"
	@echo "make check-NAME       one of them: scripts/check-NAME"
	@echo "make install          into PREFIX=$(PREFIX), below DESTDIR if set"
	@echo "make deps             install every package that any target needs"
	@echo "make clean            remove $(BUILD)/"

$(BUILD)/build.ninja:
	@scripts/deps --check build
	@meson setup $(BUILD) --prefix $(PREFIX)

build: $(BUILD)/build.ninja
	@ninja --quiet -C $(BUILD)

run:
	@scripts/deps build run
	@$(MAKE) --no-print-directory build
	@exec $(FREEHOLD) run $(if $(RW),--rw) $(if $(IMAGE),-- '$(IMAGE)')

test:
	@scripts/deps build run test xen
	@scripts/test-run $(BUILD)

test-xen:
	@scripts/deps build run test xen
	@STAGES=xen scripts/test-run $(BUILD)

bench:
	@scripts/deps build run bench $(if $(XEN),xen)
	@$(MAKE) --no-print-directory build
	@exec bench/run --build $(BUILD) $(if $(QUICK),--quick) \
		$(if $(XEN),--xen)

bench-xen:
	@scripts/deps build run xen
	@$(MAKE) --no-print-directory build
	@exec scripts/bench-xen --build $(BUILD) $(PART:%=--part %) \
		$(if $(PROFILE),--profile --functions 20)

check:
	@for c in scripts/check-*; do echo "$$c"; "$$c" || exit 1; done

check-%:
	@scripts/check-$*

deps:
	@scripts/deps build run test bench xen

install: build
	@meson install -C $(BUILD) --no-rebuild

clean:
	rm -rf $(BUILD)
