# make          build bin/sd-*
# make demo     install what is needed, build, run the main job, end with a picture
# make check    install what is needed, build (release and sanitizers), run all tests
# make deps     install the Debian packages that building and testing need (.ci/install)
# make test     the tests, with the release build only
# make fuzz     run the fuzz targets for FUZZ_SECONDS each; FUZZ_CC=clang takes libFuzzer
# make bench    measure everything against the peers; BENCH_NAMES="unet lora" picks
# make gpu      the CUDA backend, bin/libsdcuda.so, where there is nvcc; GPU_ARCHS="90" for fewer cards
# make bundle   what another machine needs to run, check and measure on its card: build/bundle/sd and sd.tar.gz (doc/gpu.md)
# make check-gpu, bench-gpu   on a machine with a card: all that computes against what is right, and PyTorch's speed
# make check-peers   have diffusers and sd-scripts read what we write (doc/interop.md); SD_SCRIPTS=CHECKOUT
# make lint     what a machine can see of the house rules
# make install, uninstall   programs, manual, completions; PREFIX=/usr/local DESTDIR=
# V=1           show the commands
# SAN=address,undefined     a build with sanitizers, kept apart in build/san

CC ?= cc
CFLAGS ?= -O3 -g1
PREFIX ?= /usr/local
BASH_COMPLETIONS ?= $(PREFIX)/share/bash-completion/completions

Q := $(if $(V),,@)
say := @$(if $(V),:,printf '  %-4s %s\n')

MODE := $(if $(SAN),san,release)
B := build/$(MODE)
BIN := $(if $(SAN),$(B)/bin,bin)

PACKAGES := openblas libcjson spng libjpeg libwebp libwebpdemux libsixel nettle libutf8proc zlib
PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
PKG_LIBS := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null)

# Position-independent and hidden: the CUDA plugin links members of libsdcore of its own.
# Sections of their own: what a program does not use of a member is left out of it.
ALL_CFLAGS := -std=gnu17 -fPIC -fvisibility=hidden -ffunction-sections -fdata-sections -Wall -Wextra -Werror \
  -fno-math-errno -fopenmp -Ilib $(PKG_CFLAGS) $(CFLAGS) \
  $(if $(SAN),-O1 -fno-omit-frame-pointer -fsanitize=$(SAN) -fno-sanitize-recover=all)
ALL_LDFLAGS := -fopenmp $(LDFLAGS) $(if $(SAN),-fsanitize=$(SAN)) -Wl,--as-needed,--gc-sections
LIBS := $(PKG_LIBS) -ldnnl -lm

LIB_SRC := $(sort $(shell find lib -name '*.c'))
LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o)
EMU_OBJ := $(patsubst %.cc,$(B)/emulated/%.o,$(wildcard gpu/emu/*.cc))
CMD := $(sort $(patsubst cmd/%.c,%,$(wildcard cmd/sd-*.c)))
CMD_SHARED := $(patsubst %.c,$(B)/%.o,$(filter-out cmd/sd-%,$(sort $(wildcard cmd/*.c))))
UNIT_CU := $(sort $(patsubst t/unit/%.cu,%,$(wildcard t/unit/*.cu)))
UNIT := $(sort $(patsubst t/unit/%.c,%,$(wildcard t/unit/*.c)) $(UNIT_CU))
MAN := $(sort $(notdir $(wildcard man/*.[1-8])))
BENCH := $(sort $(patsubst bench/%.c,%,$(wildcard bench/*.c)))

all: $(CMD:%=$(BIN)/%)
unit: $(UNIT:%=$(B)/t/%)
benches: $(BENCH:%=$(B)/bench/%)

$(BIN)/%: $(B)/cmd/%.o $(B)/libcmd.a $(B)/libsdcore.a
	@mkdir -p $(@D)
	$(say) LINK $@
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(B)/t/%: $(B)/t/unit/%.o $(B)/libsdcore.a
	@mkdir -p $(@D)
	$(say) LINK $@
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(UNIT_CU:%=$(B)/t/%): $(B)/t/%: $(B)/emulated/t/unit/%.o $(EMU_OBJ) $(B)/libsdcore.a
	@mkdir -p $(@D)
	$(say) LINK $@
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(B)/bench/%: $(B)/bench/%.o $(B)/libsdcore.a
	@mkdir -p $(@D)
	$(say) LINK $@
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

# What programs share: members are linked where used, so sd-scan carries no oneDNN.
$(B)/libcmd.a: $(CMD_SHARED)
$(B)/libsdcore.a: $(LIB_OBJ)
$(B)/%.a:
	$(say) AR $@
	@rm -f $@
	$(Q)ar rcs $@ $^

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(say) CC $@
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# What a source takes in with .incbin.
$(B)/lib/data/page.o: lib/data/page.html
$(B)/lib/text/clip_bpe.o: lib/text/clip_bpe.bin

# ---- the CUDA backend ----

# nvcc compiles gpu/*.cu for cards. The emulator (gpu/emu) stands in for CUDA, cuBLAS and cuDNN: g++ compiles the same
# kernels against it, for tests on machines without a card.
NVCC ?= $(shell command -v nvcc || { [ -x /usr/local/cuda/bin/nvcc ] && echo /usr/local/cuda/bin/nvcc; })
GPU_ARCHS ?= 80 86 89 90
GPU_SRC := $(sort $(wildcard gpu/*.cu))
EMULATED_SRC := $(filter-out gpu/libraries.cu gpu/places.cu %_cublas.cu %_cudnn.cu,$(GPU_SRC)) $(sort $(wildcard gpu/*_emulated.cc gpu/emu/*.cc))
GPU_INCLUDES := -Ilib -Igpu
NVCC_FLAGS := -std=c++20 -O3 --threads 2 --compress-mode=size $(GPU_INCLUDES) \
  -Xcompiler -fPIC,-fvisibility=hidden,-fno-exceptions,-fno-rtti,-fno-threadsafe-statics,-Wall,-Wextra,-Werror \
  $(foreach a,$(GPU_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) \
  -gencode arch=compute_$(lastword $(GPU_ARCHS)),code=compute_$(lastword $(GPU_ARCHS))
EMULATED_FLAGS := -std=c++20 -DSD_GPU_EMULATED -fPIC -fvisibility=hidden -fno-exceptions -fno-rtti -Wall -Wextra -Werror \
  $(GPU_INCLUDES) $(CFLAGS) $(if $(SAN),-O1 -fno-omit-frame-pointer -fsanitize=$(SAN) -fno-sanitize-recover=all)

gpu: bin/libsdcuda.so
emulated: $(B)/emulated/libsdcuda.so

bin/libsdcuda.so: $(GPU_SRC:%.cu=build/release/%.o) build/release/libsdcore.a
	@mkdir -p $(@D)
	$(say) LINK $@
	$(Q)$(NVCC) -shared -o $@ $^ -cudart static -Xlinker --as-needed,--gc-sections,--no-undefined -Xcompiler -fopenmp -lm

build/release/gpu/%.o: gpu/%.cu
	@mkdir -p $(@D)
	@[ -n "$(NVCC)" ] || { echo "make gpu: there is no nvcc; install the CUDA toolkit, or give NVCC=" >&2; exit 1; }
	$(say) NVCC $@
	$(Q)$(NVCC) $(NVCC_FLAGS) -MD -MP -MF $(@:.o=.d) -c -o $@ $<

# What can be known of cuBLASLt and cuDNN without a card.
build/release/t/gpu-libraries: t/gpu/libraries.cu $(filter-out %_cublas.o,$(GPU_SRC:%.cu=build/release/%.o)) \
  build/release/libsdcore.a | build/release/t/gpu-driver.so
	@mkdir -p $(@D)
	$(say) NVCC $@
	$(Q)$(NVCC) -std=c++20 -O1 $(GPU_INCLUDES) -Xcompiler -Wall,-Wextra,-Werror -o $@ $^ -cudart static -Xcompiler -fopenmp -lm

build/release/t/gpu-driver.so: t/gpu/driver.c
	@mkdir -p $(@D)
	$(say) LINK $@
	$(Q)$(CC) -O1 -Wall -Wextra -Werror -shared -fPIC -Wl,-soname,libcuda.so.1 -o $@ $<

$(B)/emulated/libsdcuda.so: $(patsubst %,$(B)/emulated/%.o,$(basename $(EMULATED_SRC))) $(B)/libsdcore.a
	$(say) LINK $@
	$(Q)$(CXX) -shared $(ALL_LDFLAGS) -o $@ $^ -lm

$(B)/emulated/%.o: %.cu
	@mkdir -p $(@D)
	$(say) CXX $@
	$(Q)$(CXX) -x c++ $(EMULATED_FLAGS) -MMD -MP -c -o $@ $<

$(B)/emulated/%.o: %.cc
	@mkdir -p $(@D)
	$(say) CXX $@
	$(Q)$(CXX) $(EMULATED_FLAGS) -MMD -MP -c -o $@ $<

# ---- the bundle: one folder that runs on another machine (doc/gpu.md) ----

BUNDLE := build/bundle/sd
# The three left out want OpenBLAS, which alone is 36 MB.
BUNDLE_CMD := $(filter-out sd-lora-extract sd-lora-merge sd-lora-resize,$(CMD))
BUNDLE_UNIT := ops plan optim momentum adafactor kinds quant loss noise ema model vit sampler lora train picture device_memory
BUNDLE_ALL := $(BUNDLE_CMD:%=cmd/%) $(BUNDLE_UNIT:%=t/unit/%) bench/bench-model
BUNDLE_OBJ := $(BUNDLE_ALL:%=build/release/bundle/%.o)
BUNDLE_PLUGIN := $(if $(NVCC),bin/libsdcuda.so)

bundle: build/bundle/sd.tar.gz

build/bundle/sd.tar.gz: build/release/bundle/sd $(BUNDLE_PLUGIN) contrib/bundle/collect contrib/demo.sh contrib/tiny/sd.safetensors \
  t/check-gpu bench/gpu bench/gpu_torch.py bench/gpu_table.py doc/gpu.md
	@rm -rf $(BUNDLE) && mkdir -p $(BUNDLE)/bin && cp $< $(BUNDLE)/bin/sd
	@contrib/bundle/collect $(BUNDLE) "$(BUNDLE_PLUGIN)" "$(BUNDLE_CMD)" "$(BUNDLE_UNIT)"
	@[ -n "$(NVCC)" ] || echo "make bundle: there is no nvcc, so the bundle has no libsdcuda.so" >&2
	@tar -C build/bundle -czf $@.part sd && mv $@.part $@
	@du -sm $(BUNDLE) $@ | sed 's/\t/ MiB  /'

# RPATH, not RUNPATH: libraries of the bundle find one another by it too. A place of its own (-no-pie) spares relocations.
# Libraries that Debian has as archives are in it, but only with what is used of them.
BUNDLE_STATIC := -ljpeg -lwebpdemux -lwebp -lsixel -lnettle -lutf8proc
BUNDLE_LIBS := -Wl,-Bstatic $(BUNDLE_STATIC) -Wl,-Bdynamic $(filter-out $(BUNDLE_STATIC),$(LIBS))
build/release/bundle/sd: $(BUNDLE_OBJ) build/release/bundle/main.o build/release/libcmd.a build/release/libsdcore.a
	$(say) LINK $@
	$(Q)$(CC) $(ALL_LDFLAGS) -s -no-pie -Wl,--disable-new-dtags,-rpath,'$$ORIGIN/../lib' -o $@ $^ $(BUNDLE_LIBS)

build/release/bundle/main.o: contrib/bundle/main.c Makefile
	@mkdir -p $(@D)
	@printf '%s\n' $(notdir $(BUNDLE_ALL)) | awk '{ s = $$0; gsub(/-/, "_", s); printf "PROGRAM(\"%s\", %s)\n", $$0, s }' > $(@D)/programs.h
	$(say) CC $@
	$(Q)$(CC) $(ALL_CFLAGS) -I$(@D) -c -o $@ $<

build/release/bundle/bench/bench-model.o: build/release/bundle/bench/model.o
	$(Q)objcopy --redefine-sym sd_main_model=sd_main_bench_model $< $@

build/release/bundle/%.o: build/release/%.o
	@mkdir -p $(@D)
	$(Q)objcopy --redefine-sym main=sd_main_$(subst -,_,$(notdir $*)) $< $@

# ---- manual and completions, from the option tables ----

man: $(MAN:%=build/man/%)
completions: $(CMD:%=build/completions/%)

build/man/%: man/% man/options.awk $(CMD:%=$(BIN)/%)
	@mkdir -p $(@D)
	@if [ -x $(BIN)/$(basename $*) ]; then $(BIN)/$(basename $*) --dump-options; fi | awk -f man/options.awk - $< > $@

build/completions/%: $(BIN)/% completions/bash.awk
	@mkdir -p $(@D)
	@$< --dump-options | awk -f completions/bash.awk > $@

# Each line: folder, then what goes there. install and uninstall both read it.
define INSTALLED
$(PREFIX)/bin $(CMD:%=$(BIN)/%)
$(PREFIX)/lib/sd $(wildcard bin/libsdcuda.so)
$(PREFIX)/share/sd contrib/dataset.mk
$(PREFIX)/share/man/man1 $(patsubst %,build/man/%,$(filter %.1,$(MAN)))
$(PREFIX)/share/man/man5 $(patsubst %,build/man/%,$(filter %.5,$(MAN)))
$(PREFIX)/share/man/man7 $(patsubst %,build/man/%,$(filter %.7,$(MAN)))
$(BASH_COMPLETIONS) $(CMD:%=build/completions/%)
endef
export INSTALLED

install: all man completions
	@printf '%s\n' "$$INSTALLED" | while read -r dir files; do [ -z "$$files" ] || { \
	  install -d "$(DESTDIR)$$dir" && \
	  install -m $$(case $$dir in */bin) echo 755 ;; *) echo 644 ;; esac) $$files "$(DESTDIR)$$dir"; } || exit; done

uninstall:
	@printf '%s\n' "$$INSTALLED" | while read -r dir files; do \
	  for f in $$files; do rm -f "$(DESTDIR)$$dir/$${f##*/}"; done; done

# ---- tests ----

deps:
	@.ci/install

# Sub-makes, so that pkg-config is asked again once the packages are there.
demo:
	@.ci/install --build
	$(MAKE) -j$$(nproc) all
	contrib/demo.sh

test: all unit emulated
	prove -j2 t/ $(UNIT:%=$(B)/t/%)

# Programs and unit tests in both builds; tests marked "# no-sanitizer" run with the release build only.
check: deps
	$(MAKE) -j$$(nproc) all unit man completions emulated $(if $(NVCC),gpu)
	$(MAKE) -j$$(nproc) SAN=address,undefined all unit fuzzers emulated
	@echo '# The device tests are not run here: make check-gpu, on a machine with a card.$(if $(NVCC),, There is no nvcc: libsdcuda.so is not built.)'
	@rm -rf build/san/again && mkdir -p build/san/again
	@for t in $$(grep -L '^# no-sanitizer' t/*.t); do \
	  printf '#!/bin/sh\nSD_BIN=build/san/bin SD_SAN=1 exec sh %s\n' $$t > build/san/again/$${t##*/}; done
	prove -j2 t/ build/san/again $(UNIT:%=build/release/t/%) $(UNIT:%=build/san/t/%)

# On the card of this machine; from a bundle on another's (doc/gpu.md).
check-gpu: all $(BUNDLE_UNIT:%=build/release/t/%) $(BUNDLE_PLUGIN)
	@t/check-gpu

bench-gpu: all build/release/bench/model $(BUNDLE_PLUGIN)
	@bench/gpu

FUZZ := $(sort $(patsubst t/fuzz/%.c,%,$(wildcard t/fuzz/*.c)))
FUZZ_SECONDS ?= 60
FUZZ_CC ?=

fuzzers: $(FUZZ:%=$(B)/fuzz/%)

$(B)/fuzz/%: $(B)/t/fuzz/%.o $(B)/t/fuzz/driver/main.o $(B)/libsdcore.a
	@mkdir -p $(@D)
	$(say) LINK $@
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

fuzz:
	@FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_CC=$(FUZZ_CC) t/fuzz/driver/run $(FUZZ)

# The peers live in a virtual environment outside the repository; without one their lines say so.
BENCH_VENV ?= $(HOME)/.cache/sd-bench-venv
BENCH_PYTHON ?= $(BENCH_VENV)/bin/python

bench: all benches
	@[ -x "$(BENCH_PYTHON)" ] || t/ref/venv "$(BENCH_VENV)" || echo "no peers: t/ref/venv failed" >&2
	@SD_BENCH_PYTHON=$$([ ! -x "$(BENCH_PYTHON)" ] || echo "$(BENCH_PYTHON)") bench/run $(BENCH_NAMES)

# Full-size models: 20 GB of disk in $TMPDIR, 12 GB of memory, a quarter of an hour.
check-peers: all
	@[ -x "$(BENCH_PYTHON)" ] || t/ref/venv "$(BENCH_VENV)"
	@for s in t/ref/check_peers_*.py; do echo "== $$s" && "$(BENCH_PYTHON)" "$$s" || exit 1; done

lint:
	@t/lint

clean:
	rm -rf build bin

.SECONDARY:
.PHONY: all gpu emulated bundle unit benches man completions install uninstall deps demo test check check-gpu bench-gpu check-peers fuzzers fuzz bench lint clean
-include $(shell find $(B) -name '*.d' 2>/dev/null)
