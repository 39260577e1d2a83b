#!/usr/bin/env python3
"""The Markdown table of what bench/gpu has measured: gpu_table.py bench-gpu.ndjson"""
import json
import sys

lines = [json.loads(s) for s in open(sys.argv[1])]
cards = [x for x in lines if "device" in x]
by_name = {x["name"]: x for x in lines if "name" in x and "device" not in x}
TUNED = {"matmul-8192-bf16": "bf16", "matmul-8192-f16": "f16"}


def cell(x, text):
    return text if x and "value" in x else "skipped" if x else ""


def rate(line, gflop):
    return gflop / line["value"] / 1000 if line and line.get("value") and gflop else 0


def ratio(theirs, ours):
    return f"{theirs['value'] / ours['value']:.2f}" if theirs and ours and theirs.get("value") and ours.get("value") else ""


for c in cards:
    print(f"{c.get('name')}, {c.get('memory', 0) >> 20} MiB, driver {c.get('driver')}, CUDA {c.get('runtime')}, {c.get('libraries')}", end="")
torch = next((x["torch"] for x in by_name.values() if "torch" in x), None)
print(f"; PyTorch {torch}" if torch else "; no PyTorch", end="\n\n")

# The matrix rate: the better of ours and PyTorch's, 16 products a run.
peak = {}
for name, dtype in TUNED.items():
    ours = by_name.get(name)
    rates = [rate(x, ours.get("gflop") if ours else 0) for x in (ours, by_name.get(name + "-eager"))]
    peak[dtype] = max(rates)
    print(f"Matrix products, {dtype}: ours {rates[0]:.4g} TFLOP/s, PyTorch's {rates[1]:.4g} TFLOP/s.  ")

print("\n| what | ours | TFLOP/s | of the matrix rate | eager | times | compiled | times | memory: planned | of the card | eager | compiled "
      "| first result after |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|")
for name, x in by_name.items():
    if name.endswith(("-eager", "-compiled")) or name in TUNED:
        continue
    e, c = by_name.get(name + "-eager"), by_name.get(name + "-compiled")
    t = rate(x, x.get("gflop"))
    top = peak.get(name.split("-ckpt")[0].rsplit("-", 1)[1])
    print("| " + " | ".join([
        name, cell(x, f"{1000 * x.get('value', 0):.2f} ms"), cell(x, f"{t:.4g}"), cell(x, f"{100 * t / top:.0f} %" if top else ""),
        cell(e, f"{1000 * e.get('value', 0):.2f} ms" if e else ""), ratio(e, x),
        cell(c, f"{1000 * c.get('value', 0):.2f} ms" if c else ""), ratio(c, x),
        cell(x, f"{x.get('arena_mib', 0) + x.get('weights_mib', 0)} MiB"), cell(x, f"{x.get('device_mib', 0)} MiB"),
        cell(e, f"{e.get('peak_mib', 0)} MiB" if e else ""), cell(c, f"{c.get('peak_mib', 0)} MiB" if c else ""),
        cell(x, f"{x.get('from_start', 0):.2f} s")]) + " |")
for x in by_name.values():
    if "skipped" in x:
        print(f"\n- {x['name']}: {x['skipped']}")
