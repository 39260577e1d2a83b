#!/bin/sh
# sd-device: the processor, cards through the plugin, and machines without either plugin or card.
. "$(dirname "$0")/lib.sh"

mkdir none
SD_PLUGINS=$PWD/none
export SD_PLUGINS
try sd-device
is 'without a plugin: the processor' "$status $(jq -r .device "$out")" '0 cpu'
is 'its memory' "$(jq '.memory > 1e6 and .free > 0 and .free <= .memory and .processors >= 1' "$out")" true
is 'the message says where a plugin was looked for' "$(cat "$err")" \
    "sd-device: there is no cuda backend here; tried $PWD/none/libsdcuda.so"
try sd-device -q
is '-q' "$status $(cat "$err")" '0 '
try sd-device --device cuda
is 'cards are asked for and there are none' "$status $(cat "$out")$(cat "$err")" \
    "3 sd-device: there is no cuda backend here; tried $PWD/none/libsdcuda.so"
try sd-device --device cpu
is '--device cpu asks for no card' "$status $(cat "$err") $(jq -r .device "$out")" '0  cpu'
sd-device >/dev/full 2>"$err"
is 'a full disk' $? 3

echo 'no library' >none/libsdcuda.so
try sd-device
like 'a plugin that is none' "$status $(cat "$err")" '0 sd-device: there is no cuda backend here; tried *libsdcuda.so: *'

# The emulated card: gpu/emu
SD_PLUGINS=$emulated
try sd-device
is 'a card' "$status $(jq -r .device "$out" | paste -sd' ')" '0 cpu cuda:0'
is 'what it is' "$(jq -c 'select(.capability) | [.name, .capability, .precisions]' "$out")" \
    '["emulator","9.0",["no","bf16","fp16"]]'
try sd-device --device cuda
is 'only cards' "$status $(jq -r .device "$out")" '0 cuda:0'
try sd-device --device cuda:0
is 'only the card of a number' "$status $(jq -r .device "$out")" '0 cuda:0'
try sd-device --device cuda:3
is 'a number that no card has' "$status $(cat "$err")$(cat "$out")" '3 sd-device: cuda:3 is not there: this machine has 1 device'
finish
