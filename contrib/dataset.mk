# Builds a training set from folders of pictures, and rebuilds what changed: new, changed and removed pictures and caption
# files, other settings, another model.
#
#   make -j2 -f contrib/dataset.mk dataset PHOTOS=photos MODEL=base.safetensors
#
# or, to keep the settings, a Makefile of one's own:
#
#   PHOTOS = photos
#   MODEL = /models/base.safetensors
#   include /usr/local/share/sd/dataset.mk
#
# and `make -j2 dataset`. Every night by cron, one run at a time, what failed by mail:
#
#   17 3 * * *  cd /data/cats && flock -n .lock make -s -j2 dataset && jq -c .error dataset/failed.ndjson
#
# What it makes, below OUT:
#   found/PART.ndjson   the pictures of each folder in PHOTOS, with their captions and tags, cleaned
#   bucketed.ndjson     all of them without duplicates, each with its training size
#   train.ndjson        with their latents: what sd-train reads; nothing that failed is in it
#   failed.ndjson       what failed, and why
#   stat.txt            the set at a glance
#   show.html           the pictures as training sees them
#   cache/              latents; `make prune` takes away those of pictures that are gone

PHOTOS ?= photos
OUT ?= dataset
MODEL ?=
# Options of the programs.
SCAN ?= --recursive
MERGE ?=
CLEAN ?=
DEDUP ?=
BUCKET ?= --resolution 512
ENCODE ?= --mixed-precision bf16
SHOW ?= --limit 1000
# Where the programs are: empty for the PATH, or a folder with a slash at its end.
SD ?=

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := dataset
.PHONY: dataset prune FORCE

# Each folder in PHOTOS is a part, read by itself (make wants names without blanks); pictures in PHOTOS itself are the part
# "_".
parts := $(sort _ $(notdir $(patsubst %/.,%,$(wildcard $(PHOTOS)/*/.))))
folder = $(PHOTOS)$(if $(filter-out _,$1),/$1)
itself = $(filter _,$1)

# The target appears whole. Status 1 says that some records failed; they carry the error, and leave the set at the end.
into = { $1; } >$@.new || [ $$? -eq 1 ] && mv $@.new $@

dataset: $(OUT)/train.ndjson $(OUT)/stat.txt $(OUT)/show.html

# Settings are files that are written when the text changes, so that what was made by others is made again.
$(OUT)/.find: settings = $(PHOTOS) $(SCAN) $(MERGE) $(CLEAN)
$(OUT)/.bucket: settings = $(parts) $(DEDUP) $(BUCKET)
$(OUT)/.encode: settings = $(MODEL) $(ENCODE)
$(OUT)/.show: settings = $(SHOW)
$(OUT)/.find $(OUT)/.bucket $(OUT)/.encode $(OUT)/.show: FORCE
	@mkdir -p $(@D) && { echo '$(settings)' | cmp -s - $@ || echo '$(settings)' >$@; }

# A part is read again when its folder holds anything newer than the start of the last reading; a file taken away makes the
# folder itself newer.
$(OUT)/found/%.ndjson: $(OUT)/.find FORCE
	@mkdir -p $(@D)
	@if [ ! $@ -nt $< ] || [ -n "$$(find -L $(call folder,$*) $(if $(call itself,$*),-maxdepth 1) -newer $@ -print -quit)" ]; \
	then echo $@; touch $@.start; \
	  $(call into,$(SD)sd-scan $(if $(call itself,$*),,$(SCAN)) $(call folder,$*) | $(SD)sd-merge $(MERGE) | $(SD)sd-clean -q $(CLEAN)) && \
	  touch -r $@.start $@ && rm $@.start; fi

$(OUT)/bucketed.ndjson: $(OUT)/.bucket $(parts:%=$(OUT)/found/%.ndjson)
	$(call into,cat $(filter %.ndjson,$^) | $(SD)sd-dedup --remove $(DEDUP) | $(SD)sd-bucket $(BUCKET))

$(OUT)/encoded.ndjson: $(OUT)/bucketed.ndjson $(OUT)/.encode $(MODEL)
	$(if $(MODEL),,$(error MODEL is not set: the checkpoint whose VAE encodes the pictures))
	$(call into,$(SD)sd-encode-latents --model $(MODEL) --cache-dir $(OUT)/cache $(ENCODE) <$<)

$(OUT)/failed.ndjson: $(OUT)/encoded.ndjson
	@$(call into,jq -c 'select(.error)' $<)

$(OUT)/train.ndjson: $(OUT)/encoded.ndjson $(OUT)/failed.ndjson
	@$(call into,jq -c 'select(.error | not)' $<)
	@wc -l $@ $(OUT)/failed.ndjson

$(OUT)/stat.txt: $(OUT)/bucketed.ndjson
	@$(call into,$(SD)sd-stat <$<)

$(OUT)/show.html: $(OUT)/bucketed.ndjson $(OUT)/.show
	@$(SD)sd-show $(SHOW) --html $@ <$< >/dev/null || [ $$? -eq 1 ]

# Caches that no record names any more.
prune: $(OUT)/train.ndjson
	@find $(OUT)/cache -name '*.npz' | sort | comm -23 - <(jq -r .latents $< | sort) | xargs -r -d '\n' rm -v --
