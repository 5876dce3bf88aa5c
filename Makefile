# Kiln. `make help` lists the targets.
# Variables: CC, CFLAGS (appended), SAN=address|thread, BUILD (output folder), PREFIX, DESTDIR.

BUILD   ?= build
PREFIX  ?= /usr/local
SAN     ?=
V       ?=
Q       := $(if $(V),,@)
say      = $(if $(V),,@printf '  %-5s %s\n' '$(1)' '$(2)';)

OS      := $(shell uname -s)
MACHINE ?= $(shell $(CC) -dumpmachine 2>/dev/null)
ARCH    := $(firstword $(subst -, ,$(MACHINE)))

WARN     = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror
OPT     ?= -O2
PKGS     = libcjson libxxhash
PKG_CFLAGS ?= $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   ?= $(shell pkg-config --libs $(PKGS) 2>/dev/null)
TEST_CFLAGS ?= $(shell pkg-config --cflags cmocka 2>/dev/null)
TEST_LIBS   ?= $(shell pkg-config --libs cmocka 2>/dev/null)
INCLUDES = -I. -Igraph -Iops -Isched -Icapture -Ikernels -Itools/gguf
ifneq ($(SAN),)
SANFLAGS = $(if $(filter address,$(SAN)),-fsanitize=address$(comma)undefined -fno-sanitize-recover=all,-fsanitize=$(SAN)) -fno-omit-frame-pointer
endif
comma   := ,
BASE     = -std=c11 -D_POSIX_C_SOURCE=200809L $(if $(filter Darwin,$(OS)),-D_DARWIN_C_SOURCE) -g -fPIC -fvisibility=hidden -fno-math-errno -MMD -MP
ALL_CFLAGS = $(BASE) $(OPT) $(WARN) $(SANFLAGS) $(INCLUDES) $(PKG_CFLAGS) $(CFLAGS)

# Kernels are compiled once per CPU level from the same source; KILN_LEVEL names the level (kernels/cpu/level.h).
LEVELS_x86_64  = base avx2 avx512
LEVELS_aarch64 = base
LEVELS_arm64   = base
LEVELS         = $(or $(LEVELS_$(ARCH)),base)
LEVEL_FLAGS_base   =
LEVEL_FLAGS_avx2   = -mavx2 -mfma -mf16c -mbmi2
LEVEL_FLAGS_avx512 = -mavx2 -mfma -mf16c -mbmi2 -mavx512f -mavx512bw -mavx512cd -mavx512dq -mavx512vl -mavx512vnni -mprefer-vector-width=512
KERNEL_OPT     ?= -O3 -fno-trapping-math -ffp-contract=fast

CORE_SRC   := $(wildcard graph/*.c kernels/*.c ops/*.c sched/*.c capture/*.c)
KERNEL_SRC := $(wildcard kernels/cpu/*.c)
GGUF_SRC   := $(wildcard tools/gguf/*.c)
LLM_SRC    := $(wildcard tools/llm/*.c tools/npy/*.c)
SUPPORT_SRC := $(wildcard tests/support/*.c)
TEST_SRC   := $(wildcard tests/*/test_*.c)
EXAMPLE_SRC := $(wildcard examples/*.c)

CORE_OBJ   := $(CORE_SRC:%.c=$(BUILD)/%.o) $(foreach l,$(LEVELS),$(KERNEL_SRC:%.c=$(BUILD)/%.$(l).o))
GGUF_OBJ   := $(GGUF_SRC:%.c=$(BUILD)/%.o)
LLM_OBJ    := $(LLM_SRC:%.c=$(BUILD)/%.o)
SUPPORT_OBJ := $(SUPPORT_SRC:%.c=$(BUILD)/%.o)
TESTS      := $(TEST_SRC:%.c=$(BUILD)/%)
EXAMPLES   := $(EXAMPLE_SRC:%.c=$(BUILD)/%)

LIB      = $(BUILD)/libkiln.a
GGUF_LIB = $(BUILD)/libkiln_gguf.a
LLM_LIB  = $(BUILD)/libkiln_llm.a
SUP_LIB  = $(BUILD)/libkiln_test.a
LINK_LIBS = $(PKG_LIBS) -lm -lpthread

.DEFAULT_GOAL := all
.PHONY: all
all: $(LIB) $(GGUF_LIB)  ## build the libraries

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<) $(CC) $(ALL_CFLAGS) $(EXTRA_$(firstword $(subst /, ,$<))) -c $< -o $@

define level_rule
$(BUILD)/kernels/cpu/%.$(1).o: kernels/cpu/%.c
	@mkdir -p $$(@D)
	$$(call say,CC,$$< ($(1))) $$(CC) $$(ALL_CFLAGS) $$(KERNEL_OPT) $$(LEVEL_FLAGS_$(1)) -DKILN_LEVEL=$(1) -c $$< -o $$@
endef
$(foreach l,$(LEVELS),$(eval $(call level_rule,$(l))))

EXTRA_tests = $(TEST_CFLAGS)

define archive
	@rm -f $@
	$(call say,AR,$@) $(or $(AR),ar) rcs $@ $^
endef
$(LIB): $(CORE_OBJ)
	$(archive)
$(GGUF_LIB): $(GGUF_OBJ)
	$(archive)
$(LLM_LIB): $(LLM_OBJ)
	$(archive)
$(SUP_LIB): $(SUPPORT_OBJ)
	$(archive)

$(BUILD)/tests/%: $(BUILD)/tests/%.o $(SUP_LIB) $(LLM_LIB) $(GGUF_LIB) $(LIB)
	$(call say,LD,$@) $(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $(filter-out $(LIB) $(GGUF_LIB) $(LLM_LIB) $(SUP_LIB),$^) $(SUP_LIB) $(LLM_LIB) $(GGUF_LIB) $(LIB) $(TEST_LIBS) $(LINK_LIBS)

.SECONDARY:
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
