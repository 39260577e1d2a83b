#!/usr/bin/env python3
"""Makes t/data/rng/rng.txt: what torch's CPU generator and Python's random module draw.

Made with torch 2.13.0 (x86-64, AVX2 kernels) and CPython 3.11; stdlib and torch only.
Run from the repository root: python3 t/ref/rng.py

One case a line, words separated by blanks:
    SEED OP ARGS... COUNT CRC32 FIRST LAST
CRC32 is zlib's over the little-endian bytes of the values (f32, f64 or i64); FIRST and LAST are raw bits
in hex.
Lines sharing a SEED cell of '-' continue the generator of the line above.
"""

import random
import struct
import zlib

import torch

out = []


def emit(seed, op, args, count, raw, width):
    first = int.from_bytes(raw[:width], "little") if count else 0
    last = int.from_bytes(raw[-width:], "little") if count else 0
    out.append(
        " ".join(map(str, [seed, op, *args, count, f"{zlib.crc32(raw):08x}", f"{first:x}", f"{last:x}"]))
    )


def torch_case(seed, op, *args):
    if seed != "-":
        torch.manual_seed(seed)
    n = args[-1]
    if op == "randn":
        t = torch.randn(n)
    elif op == "rand":
        t = torch.rand(n)
    elif op == "normal":
        t = torch.empty(n).normal_(args[0], args[1])
    elif op == "uniform":
        t = torch.empty(n).uniform_(args[0], args[1])
    elif op == "randint":
        t = torch.randint(args[0], args[1], (n,))
    elif op == "randperm":
        t = torch.randperm(n)
    elif op == "int63":
        t = torch.stack([torch.empty((), dtype=torch.int64).random_() for _ in range(n)])
    emit(seed, op, args[:-1], n, t.numpy().tobytes(), t.element_size())


def python_case(seed, op, *args):
    if seed != "-":
        random.seed(seed)
    n = args[-1]
    if op == "py.random":
        raw = struct.pack(f"<{n}d", *[random.random() for _ in range(n)])
    elif op == "py.uniform":
        raw = struct.pack(f"<{n}d", *[random.uniform(args[0], args[1]) for _ in range(n)])
    elif op == "py.randint":
        raw = struct.pack(f"<{n}q", *[random.randint(args[0], args[1]) for _ in range(n)])
    elif op == "py.bits":
        raw = struct.pack(f"<{n}Q", *[random.getrandbits(args[0]) for _ in range(n)])
    elif op == "py.shuffle":
        items = list(range(n))
        random.shuffle(items)
        raw = struct.pack(f"<{n}q", *items)
    elif op == "py.choice":
        raw = struct.pack(f"<{n}q", *[random.choice(range(args[0])) for _ in range(n)])
    emit(seed, op, args[:-1], n, raw, 8)


for n in list(range(1, 50)) + [64, 100, 255, 256, 1000, 4096, 16384, 65535, 65537, 1000000]:
    torch_case(1000 + n, "randn", n)
for seed in [0, 1, 42, 2**31, 2**32 - 1, 2**32, 2**32 + 5, 2**63, 2**64 - 1]:
    torch_case(seed, "randn", 16)
    torch_case("-", "randn", 3)
    torch_case("-", "rand", 5)
    torch_case("-", "randn", 3)
    torch_case("-", "randn", 4)
    torch_case("-", "randn", 17)
    torch_case("-", "randn", 1)
torch_case(7, "randn", 1 << 24)
torch_case(7, "rand", 1)
torch_case("-", "rand", 15)
torch_case("-", "rand", 16)
torch_case("-", "rand", 100003)
for a, b in [(-0.0345, 0.0345), (0.1, 1.7), (-1e-3, 1e3), (0.0, 1.0), (0.1, 0.1000001)]:
    torch_case(11, "uniform", a, b, 50001)
for a, b in [(0.0, 0.02), (0.3, 0.02), (-5.0, 3.0)]:
    torch_case(12, "normal", a, b, 11)
    torch_case(12, "normal", a, b, 5003)
for a, b in [
    (0, 1),
    (0, 1000),
    (-7, 12),
    (0, 2**28 - 1),
    (0, 2**28),
    (0, 2**32 - 1),
    (0, 2**32),
    (-5, 2**32 + 7),
    (-(2**62), 2**62),
    (0, 2**63 - 1),
]:
    torch_case(13, "randint", a, b, 1000)
for n in [0, 1, 2, 10, 1000, 100000]:
    torch_case(14, "randperm", n)
torch_case(15, "int63", 9)

for seed in [0, 1, 42, -42, 2**31, 2**32 - 1, 2**32, 2**40 + 3, 2**63 - 1, -(2**63)]:
    python_case(seed, "py.random", 700)
    python_case("-", "py.shuffle", 31)
for a, b in [(0, 0), (0, 1), (-3, 4), (0, 2**31), (0, 2**32 - 1), (0, 2**32), (-(2**62), 2**62 - 1)]:
    python_case(5, "py.randint", a, b, 500)
for bits in [1, 2, 31, 32, 33, 40, 63, 64]:
    python_case(6, "py.bits", bits, 300)
for n in [0, 1, 2, 3, 17, 1000]:
    python_case(7, "py.shuffle", n)
for n in [1, 2, 5, 1000]:
    python_case(8, "py.choice", n, 100)
python_case(9, "py.uniform", -2.5, 3.75, 1000)

with open("t/data/rng/rng.txt", "w", newline="\n") as f:
    f.write("\n".join(out) + "\n")
