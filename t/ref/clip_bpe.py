#!/usr/bin/env python3
"""Makes lib/text/clip_bpe.bin, the merges of the CLIP tokenizer, from a folder with vocab.json and merges.txt
(openai/clip-vit-large-patch14, or written from open_clip_torch's bpe_simple_vocab_16e6.txt.gz).

Run from the repository root: python3 t/ref/clip_bpe.py FOLDER

48894 pairs of 16-bit little-endian ids, in order of rank: merge r makes id 512 + r out of its two ids.
Ids 0..255 are single bytes in the order of bytes_to_unicode(), 256..511 the same at the end of a word.
"""

import json
import struct
import sys

folder = sys.argv[1]
vocab = json.load(open(f"{folder}/vocab.json", encoding="utf-8"))
merges = open(f"{folder}/merges.txt", encoding="utf-8").read().strip().split("\n")[1 : 49152 - 256 - 2 + 1]
assert len(vocab) == 49408 and len(merges) == 48894
assert vocab["<|startoftext|>"] == 49406 and vocab["<|endoftext|>"] == 49407

printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
order = printable + [b for b in range(256) if b not in printable]
chars = [chr(b) if b in printable else chr(256 + i - len(printable)) for i, b in enumerate(order)]
for i, c in enumerate(chars):
    assert vocab[c] == i and vocab[c + "</w>"] == 256 + i

out = bytearray()
for rank, line in enumerate(merges):
    a, b = line.split()
    assert vocab[a + b] == 512 + rank
    assert vocab[a] < 512 + rank and vocab[b] < 512 + rank  # so merging in order of rank alone is enough
    out += struct.pack("<HH", vocab[a], vocab[b])
open("lib/text/clip_bpe.bin", "wb").write(out)
