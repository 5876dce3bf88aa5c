# Kiln. `make help` lists the targets.
# Variables: CC, CFLAGS and LDFLAGS (appended), OPT (-O2), SAN=address|thread, BUILD (output folder), PREFIX,
# DESTDIR, STRICT=1 (warnings are errors), V=1 (show commands). For other systems' libraries and tools: AR, CXX,
# PKG_CONFIG, PKG_CFLAGS (xxHash), TEST_CFLAGS and TEST_LIBS (cmocka, cJSON), RUNNER (an emulator that
# check-arm64-run runs tests in). For work on Kiln: KERNEL_OPT, WARN, SUBSET (see check-asan-subset), KILN_* (tests' own).
override SETTABLE := CC CFLAGS LDFLAGS OPT SAN BUILD PREFIX DESTDIR STRICT V AR CXX PKG_CONFIG PKG_CFLAGS \
    TEST_CFLAGS TEST_LIBS RUNNER KERNEL_OPT WARN SUBSET KILN_% SHELL MAKE MAKEFLAGS PATH

# A make that starts this one hands down all that was set on its command line, and a VERSION or LIB there is not ours.
# (What `undefine` needs, make has had since 3.82; macOS has 3.81.)
ifneq ($(filter undefine,$(.FEATURES)),)
$(foreach v,$(filter-out $(SETTABLE),$(.VARIABLES)),$(if $(filter command,$(origin $v)),$(eval override undefine $v)))
endif

BUILD   ?= build
PREFIX  ?= /usr/local
SAN     ?=
V       ?=
STRICT  ?=
comma   := ,
Q       := $(if $(V),,@)
say      = $(if $(V),,@printf '  %-5s %s\n' '$(1)' '$(2)';)

VERSION  = 0.1.0
SOMAJOR  = 0
OS      := $(shell uname -s)
# Where there is no compiler yet, `make deps install` gets this machine's.
MACHINE := $(or $(shell $(CC) -dumpmachine 2>/dev/null),$(shell uname -m))
ARCH    := $(firstword $(subst -, ,$(MACHINE)))

# ---- flags -----------------------------------------------------------------------------------------------------

# Warnings are errors where we test, and not where users build: their compilers may know other warnings.
WARN     = -Wall -Wextra -Wpedantic -Wshadow -Wconversion $(if $(STRICT),-Werror)
OPT     ?= -O2
PKG_CONFIG  ?= pkg-config
# Asked once, and not before it is needed: `make deps all` has the packages only then.
# (Without arguments make expands it where the environment has a variable of this name.)
once         = $(if $(1),$(eval $(1) := $(shell $(PKG_CONFIG) $(2) 2>/dev/null))$($(1)))
# xxHash is a header that is compiled in (graph/hash.h): the library needs no other.
PKG_CFLAGS  ?= $(call once,PKG_CFLAGS,--cflags libxxhash)
TEST_CFLAGS ?= $(call once,TEST_CFLAGS,--cflags cmocka libcjson)
TEST_LIBS   ?= $(call once,TEST_LIBS,--libs cmocka libcjson)
DEBUG    = -g
INCLUDES = -I. -Igraph -Iops -Isched -Icapture -Ikernels -Itools/gguf -Itools/llm
SANFLAGS_address = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
SANFLAGS_thread  = -fsanitize=thread -fno-omit-frame-pointer
SANFLAGS = $(SANFLAGS_$(SAN))
BASE     = -std=c11 -D_POSIX_C_SOURCE=200809L $(if $(filter Darwin,$(OS)),-D_DARWIN_C_SOURCE) $(DEBUG) -fPIC \
           -fvisibility=hidden -fno-math-errno -MMD -MP
ALL_CFLAGS = $(BASE) $(OPT) $(WARN) $(SANFLAGS) $(INCLUDES) $(PKG_CFLAGS) $(CFLAGS)

# Kernels are compiled once per CPU level from the same source; KILN_LEVEL names the level (kernels/cpu/level.h).
LEVELS_x86_64  = base avx2 avx512
LEVELS         = $(or $(LEVELS_$(ARCH)),base)
LEVEL_FLAGS_avx2   = -mavx2 -mfma -mf16c -mbmi2
LEVEL_FLAGS_avx512 = $(LEVEL_FLAGS_avx2) -mavx512f -mavx512bw -mavx512cd -mavx512dq -mavx512vl -mavx512vnni \
                     -mprefer-vector-width=512
# gcc notes that vectors wider than the machine's are passed otherwise since gcc 4.6. Kernels pass them inline only.
NO_NOTES        = -Wno-psabi
# Sanitizers instrument every access: unrolled kernels would take minutes to compile.
KERNEL_OPT     ?= $(if $(SAN),-O1,-O3) -fno-trapping-math -ffp-contract=fast

# ---- files -----------------------------------------------------------------------------------------------------

CORE_SRC    := $(wildcard graph/*.c kernels/*.c ops/*.c sched/*.c capture/*.c)
KERNEL_SRC  := $(wildcard kernels/cpu/*.c)
GGUF_SRC    := $(wildcard tools/gguf/*.c)
LLM_SRC     := $(wildcard tools/llm/*.c tools/npy/*.c)
COMMAND_SRC := $(wildcard tools/kiln/*.c)
SUPPORT_SRC := $(wildcard tests/support/*.c)
BENCH_SRC   := $(filter-out tests/bench/sweep.c,$(wildcard tests/bench/*.c))
TEST_SRC    := $(wildcard tests/*/test_*.c)
SHELL_TESTS := $(wildcard tests/*/test_*.sh)
FUZZ_SRC    := $(wildcard tests/fuzz/fuzz_*.c)
EXAMPLE_SRC := $(wildcard examples/*.c)
HEADERS     := $(wildcard graph/kiln*.h kernels/kiln*.h ops/kiln*.h sched/kiln*.h capture/kiln*.h tools/gguf/kiln*.h)
FORMATTED   := $(wildcard $(foreach d,graph kernels kernels/cpu ops sched capture tools/* tests/* examples,$d/*.c $d/*.h))

CORE_OBJ    := $(CORE_SRC:%.c=$(BUILD)/%.o) $(foreach l,$(LEVELS),$(KERNEL_SRC:%.c=$(BUILD)/%.$(l).o))
TESTS       := $(TEST_SRC:%.c=$(BUILD)/%)
EXAMPLES    := $(EXAMPLE_SRC:%.c=$(BUILD)/%)

LIB      = $(BUILD)/libkiln.a
GGUF_LIB = $(BUILD)/libkiln_gguf.a
LLM_LIB  = $(BUILD)/libkiln_llm.a
SUP_LIB  = $(BUILD)/libkiln_test.a
ifeq ($(OS),Darwin)
SHARED   = $(BUILD)/libkiln.$(SOMAJOR).dylib
SHARED_FLAGS = -dynamiclib -install_name '$(PREFIX)/lib/$(notdir $(SHARED))' -Wl,-exported_symbols_list,tools/exports.macos
SHARED_LINK  = libkiln.dylib
else
SHARED   = $(BUILD)/libkiln.so.$(SOMAJOR)
SHARED_FLAGS = -shared -Wl,-soname,$(notdir $(SHARED)) -Wl,--version-script=tools/exports.map -Wl,--no-undefined
SHARED_LINK  = libkiln.so
endif
KILN     = $(BUILD)/kiln
LINK_LIBS = -lm -lpthread

# For targets that start make again: all processors, unless it was started with -j, for then its jobs are shared.
PROCESSORS = $(or $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null),2)
SUBMAKE    = --no-print-directory $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(PROCESSORS))

# What is named beside `deps` needs what it installs. (Builds that a target starts itself are still parallel.)
ifneq ($(filter deps,$(MAKECMDGOALS)),)
.NOTPARALLEL:
endif

.DEFAULT_GOAL := all
.PHONY: all help deps demo examples check check-run check-arm64-run check-subset check-asan-subset check-tsan-subset check-asan check-tsan check-arm64 check-full oracle differential bench-executor bench-static bench-tuning mutate fuzz fuzz-commands schedules interleavings json-libraries \
        lint format format-check includes install uninstall clean

help:  ## this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' Makefile

all: $(LIB) $(GGUF_LIB) $(SHARED) $(KILN)  ## libraries and the kiln command, in build/

# ---- rules -----------------------------------------------------------------------------------------------------

# The compiler's message would be "xxhash.h: No such file". (PKG_CFLAGS from outside: the user knows better.)
.PHONY: need
need:
	@$(if $(filter file,$(origin PKG_CFLAGS)),sh tools/deps.sh --check libxxhash)

$(BUILD)/%.o: %.c | need
	@mkdir -p $(@D)
	$(call say,CC,$<) $(CC) $(ALL_CFLAGS) $(EXTRA_$(firstword $(subst /, ,$<))) -c $< -o $@

# Where variables are, in code that is all inlined and unrolled, takes as long as compiling it and tells a debugger
# little. Lines are enough there; CFLAGS=-g has it all.
$(BUILD)/kernels/cpu/%.o: DEBUG = -g1
define level_rule
$(BUILD)/kernels/cpu/%.$(1).o: kernels/cpu/%.c | need
	@mkdir -p $$(@D)
	$$(call say,CC,$$< ($(1))) $$(CC) $$(ALL_CFLAGS) $$(KERNEL_OPT) $$(LEVEL_FLAGS_$(1)) -DKILN_LEVEL=$(1) $(NO_NOTES) -c $$< -o $$@
endef
$(foreach l,$(LEVELS),$(eval $(call level_rule,$(l))))

EXTRA_tests = -Itests/support $(TEST_CFLAGS)
$(BUILD)/tests/ops/test_fast_math.o: EXTRA_tests += -ffast-math

define archive
	@rm -f $@
	$(call say,AR,$@) $(or $(AR),ar) rcs $@ $^
endef
$(LIB): $(CORE_OBJ)
	$(archive)
$(GGUF_LIB): $(GGUF_SRC:%.c=$(BUILD)/%.o)
	$(archive)
$(LLM_LIB): $(LLM_SRC:%.c=$(BUILD)/%.o)
	$(archive)
$(SUP_LIB): $(SUPPORT_SRC:%.c=$(BUILD)/%.o)
	$(archive)
$(SHARED): $(CORE_OBJ) $(wildcard tools/exports.*)
	$(call say,LD,$@) $(CC) $(SANFLAGS) $(LDFLAGS) $(SHARED_FLAGS) -o $@ $(filter %.o,$^) $(LINK_LIBS)

link = $(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(1) $(LINK_LIBS)

$(KILN): $(COMMAND_SRC:%.c=$(BUILD)/%.o) $(LLM_LIB) $(GGUF_LIB) $(LIB)
	$(call say,LD,$@) $(call link)
$(BUILD)/tests/%: $(BUILD)/tests/%.o $(SUP_LIB) $(LLM_LIB) $(GGUF_LIB) $(LIB)
	$(call say,LD,$@) $(call link,$(TEST_LIBS))
# This one calls the commands themselves, but for the demo, which wants main.c.
$(BUILD)/tests/tools/test_commands: $(filter-out %/main.o %/cmd_demo.o,$(COMMAND_SRC:%.c=$(BUILD)/%.o))

BENCH_OBJ = $(BENCH_SRC:%.c=$(BUILD)/%.o)
$(BUILD)/tests/bench/bench_executor: $(BENCH_OBJ) $(SUP_LIB) $(LLM_LIB) $(GGUF_LIB) $(LIB)
	$(call say,LD,$@) $(call link,$(if $(filter Linux,$(OS)),-ldl))
# The same for machines where nothing can be installed: without a peer, which would have to be loaded.
$(BUILD)/static/peer.o: tests/bench/peer.c
	@mkdir -p $(@D)
	$(call say,CC,$< (none)) $(CC) $(ALL_CFLAGS) $(EXTRA_tests) -DBENCH_WITHOUT_PEER -c $< -o $@
$(BUILD)/static/bench_executor: $(filter-out %/peer.o,$(BENCH_OBJ)) $(BUILD)/static/peer.o $(SUP_LIB) $(LLM_LIB) $(GGUF_LIB) $(LIB)
	$(call say,LD,$@) $(CC) $(SANFLAGS) $(LDFLAGS) -static -o $@ $(filter %.o,$^) $(filter %.a,$^) -lm -lpthread

# An executor whose tuning numbers are a variable: the library's is not taken, as all of its symbols are there already.
$(BUILD)/tuning/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$< (tuning)) $(CC) $(ALL_CFLAGS) -include tests/bench/variable_tuning.h -c $< -o $@
$(BUILD)/tuning/sweep: $(patsubst %.c,$(BUILD)/tuning/%.o,$(wildcard sched/cpu_*.c)) \
    $(addprefix $(BUILD)/tests/bench/,sweep.o bench.o ours.o product.o roof.o work.o) $(LIB)
	$(call say,LD,$@) $(call link)

# Examples see what users see: the installed headers and nothing else.
$(BUILD)/include/kiln/stamp: $(HEADERS)
	@mkdir -p $(@D) && cp $(HEADERS) $(@D)/ && touch $@
$(EXAMPLES:%=%.o): $(BUILD)/%.o: %.c $(BUILD)/include/kiln/stamp
	@mkdir -p $(@D)
	$(call say,CC,$<) $(CC) $(BASE) $(OPT) $(WARN) $(SANFLAGS) -I$(BUILD)/include $(CFLAGS) -c $< -o $@
$(EXAMPLES): $(BUILD)/examples/%: $(BUILD)/examples/%.o $(GGUF_LIB) $(LIB)
	$(call say,LD,$@) $(call link)

# ---- for users -------------------------------------------------------------------------------------------------

deps:  ## install the packages that are missing (says which first), or print the command that would
	@sh tools/deps.sh libcjson libxxhash cmocka

demo:  ## write a small MoE model, decode with it, show the plan
	@sh tools/deps.sh libxxhash
	@$(MAKE) $(SUBMAKE) $(KILN)
	@$(KILN) demo --dir $(BUILD)/demo

examples: $(EXAMPLES)  ## build the examples
	@for e in $(EXAMPLES); do printf '== %s\n' "$$e"; "$$e" || exit 1; done

ifneq ($(findstring ',$(PREFIX)$(DESTDIR)$(BUILD)),)
$(error kiln: PREFIX, DESTDIR and BUILD must not hold quotes)
endif

install:  ## install headers, libraries, pkg-config file and the kiln command (PREFIX, DESTDIR)
	@$(MAKE) $(SUBMAKE) all
	@sh tools/install.sh '$(DESTDIR)' '$(PREFIX)' '$(VERSION)' '$(BUILD)' '$(notdir $(SHARED))' '$(SHARED_LINK)' $(HEADERS)

uninstall:  ## remove what `make install` put there
	@sh tools/install.sh --remove '$(DESTDIR)' '$(PREFIX)' '$(notdir $(SHARED))' '$(SHARED_LINK)' $(HEADERS)

# ---- tests -----------------------------------------------------------------------------------------------------

check: deps  ## all tests, under 5 minutes on two cores
	@$(MAKE) $(SUBMAKE) STRICT=1 check-run

check-run: $(TESTS) $(EXAMPLES) $(KILN) includes
	@BUILD=$(BUILD) KILN=$(KILN) VERIFIED=tests/verified.txt sh tools/run_tests.sh $(TESTS) $(EXAMPLES) $(SHELL_TESTS)

check-asan: deps  ## all tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(MAKE) $(SUBMAKE) STRICT=1 check-run SAN=address BUILD=build/asan OPT=-O1

check-tsan: deps  ## all tests under ThreadSanitizer
	@$(MAKE) $(SUBMAKE) STRICT=1 check-run SAN=thread BUILD=build/tsan OPT=-O1

# What .ci/run has time for: everything that parses input, bakes, or runs threads.
check-asan-subset: deps  ## AddressSanitizer over loaders, scheduler, plans and sessions
	@$(MAKE) $(SUBMAKE) STRICT=1 check-subset SAN=address BUILD=build/asan OPT=-O1 SUBSET='graph sched capture tools'

check-tsan-subset: deps  ## ThreadSanitizer over executor and sessions
	@$(MAKE) $(SUBMAKE) STRICT=1 check-subset SAN=thread BUILD=build/tsan OPT=-O1 SUBSET='capture'

SUBSET_TESTS = $(foreach d,$(SUBSET),$(filter $(BUILD)/tests/$(d)/%,$(TESTS))) $(BUILD)/tests/sched/test_executor \
               $(BUILD)/tests/sched/test_schedules
check-subset: $(SUBSET_TESTS)
	@KILN_ORACLE_DAGS=500 sh tools/run_tests.sh $(sort $(SUBSET_TESTS))

check-arm64: deps  ## cross-compile for arm64 and run all tests under qemu-user
	@sh tools/check_arm64.sh

check-arm64-run: $(TESTS) $(EXAMPLES) $(KILN)
	@KILN_ORACLE_DAGS=500 KILN_RANDOM_GRAPHS=50 KILN_SCHEDULES=300 KILN_INTERLEAVINGS=few RUNNER='$(RUNNER)' BUILD=$(BUILD) KILN=$(KILN) \
	    sh tools/run_tests.sh $(TESTS) $(EXAMPLES) $(SHELL_TESTS)

oracle: $(BUILD)/tests/sched/test_oracle  ## the hazard oracle over 100,000 random DAGs
	KILN_ORACLE_DAGS=100000 $<

differential: $(BUILD)/tests/capture/test_differential  ## 20,000 random graphs, each baked in many ways: the same bits
	KILN_RANDOM_GRAPHS=20000 $<

schedules: deps  ## 10,000 seeded schedules of the CPU executor under ThreadSanitizer
	@$(MAKE) $(SUBMAKE) STRICT=1 build/tsan/tests/sched/test_schedules SAN=thread BUILD=build/tsan OPT=-O1
	KILN_SCHEDULES=10000 build/tsan/tests/sched/test_schedules

interleavings: $(BUILD)/tests/sched/test_interleavings  ## all interleavings of small cases of the CPU executor, the large ones too
	KILN_INTERLEAVINGS=all $<

json-libraries: $(BUILD)/tests/capture/test_json_rewritten  ## install some 30 JSON libraries, let each re-write a dump, read that (4 minutes)
	@BUILD=$(BUILD) KILN_JSON_LIBRARIES=all sh tests/tools/test_json_libraries.sh

bench-executor: $(BUILD)/tests/bench/bench_executor  ## what the CPU executor costs, beside ggml's where there is a network (a few minutes)
	@$< --peer "$$(sh tests/bench/fetch_peer.sh $(BUILD)/peer)" --json $(BUILD)/bench-executor.json

bench-static: $(BUILD)/static/bench_executor  ## the same program without shared libraries, to take to another machine: build/static/bench_executor

bench-tuning: $(BUILD)/tuning/sweep  ## what the numbers in kernels/tuning.h stand for, measured (a minute, on a machine at rest)
	@$<

mutate: deps  ## break sched/ and capture/ on purpose, one line at a time: tests must notice each
	@sh tests/mutate.sh

fuzz-commands: deps  ## edited graphs and plans through run, dump and check under ASan and UBSan, 5 minutes (KILN_COMMANDS, KILN_COMMANDS_SEED)
	@$(MAKE) --no-print-directory STRICT=1 build/asan/tests/tools/test_commands SAN=address BUILD=build/asan OPT=-O1
	KILN_COMMANDS=$${KILN_COMMANDS:-20000} KILN_COMMANDS_SEED=$${KILN_COMMANDS_SEED:-1000} \
	    KILN_COMMANDS_SECONDS=$${KILN_COMMANDS_SECONDS:-300} build/asan/tests/tools/test_commands

fuzz: deps  ## libFuzzer, 60 s a target (needs clang)
	@sh tools/fuzz.sh $(FUZZ_SRC)

check-full: check lint format-check check-asan check-tsan check-arm64 oracle differential schedules interleavings mutate fuzz fuzz-commands  ## everything, before a release

lint: deps includes  ## clang-tidy over all sources, C++ over the public headers
	@CC='$(CC)' sh tools/lint.sh $(CORE_SRC) $(KERNEL_SRC) $(GGUF_SRC) $(LLM_SRC) $(COMMAND_SRC)

includes:  ## the include rule: graph <- kernels <- ops <- sched <- capture <- tools, tests, examples
	@sh tools/check_includes.sh

format:  ## rewrite sources as .clang-format says
	@clang-format -i $(FORMATTED)

format-check:  ## fail when a source is not as .clang-format says
	@clang-format --dry-run -Werror $(FORMATTED)

clean:  ## remove build/
	rm -rf build

.SECONDARY:
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
