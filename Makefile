# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
#
# "make help" lists the targets. What a target needs from Debian is installed
# first by tools/bootstrap.sh, if it is missing.
#
# A target that compiles calls make again after that: only then pkg-config and
# the libraries are sure to be there. KIND (plain, asan, cov, fuzz) is the
# flavour of such a build, which has build/$(KIND)/ for its own.

MAKEFLAGS += --no-print-directory
SHELL = /bin/bash

# ---- what a user may set ---------------------------------------------------

# run, demo: all on 127.0.0.1; nothing is written outside RUN_DIR and build/
SIP_PORT   ?= 5060
MSRP_PORT  ?= 2855
ADMIN_PORT ?= 8060
REDIS_PORT ?= 6390
RUN_DIR    ?= run
export SIP_PORT MSRP_PORT ADMIN_PORT REDIS_PORT RUN_DIR

# install
DESTDIR ?=
datadir ?= /usr/share
moddir  ?= $(shell dpkg -L kamailio 2>/dev/null | sed -n 's,/tm\.so$$,,p')

# unit, io: only the tests whose names contain T; integ: pytest's -k;
# fuzz: that target. TIME: seconds for each fuzz target
T    ?=
TIME ?= 20

# Debian's own python: another one in the PATH may lack Debian's packages
PYTHON ?= /usr/bin/python3
export PYTHON
export PYTHONDONTWRITEBYTECODE = 1

# ---- files -----------------------------------------------------------------

MOD  := modules/cpm_pf
KIND ?= plain
O    := build/$(KIND)

LUA_H   := $(MOD)/core/cpm_queue_lua.h
LUA_SRC := $(wildcard $(MOD)/core/lua/*.lua)

OPENAPI_H := $(MOD)/worker/admin_openapi.h
PAGE_H    := $(MOD)/worker/admin_page_data.h
PAGE_SRC  := $(wildcard $(MOD)/worker/page/*)

objects = $(patsubst %.c,$(O)/%.o,$(wildcard $(1)))
CORE    := $(call objects,$(MOD)/core/*.c)
IO      := $(call objects,$(MOD)/io/*.c)
WORKER  := $(call objects,$(MOD)/worker/*.c)
HELPERS := $(call objects,test/unit/check_helpers.c)
IO_HELP := $(filter-out $(O)/test/io/test_%,$(call objects,test/io/*.c))

programs = $(foreach c,$(wildcard $(1)),$(if \
	$(if $(T),$(findstring $(T),$(notdir $(c))),all),$(c:%.c=$(O)/%)))
UNIT  = $(call programs,test/unit/test_cpm_*.c)
IOT   = $(call programs,test/io/test_io_*.c)
FUZZ  = $(call programs,test/fuzz/fuzz_*.c)

# ---- flags -----------------------------------------------------------------

CC     = gcc
WERROR = -Werror
WARN   = -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes \
	-Wmissing-prototypes $(WERROR)

KIND_plain = -O2
KIND_asan  = -O1 -fsanitize=address,undefined -fno-sanitize-recover=all \
	-fno-omit-frame-pointer
KIND_cov   = -O0 --coverage
KIND_fuzz  = -O1 -fsanitize=fuzzer-no-link,address,undefined \
	-fno-sanitize-recover=all
FLAGS      = -g $(KIND_$(KIND)) $(WARN) -MMD -MP

# Ring 0 is plain C11, without what POSIX and GNU add.
RING0 = -std=c11 $(FLAGS) -I$(MOD)/core
POSIX = -std=c11 -D_GNU_SOURCE= $(FLAGS) -I$(MOD) -I$(MOD)/core -I$(MOD)/io
RING1 = $(POSIX) $(shell pkg-config --cflags $(PKG))
TESTS = -Itest/unit -DTEST_DATA_DIR='"$(CURDIR)/test/data"'

PKG        = hiredis libcurl libxml-2.0 libmicrohttpd jansson libevent libevent_openssl openssl
LIBS       = -Wl,--as-needed $(shell pkg-config --libs $(PKG))
CHECK_LIBS = $(shell pkg-config --libs check)

# ---- targets ---------------------------------------------------------------

.DEFAULT_GOAL := help
.SECONDARY:
.DELETE_ON_ERROR:

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16
	@echo "Variables: SIP_PORT=$(SIP_PORT) MSRP_PORT=$(MSRP_PORT)" \
		"ADMIN_PORT=$(ADMIN_PORT) REDIS_PORT=$(REDIS_PORT) RUN_DIR=$(RUN_DIR)"
	@echo "           DESTDIR= KSR_SRC=<source of Kamailio> T= TIME=$(TIME)"

.PHONY: run
run: ## start Redis, a database and Kamailio, play the demonstration, stay up
	@tools/bootstrap.sh run
	@$(MAKE) module
	@exec tools/stack.sh run

.PHONY: demo
demo: ## the same demonstration, then stop; fails unless bob got the message
	@tools/bootstrap.sh run
	@$(MAKE) module
	@exec tools/stack.sh demo

.PHONY: test
test: ## unit, io and integ
	@tools/bootstrap.sh test
	@export RESULTS=$(CURDIR)/build/results/test.$$$$; \
		for part in unit io integ; do $(MAKE) $$part || :; done; \
		tools/run-tests.sh sum unit io integ

.PHONY: unit
unit: ## tests of the pure code (ring 0); needs no Kamailio and no root
	@tools/bootstrap.sh unit
	@$(MAKE) unit-run

.PHONY: io
io: ## tests against a real Redis, without Kamailio (ring 1)
	@tools/bootstrap.sh io
	@$(MAKE) io-run

.PHONY: integ
integ: ## tests with a whole Kamailio and real peers
	@tools/bootstrap.sh test
	@$(MAKE) module
	@tools/run-tests.sh pytest integ test/integ $(if $(T),-k '$(T)')

.PHONY: chaos
chaos: ## MESSAGES while all that can break breaks: none is lost (SEED= TIME=)
	@tools/bootstrap.sh test
	@$(MAKE) module
	@$(PYTHON) test/chaos/chaos.py $(if $(SEED),--seed $(SEED)) \
		$(if $(MESSAGES),--messages $(MESSAGES)) \
		$(if $(RATE),--rate $(RATE)) \
		$(if $(filter-out file,$(origin TIME)),--time $(TIME))

.PHONY: module
module: ## build cpm_pf.so for the installed Kamailio, and cpm_pf_worker
	@tools/bootstrap.sh $(if $(KSR_SRC),libs,build)
	@$(MAKE) -s $(LUA_H)
	@src=$$(tools/ksr-headers.sh) && \
		$(MAKE) -C $(MOD) COREPATH="$$src" WORKER_DIR=$(CURDIR)/build/worker
	@tools/ksr-check.sh $(MOD)/cpm_pf.so

.PHONY: install
install: module ## install module, worker, configuration and documents (DESTDIR)
	@test -n '$(moddir)' || { echo "install: where are Kamailio's modules?" \
		"say moddir=<directory>" >&2; exit 1; }
	install -d $(DESTDIR)$(moddir) $(DESTDIR)$(datadir)/kamailio/cpm_pf/{cfg,sql} \
		$(DESTDIR)$(datadir)/doc/kamailio-cpm-modules
	install -m 644 $(MOD)/cpm_pf.so $(DESTDIR)$(moddir)
	$(if $(WORKER),install -m 755 $(MOD)/cpm_pf_worker $(DESTDIR)$(moddir))
	cp -R cfg/. $(DESTDIR)$(datadir)/kamailio/cpm_pf/cfg
	cp -R sql/. $(DESTDIR)$(datadir)/kamailio/cpm_pf/sql
	for f in README.md CHANGELOG.md doc/*.md $(MOD)/README; do \
		test ! -f $$f || install -m 644 $$f \
			$(DESTDIR)$(datadir)/doc/kamailio-cpm-modules; done
	install -m 644 $(MOD)/doc/*.xsd $(DESTDIR)$(datadir)/doc/kamailio-cpm-modules

.PHONY: asan
asan: ## unit and io tests under the address and undefined sanitizers
	@tools/bootstrap.sh io
	@export CK_TIMEOUT_MULTIPLIER=5 UBSAN_OPTIONS=print_stacktrace=1; \
		$(MAKE) KIND=asan unit-run io-run worker

.PHONY: fuzz
fuzz: ## fuzz every parser for TIME seconds, or only T=<target>
	@tools/bootstrap.sh fuzz
	@$(MAKE) KIND=fuzz CC=clang WERROR= fuzz-run

.PHONY: lint
lint: ## rules that machines keep: layers, format, banned calls, scripts
	@tools/bootstrap.sh lint
	@$(MAKE) -s $(LUA_H) $(OPENAPI_H) $(PAGE_H)
	@tools/lint.sh

.PHONY: format
format: ## bring all C files into the format that lint asks for
	@tools/bootstrap.sh lint
	@git ls-files -co --exclude-standard '$(MOD)/*.[ch]' 'test/*.[ch]' | \
		xargs -r clang-format -i

.PHONY: cov
cov: ## coverage of rings 0 and 1 by their tests: build/cov/html/
	@tools/bootstrap.sh cov
	@find build/cov -name '*.gcda' -delete 2>/dev/null || :
	@$(MAKE) KIND=cov unit-run io-run
	@mkdir -p build/cov/html
	@gcovr -r . --object-directory build/cov -f '$(MOD)/' \
		--html-details build/cov/html/index.html --print-summary

BENCHES = $(sort $(basename $(notdir $(wildcard test/bench/*.py))))

.PHONY: bench $(BENCHES)
bench: ## throughput and latency, side by side with other ways to queue
	@tools/bootstrap.sh bench
	@test -x test/bench/run.sh || { \
		echo "bench: there are no benchmarks yet (test/bench/run.sh)" >&2; exit 1; }
	@$(MAKE) module
	@test/bench/run.sh $(or $(filter $(BENCHES),$(MAKECMDGOALS)),$(T))

# "make bench queue": the part's name is a goal as well, and nothing to do
$(BENCHES):
	@test -n "$(filter bench,$(MAKECMDGOALS))" || { \
		echo "make bench $@" >&2; exit 1; }

.PHONY: faults
faults: ## the same faults with msilo and with cpm_pf: doc/fault-table.md
	@tools/bootstrap.sh test
	@$(MAKE) module
	@$(PYTHON) test/chaos/faults.py --markdown doc/fault-table.md

.PHONY: clean
clean: ## remove what was built; the fetched source of Kamailio stays
	@find build -mindepth 1 -maxdepth 1 ! -name 'kamailio-*' \
		-exec rm -rf {} + 2>/dev/null || :
	@find $(MOD) \( -name '*.[od]' -o -name '*.lst' -o -name '*.so' \) -delete
	@rm -rf $(MOD)/cpm_pf_worker $(MOD)/.worker $(LUA_H) $(OPENAPI_H) $(PAGE_H)

# ---- what they are made of -------------------------------------------------

.PHONY: unit-run io-run fuzz-run worker

unit-run: $(UNIT)
	@tools/run-tests.sh check unit $(UNIT)

io-run: $(IOT)
	@tools/run-tests.sh check io $(IOT)

fuzz-run: $(FUZZ)
	@tools/fuzz.sh $(TIME) $(FUZZ)

worker: $(if $(WORKER),$(O)/cpm_pf_worker)

LINK = @echo "  LD $@"; $(CC) -g $(KIND_$(KIND))

# From an archive a test takes what it needs, and one file that does not link
# yet is no obstacle to the tests of the others.
$(O)/libcore.a: $(CORE)
	@rm -f $@ && ar rcs $@ $^

$(UNIT): %: %.o $(HELPERS) $(O)/libcore.a
	$(LINK) $^ $(CHECK_LIBS) -o $@

$(IOT): %: %.o $(IO_HELP) $(HELPERS) $(IO) $(O)/libcore.a
	$(LINK) $^ $(LIBS) $(CHECK_LIBS) -o $@

$(FUZZ): %: %.o $(O)/libcore.a
	$(LINK) -fsanitize=fuzzer $^ $(FUZZ_LIBS) -o $@

# The fuzzed parsers that are not ring 0.
XML_IO = $(O)/$(MOD)/io/io_actions.o $(O)/$(MOD)/io/io_reginfo.o
XML_FUZZ = $(O)/test/fuzz/fuzz_actions $(O)/test/fuzz/fuzz_reginfo
$(XML_FUZZ): $(XML_IO)
$(XML_FUZZ): FUZZ_LIBS = $(O)/libcore.a $(LIBS)
$(O)/test/fuzz/fuzz_admin_url: $(O)/$(MOD)/worker/admin_url.o
$(O)/test/fuzz/fuzz_admin_url: FUZZ_LIBS = $(O)/libcore.a

# Not for the worker: it reads no XML, and gets no library for it.
$(O)/cpm_pf_worker: $(WORKER) $(filter-out $(XML_IO),$(IO)) $(O)/libcore.a
	$(LINK) $^ $(LIBS) -o $@

$(O)/$(MOD)/core/%.o: $(MOD)/core/%.c Makefile | $(LUA_H)
	@echo "  CC $<"
	@mkdir -p $(@D)
	@$(CC) $(RING0) -c $< -o $@

$(O)/$(MOD)/%.o: $(MOD)/%.c Makefile | $(LUA_H)
	@echo "  CC $<"
	@mkdir -p $(@D)
	@$(CC) $(RING1) -c $< -o $@

$(O)/test/io/%.o: test/io/%.c Makefile | $(LUA_H)
	@echo "  CC $<"
	@mkdir -p $(@D)
	@$(CC) $(RING1) $(TESTS) -c $< -o $@

$(O)/test/%.o: test/%.c Makefile | $(LUA_H)
	@echo "  CC $<"
	@mkdir -p $(@D)
	@$(CC) $(POSIX) $(TESTS) -c $< -o $@

$(OPENAPI_H): $(MOD)/doc/openapi.json $(MOD)/worker/text2h.awk
	@awk -v name=admin_openapi -f $(MOD)/worker/text2h.awk $< >$@.tmp && \
		mv $@.tmp $@

$(O)/$(MOD)/worker/admin_api.o: $(OPENAPI_H)

$(PAGE_H): $(MOD)/worker/text2h.awk $(PAGE_SRC)
	@for f in $(PAGE_SRC); do awk -v name=page_$$(basename $$f | tr . _) \
		-f $< $$f || exit; done >$@.tmp && mv $@.tmp $@

$(O)/$(MOD)/worker/admin_page.o: $(PAGE_H)

$(LUA_H): $(MOD)/core/lua2h.awk $(LUA_SRC)
	@awk -f $< $(LUA_SRC) </dev/null >$@.tmp && mv $@.tmp $@

-include $(patsubst %.o,%.d,$(CORE) $(IO) $(WORKER) $(HELPERS) $(IO_HELP)) \
	$(addsuffix .d,$(UNIT) $(IOT) $(FUZZ))
