# make          build bin/sd-*
# make demo     install what is needed, build, run the main job, end with a picture
# make check    install what is needed, build (release and sanitizers), run all tests
# make install  PREFIX=/usr/local DESTDIR=
# SAN=address,undefined   a build with sanitizers, kept apart in build/san

CC ?= cc
CFLAGS ?= -O3 -g1
PREFIX ?= /usr/local
BASH_COMPLETIONS ?= $(PREFIX)/share/bash-completion/completions

MODE := $(if $(SAN),san,release)
B := build/$(MODE)
BIN := $(if $(SAN),$(B)/bin,bin)

PACKAGES := libcjson spng libjpeg libwebp libwebpdemux libcrypto libutf8proc zlib
PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
PKG_LIBS := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null)

ALL_CFLAGS := -std=gnu17 -Wall -Wextra -Werror -fopenmp -Ilib $(PKG_CFLAGS) $(CFLAGS) \
  $(if $(SAN),-O1 -fno-omit-frame-pointer -fsanitize=$(SAN) -fno-sanitize-recover=all)
ALL_LDFLAGS := -fopenmp $(LDFLAGS) $(if $(SAN),-fsanitize=$(SAN)) -Wl,--as-needed
LIBS := $(PKG_LIBS) -ldnnl -lm

LIB_SRC := $(sort $(shell find lib -name '*.c'))
LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o)
CMD := $(sort $(patsubst cmd/%.c,%,$(wildcard cmd/sd-*.c)))
CMD_SHARED := $(patsubst %.c,$(B)/%.o,$(filter-out cmd/sd-%,$(sort $(wildcard cmd/*.c))))
UNIT := $(sort $(patsubst t/unit/%.c,%,$(wildcard t/unit/*.c)))
BENCH := $(sort $(patsubst bench/%.c,%,$(wildcard bench/*.c)))

all: $(CMD:%=$(BIN)/%)
unit: $(UNIT:%=$(B)/t/%)
benches: $(BENCH:%=$(B)/bench/%)

$(BIN)/%: $(B)/cmd/%.o $(B)/libcmd.a $(B)/libsdcore.a
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(B)/t/%: $(B)/t/unit/%.o $(B)/libsdcore.a
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(B)/bench/%: $(B)/bench/%.o $(B)/libsdcore.a
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

# What programs share: members are linked where used, so sd-scan carries no oneDNN.
$(B)/libcmd.a: $(CMD_SHARED)
$(B)/libsdcore.a: $(LIB_OBJ)
$(B)/%.a:
	@rm -f $@
	ar rcs $@ $^

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

clean:
	rm -rf build bin

.SECONDARY:
.PHONY: all unit benches clean
-include $(shell find $(B) -name '*.d' 2>/dev/null)
