#!/bin/sh
# The cuda backend's kernels on the emulated card (gpu/emu), in this build: with the sanitizers they watch each access.
. "$(dirname "$0")/lib.sh"
build=${emulated%/emulated}
SD_PLUGINS=$emulated SD_TEST_BACKEND=cuda
export SD_PLUGINS SD_TEST_BACKEND
[ -f "$SD_PLUGINS/libsdcuda.so" ] || { echo "1..0 # SKIP make emulated was not run" && exit 0; }
cd "$root" || exit 1

unit() { # NAME ARGUMENTS...: a unit test whose failed checks are shown
    name=$*
    try "$build/t/$@"
    is "$name" "$status $(grep '^not ok\|^Bail' "$out")" '0 '
    ok "$name: it ran to its end" grep -q '^1\.\.[1-9]' "$out"
}
unit plan
unit optim
unit quant
unit adafactor
unit noise
unit lora
unit model
unit vit
unit device_memory
if [ -z "${SD_SAN:-}" ]; then
    unit ops
    unit ops --dtype f16
    unit kinds adamw.idle dadaptation.decoupled dadaptadam.decoupled dadaptadagrad.idle dadaptadan.idle dadaptadanip.idle dadaptlion.idle \
        dadaptsgd.momentum prodigy.decoupled prodigy.beta0
else
    unit kinds dadaptadagrad.idle dadaptsgd.momentum prodigy.decoupled
    for op in matmul conv2d attention group_norm layer_norm geglu step adafactor adapt_step adapt clip accumulate combine assign; do
        unit ops --op $op --dtype f16
    done
fi
finish
