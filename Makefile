# SPDX-License-Identifier: Apache-2.0
#
# One non-recursive Makefile. Objects go to $(O), never beside the sources.
#
#   make                 kmtlsd, kmtls and the BPF objects
#   make unit            build and run the unit tests (TAP)
#   make agent           the clients of SPIFFE agents against servers on this machine (TAP)
#   make fuzz            build the fuzzers with clang and run each for a few seconds (TAP)
#   make lint            clang-format, cppcheck, shellcheck
#   make install         PREFIX, DESTDIR as usual
#   make help            what else there is
#
# O=DIR objects (build), V=1 shows commands, SAN=1 ASan and UBSan, CC, CLANG, BPFTOOL, OPENSSL=DIR another OpenSSL
# than the system's, as vmtest/openssl makes it: what is built runs with that one, from there.

O ?= build
V ?= 0
SAN ?= 0
FUZZ ?= 0
OPENSSL ?=
PREFIX ?= /usr/local
SBINDIR ?= $(PREFIX)/sbin
MANDIR ?= $(PREFIX)/share/man
UNITDIR ?= $(PREFIX)/lib/systemd/system
COMPLETIONDIR ?= $(PREFIX)/share/bash-completion/completions
EXAMPLEDIR ?= $(PREFIX)/share/doc/kmtls/examples
DESTDIR ?=

# make's own default is cc
ifeq ($(origin CC),default)
CC := gcc
endif
CLANG ?= clang
LLVM_STRIP ?= llvm-strip
# Debian puts bpftool where only root's PATH looks.
BPFTOOL ?= $(or $(shell command -v bpftool 2>/dev/null),/usr/sbin/bpftool)
PKG_CONFIG ?= pkg-config
PROTOC_C ?= protoc-c
VERSION := $(shell sed -n 's/^kmtls \([0-9.]*\).*/\1/p;T;q' NEWS 2>/dev/null)

DAEMON_LIBS := libbpf libnl-3.0 libssl libcrypto libcyaml yaml-0.1 jansson libcap-ng libseccomp \
	       libnghttp2 libprotobuf-c
CLI_LIBS := jansson libbpf libcrypto yaml-0.1
PACKAGES := $(sort $(DAEMON_LIBS) $(CLI_LIBS))
UNIT_LIBS := cmocka

CFLAGS ?= -O2 -g
CFLAGS += -std=gnu11 -Wall -Wextra -Werror -Wmissing-prototypes -Wstrict-prototypes -Wshadow \
	  -Wno-unused-parameter -fno-common -D_GNU_SOURCE -DKMTLS_VERSION='"$(VERSION)"'
CPPFLAGS += -Iinclude -Iuserspace/lib -Iuserspace/kmtlsd -I$(O)/bpf -I$(O)/proto \
	    $(shell $(PKG_CONFIG) --cflags $(PACKAGES))
LDFLAGS += -pthread -Wl,-z,relro,-z,now
CFLAGS += -pthread -fstack-protector-strong -fPIE
LDFLAGS += -pie
# Sentences for people are cut to their buffer on purpose; clang has no such warning.
CFLAGS += $(if $(findstring clang,$(shell $(CC) --version 2>/dev/null)),,-Wno-format-truncation)
ifeq ($(SAN),1)
CFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
LDFLAGS += -fsanitize=address,undefined
else
CPPFLAGS += -D_FORTIFY_SOURCE=2
endif

ifeq ($(FUZZ),1)
CFLAGS += -fsanitize=fuzzer-no-link
endif

ifneq ($(OPENSSL),)
ifeq ($(wildcard $(OPENSSL)/lib/libssl.so.3),)
$(error OPENSSL=$(OPENSSL) has no lib/libssl.so.3: see vmtest/openssl)
endif
OPENSSL_INCLUDE := -I$(abspath $(OPENSSL))/include
CPPFLAGS := $(OPENSSL_INCLUDE) $(CPPFLAGS)
LDFLAGS += -L$(abspath $(OPENSSL))/lib -Wl,-rpath,$(abspath $(OPENSSL))/lib
endif

BPF_ARCH := $(subst x86_64,x86,$(shell uname -m))
# The multiarch include directory: asm/types.h lives there on Debian.
BPF_CFLAGS := -target bpf -mcpu=v3 -O2 -g -std=gnu11 -Wall -Wextra -Werror -Wno-unused-parameter \
	      -Wno-address-of-packed-member -fno-strict-aliasing -Iinclude -Ibpf \
	      -I/usr/include/$(shell uname -m)-linux-gnu -D__TARGET_ARCH_$(BPF_ARCH)

ifeq ($(V),1)
Q :=
say = @:
else
Q := @
say = @printf '  %-8s %s\n'
MAKEFLAGS += --no-print-directory
endif

BPF_SOURCES := $(wildcard bpf/*.bpf.c)
BPF_OBJECTS := $(BPF_SOURCES:%.bpf.c=$(O)/%.bpf.o)
SKELETONS := $(BPF_SOURCES:%.bpf.c=$(O)/%.skel.h)
# Messages of SPIFFE agents.
PROTO_SOURCES := $(wildcard userspace/kmtlsd/proto/*.proto)
PROTO_HEADERS := $(PROTO_SOURCES:userspace/kmtlsd/%.proto=$(O)/%.pb-c.h)
PROTO_OBJECTS := $(PROTO_HEADERS:%.h=%.o)

LIB_SOURCES := $(wildcard userspace/lib/*.c)
DAEMON_SOURCES := $(wildcard userspace/kmtlsd/*.c)
CLI_SOURCES := $(wildcard userspace/kmtls/*.c)
UNIT_SOURCES := $(wildcard selftests/unit/test_*.c)
UNIT_SCRIPTS := $(wildcard selftests/unit/test_*.py)
UNIT_HELPERS := $(filter-out $(UNIT_SOURCES),$(wildcard selftests/unit/*.c))
FUZZ_SOURCES := $(wildcard selftests/fuzz/fuzz_*.c)
TOOL_SOURCES := $(wildcard selftests/vm/tools/*.c)

objects = $(patsubst %.c,$(O)/%.o,$(1))
LIB_OBJECTS := $(call objects,$(LIB_SOURCES))
DAEMON_OBJECTS := $(call objects,$(DAEMON_SOURCES)) $(PROTO_OBJECTS)
CLI_OBJECTS := $(call objects,$(CLI_SOURCES))
UNIT_OBJECTS := $(call objects,$(UNIT_SOURCES) $(UNIT_HELPERS))
UNIT_TESTS := $(UNIT_SOURCES:selftests/unit/%.c=$(O)/unit/%)
FUZZERS := $(FUZZ_SOURCES:selftests/fuzz/%.c=$(O)/%)
AGENT_SOURCES := $(wildcard selftests/agent/*.c)
AGENT_SCRIPTS := $(wildcard selftests/agent/*/*.py)
TOOLS := $(TOOL_SOURCES:selftests/vm/tools/%.c=$(O)/tools/%)
PRELOAD_SOURCES := $(wildcard selftests/vm/preload/*.c)
PRELOADS := $(PRELOAD_SOURCES:selftests/vm/preload/%.c=$(O)/tools/%.so)
PLUGIN_SOURCES := $(wildcard vmtest/bench.d/plugin/*.c)
PLUGINS := $(PLUGIN_SOURCES:vmtest/bench.d/plugin/%.c=$(O)/plugin/%.so)

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all bpf tools agent unit unit-build fuzz fuzz-build lint format install clean help FORCE

all: $(O)/kmtlsd $(O)/kmtls bpf tools

bpf: $(BPF_OBJECTS)
tools: $(TOOLS) $(PRELOADS) $(PLUGINS)

# A change of flags, compiler or version rebuilds: the objects depend on this file.
$(O)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(subst ','\'',$(CC) $(CFLAGS) $(CPPFLAGS) $(LDFLAGS) $(BPF_CFLAGS))' | \
		cmp -s - $@ || echo '$(subst ','\'',$(CC) $(CFLAGS) $(CPPFLAGS) $(LDFLAGS) $(BPF_CFLAGS))' > $@

$(O)/%.bpf.o: %.bpf.c $(O)/flags
	@mkdir -p $(@D)
	$(say) BPF $@
	$(Q)$(CLANG) $(BPF_CFLAGS) -MMD -MP -MF $(@:.o=.d) -MT $@ -c $< -o $@
	$(Q)$(LLVM_STRIP) -g $@

$(O)/%.skel.h: $(O)/%.bpf.o
	$(say) SKEL $@
	$(Q)$(BPFTOOL) gen skeleton $< name $(subst -,_,$(notdir $*))_bpf > $@

$(O)/proto/%.pb-c.h $(O)/proto/%.pb-c.c: userspace/kmtlsd/proto/%.proto
	@mkdir -p $(@D)
	$(say) PROTO $@
	$(Q)$(PROTOC_C) --c_out=$(O)/proto -Iuserspace/kmtlsd/proto $<

$(O)/proto/%.pb-c.o: $(O)/proto/%.pb-c.c $(O)/proto/%.pb-c.h $(O)/flags
	$(say) CC $@
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c $< -o $@

$(O)/%.o: %.c $(O)/flags | $(SKELETONS) $(PROTO_HEADERS)
	@mkdir -p $(@D)
	$(say) CC $@
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -MF $(@:.o=.d) -c $< -o $@

$(O)/kmtlsd: $(DAEMON_OBJECTS) $(LIB_OBJECTS)
	$(say) LINK $@
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(shell $(PKG_CONFIG) --libs $(DAEMON_LIBS))

$(O)/kmtls: $(CLI_OBJECTS) $(LIB_OBJECTS)
	$(say) LINK $@
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(shell $(PKG_CONFIG) --libs $(CLI_LIBS))

$(O)/unit/%: $(O)/selftests/unit/%.o $(call objects,$(UNIT_HELPERS)) $(LIB_OBJECTS) \
	     $(filter-out $(O)/userspace/kmtlsd/main.o,$(DAEMON_OBJECTS))
	@mkdir -p $(@D)
	$(say) LINK $@
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ \
		$(shell $(PKG_CONFIG) --libs $(DAEMON_LIBS) $(UNIT_LIBS))

# Small programs the VM tests run inside the guest; they stand alone.
$(O)/tools/%: $(O)/selftests/vm/tools/%.o
	@mkdir -p $(@D)
	$(say) LINK $@
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -lcrypto

# What vmtest/bench loads into programs before their libraries. These are the system's.
$(O)/tools/%.so: selftests/vm/preload/%.c $(O)/flags
	@mkdir -p $(@D)
	$(say) LINK $@
	$(Q)$(CC) $(filter-out $(OPENSSL_INCLUDE),$(CPPFLAGS)) $(filter-out -fPIE,$(CFLAGS)) -Wno-missing-prototypes -fPIC -shared -o $@ $< -lssl -lcrypto

# What vmtest/profile loads into QEMU: no sanitizer, whatever the rest has.
$(O)/plugin/%.so: vmtest/bench.d/plugin/%.c $(O)/flags
	@mkdir -p $(@D)
	$(say) LINK $@
	$(Q)$(CC) $(filter-out -fPIE -fsanitize=% -fno-sanitize-%,$(CFLAGS)) -MMD -MP -MF $(@:.so=.d) -MT $@ \
		-fvisibility=hidden -fPIC -shared -o $@ $<

# Drives the daemon's clients of SPIFFE agents (selftests/agent/run).
$(O)/agentctl: $(call objects,$(AGENT_SOURCES)) $(LIB_OBJECTS) \
	       $(filter-out $(O)/userspace/kmtlsd/main.o,$(DAEMON_OBJECTS))
	$(say) LINK $@
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(shell $(PKG_CONFIG) --libs $(DAEMON_LIBS))

agent: $(O)/agentctl
	$(Q)selftests/agent/run --agentctl $<

unit-build: $(UNIT_TESTS)

unit: unit-build $(O)/kmtls
	@status=0; for t in $(UNIT_TESTS); do \
		echo "# $${t##*/}"; CMOCKA_MESSAGE_OUTPUT=TAP $$t || status=1; \
	done; \
	for t in $(UNIT_SCRIPTS); do echo "# $${t##*/}"; $$t $(O)/kmtls || status=1; done; \
	exit $$status

# Only with what selftests/fuzz/run says to make: CC=clang SAN=1 FUZZ=1.
$(O)/fuzz_%: $(O)/selftests/fuzz/fuzz_%.o $(LIB_OBJECTS) \
	     $(filter-out $(O)/userspace/kmtlsd/main.o,$(DAEMON_OBJECTS))
	$(say) LINK $@
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ \
		$(shell $(PKG_CONFIG) --libs $(DAEMON_LIBS))

fuzz-build: $(FUZZERS)

fuzz:
	$(Q)selftests/fuzz/run

C_FILES := $(LIB_SOURCES) $(DAEMON_SOURCES) $(CLI_SOURCES) $(UNIT_SOURCES) $(UNIT_HELPERS) \
	   $(TOOL_SOURCES) $(PRELOAD_SOURCES) $(PLUGIN_SOURCES) $(FUZZ_SOURCES) $(AGENT_SOURCES) $(BPF_SOURCES) $(wildcard bpf/*.h include/kmtls/*.h \
	   userspace/*/*.h selftests/unit/*.h selftests/fuzz/*.h selftests/vm/tools/*.h selftests/agent/*.h)
SHELL_FILES := $(shell grep -rlE '^\#!(/usr)?/bin/(env )?(ba)?sh' scripts selftests vmtest .ci 2>/dev/null) \
	       $(wildcard selftests/infra/*.bash)
PYTHON_FILES := $(shell grep -rlE '^\#!/usr/bin/python3' scripts selftests vmtest 2>/dev/null) \
		$(wildcard selftests/vm/*/*.py vmtest/bench.d/*/*.py vmtest/bench.d/*/*/*.py)

# Versions of clang-format disagree about details; this one decides.
FORMAT_VERSION := 14

lint:
	$(say) FORMAT clang-format
	$(Q)if clang-format --version | grep -q ' version $(FORMAT_VERSION)\.'; then \
		clang-format --dry-run -Werror $(C_FILES); \
	else \
		echo "lint: layout is not checked: clang-format is not version $(FORMAT_VERSION)"; \
	fi
	$(say) CPPCHECK userspace
	$(Q)cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,performance,portability \
		--inline-suppr --suppress=missingIncludeSystem --suppress=unknownMacro \
		--suppress=nullPointerRedundantCheck -D__x86_64__ -DKMTLS_VERSION='"0"' \
		-Iinclude -Iuserspace/lib -Iuserspace/kmtlsd $(LIB_SOURCES) $(DAEMON_SOURCES) \
		$(CLI_SOURCES) $(TOOL_SOURCES) $(AGENT_SOURCES)
	$(say) REASONS docs/reasons.md
	$(Q)scripts/gen-reasons --check
	$(say) FLOWS docs/flows.md
	$(Q)scripts/gen-flows --check
	$(say) METRICS docs/metrics.md
	$(Q)scripts/gen-metrics --check
	$(say) MUTANTS selftests/vm/mutate
	$(Q)selftests/vm/mutate --check
	$(say) MAPS docs/maps.md
	$(Q)scripts/gen-maps --check
	$(say) SHELL shellcheck
	$(Q)shellcheck -x $(SHELL_FILES)
	$(say) PYTHON pyflakes3
	$(Q)pyflakes3 $(PYTHON_FILES) $(AGENT_SCRIPTS)

format:
	$(Q)clang-format -i $(C_FILES)

install: all
	install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(MANDIR)/man5 $(DESTDIR)$(MANDIR)/man7 \
		$(DESTDIR)$(MANDIR)/man8 $(DESTDIR)$(COMPLETIONDIR) $(DESTDIR)$(UNITDIR)
	install -m 0755 $(O)/kmtlsd $(O)/kmtls $(DESTDIR)$(SBINDIR)/
	install -m 0644 $(wildcard man/*.5) $(DESTDIR)$(MANDIR)/man5/
	install -m 0644 $(wildcard man/*.7) $(DESTDIR)$(MANDIR)/man7/
	install -m 0644 $(wildcard man/*.8) $(DESTDIR)$(MANDIR)/man8/
	install -m 0644 completions/kmtls.bash $(DESTDIR)$(COMPLETIONDIR)/kmtls
	sed 's,/usr/sbin/,$(SBINDIR)/,' examples/kmtlsd.service > $(DESTDIR)$(UNITDIR)/kmtlsd.service
	chmod 0644 $(DESTDIR)$(UNITDIR)/kmtlsd.service
	install -d $(DESTDIR)$(EXAMPLEDIR)
	install -m 0644 examples/mesh.yaml examples/kmtlsd-spire.yaml $(DESTDIR)$(EXAMPLEDIR)/

clean:
	rm -rf $(O)/bpf $(O)/proto $(O)/userspace $(O)/selftests $(O)/unit $(O)/tools $(O)/kmtlsd $(O)/kmtls $(O)/agentctl $(O)/flags

help:
	@sed -n '3,/^$$/s/^# \{0,1\}//p' Makefile

-include $(patsubst %.o,%.d,$(LIB_OBJECTS) $(DAEMON_OBJECTS) $(CLI_OBJECTS) $(UNIT_OBJECTS) \
	$(call objects,$(TOOL_SOURCES) $(FUZZ_SOURCES) $(AGENT_SOURCES)) $(BPF_OBJECTS))
