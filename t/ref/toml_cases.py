#!/usr/bin/env python3
"""TOML documents, valid and not, and what Python's tomllib reads in them (Python 3.11, no other package).

  toml_cases.py [DIR]        (DIR: t/data/toml)

Writes cases.ndjson: {"toml": the document, "value": its value in the notation below, or null where it is refused}.
Bytes that are not UTF-8 are \\udcXX. After the documents below come changed ones: each with a few characters put in, taken
out, replaced or moved. Whole numbers beyond 64 bits are refused here, as TOML allows; dates are only told to be such.
  {"name":VALUE} [VALUE] "text" true i123 f0.5 T
"""
import datetime
import json
import os
import random
import sys
import tomllib

VALID = r'''
a = 1
====
# only a comment
====
a.b.c = 1
a.b.d = 2
a.e = {f.g = 1, f.h = [1, 2,], i = {}}
====
"quoted name" = 1
'li.teral' = 2
"" = 3
1234 = 4
a."b.c".'d' = 5
-x_ = 6
3.14 = "pi"
====
s = "tab \t nl \n q \" bs \\ \b\f\r u \u00e9 \U0001F408 del"
l = 'C:\Users\n\"'
e = ""
f = ''
====
s = """
first newline goes
two "quotes" and ""three"" \
    joined \  
     
    lines\n""""
t = """a""""
u = """"""
v = """""a"""""
w = """
"""
====
s = \'\'\'
raw \n 'quotes' ''two''
\'\'\'
t = \'\'\'a\'\'\'\'
u = \'\'\'\'\'\'
====
i = [0, +0, -0, 7, +99, -17, 1_000, 5_349_221, 0xDEADBEEF, 0xdead_beef, 0o755, 0b1101_0110, 0x0000000000000000000001]
j = 9223372036854775807
k = -9223372036854775808
====
f = [1.0, 3.1415, -0.01, 5e+22, 1e06, -2E-2, 6.626e-34, 224_617.445_991_228, 0.0, -0.0, +0.0, 0e0, 1e400, 1_0e1_0]
g = [inf, +inf, -inf, nan, +nan, -nan]
====
b = [true, false]
====
d = [1979-05-27T07:32:00Z, 1979-05-27T00:32:00-07:00, 1979-05-27T00:32:00.999999-07:00, 1979-05-27 07:32:00z]
e = [1979-05-27T07:32:00, 1979-05-27T00:32:00.999999999, 1979-05-27, 07:32:00, 00:32:00.999, 2000-02-29, 0001-01-01]
====
a = [ ]
b = [1, "x", 1.5, [true, [ ]], {y = 1}, 1979-05-27]
c = [ # comment
  1, # one

  2
  , # comma
]
====
[a]
x = 1
[b.c]
y = 2
[ d . "e f" . g ]
z = 3
[a.q]
[b]
w = 4
====
[[p]]
n = 1
[[p]]
[p.q]
m = 2
[[p.r]]
[[p.r]]
k = 3
[[p]]
[p.q]
m = 4
====
[fruit]
apple.color = "red"
apple.taste.sweet = true
[fruit.apple.texture]
smooth = true
====
[a.b.c]
z = 9
[a]
b.d = 1
b.e.f = 2
====
[a.b]
[a]
[a.b.c]
[[a.l]]
[a.l.m]
====
p = {x = 1, y = {z = "a"}, "q.r" = [], s.t = 'u'}
q = { }
r = [{a = 1}, {a = 2}]
====
a = 1 # comment with tab	and é 猫
[t] # comment
b = 2
====
[general]
enable_bucket = true
[[datasets]]
resolution = [512, 768]
batch_size = 4
  [[datasets.subsets]]
  image_dir = 'C:\x'
  class_tokens = "sks cat"
  caption_dropout_rate = 0.1
  custom_attributes = {a = 1, b.c = "d"}
  [[datasets.subsets]]
  image_dir = "y"
[[datasets]]
  [[datasets.subsets]]
  metadata_file = "m.json"
'''

INVALID = r'''
a
====
a =
====
= 1
====
a = 1 b = 2
====
a = 1
a = 2
====
"a" = 1
'a' = 2
====
é = 1
====
a.b = 1
a = 2
====
a = 1
a.b = 2
====
[a]
[a]
====
[a]
b = 1
[a.b]
====
[a.b]
[a]
b = 1
====
[a.b.c]
z = 9
[a]
b.c.t = 1
====
[fruit]
apple.color = "red"
[fruit.apple]
====
[fruit]
apple.taste.sweet = true
[fruit.apple.taste]
====
a = {b = 1}
a.c = 2
====
a = {b = 1}
[a.c]
====
a = [{b = 1}]
[[a]]
====
a = []
[[a]]
====
[[a]]
[a]
====
[a]
[[a]]
====
[[a.b]]
[a.b]
====
[a]
b.c = 1
[[a.b]]
====
[[x.a]]
[x]
a.b = 1
====
p = {x = 1, x = 2}
====
p = {x = {y = 1}, x.z = 2}
====
p = {x.y = 1, x = 2}
====
p = {x = 1,}
====
p = {x = 1
}
====
p = {x = 1 y = 2}
====
p = {
====
p = {,}
====
a = [1 2]
====
a = [,]
====
a = [1,,2]
====
a = [1
====
a = "x
====
a = "x
"
====
a = 'x
'
====
a = """x""
====
a = """x""""""
====
a = "\x"
====
a = "\u12"
====
a = "\ud800"
====
a = "\U00110000"
====
a = """\ x"""
====
a = truE
====
a = TRUE
====
a = 1_
====
a = _1
====
a = 1__0
====
a = 01
====
a = +01
====
a = 0x
====
a = 0xg
====
a = +0x1
====
a = 0X1
====
a = 0b2
====
a = 0o8
====
a = 1.
====
a = .1
====
a = 1.e1
====
a = 1e
====
a = 1e1.5
====
a = 1._0
====
a = 1e_1
====
a = 03.5
====
a = Inf
====
a = +-1
====
a = 9223372036854775808
====
a = -9223372036854775809
====
a = 0x8000000000000000
====
a = 1979-13-01
====
a = 1979-02-29
====
a = 1900-02-29
====
a = 0000-01-01
====
a = 1979-5-27
====
a = 1979-05-27T
====
a = 1979-05-27T24:00:00
====
a = 1979-05-27T07:32
====
a = 1979-05-27T07:32:60
====
a = 1979-05-27T07:32:00.
====
a = 1979-05-27T07:32:00+7
====
a = 7:32:00
====
a = 07:32
====
[a
====
[a]]
====
[[a]
====
[]
====
[a.]
====
[.a]
====
[a..b]
====
[a] b = 1
====
[ [a]]
====
a. = 1
====
.a = 1
====
a b = 1
====
a! = 1
====
"""a""" = 1
====
a = @
====
a = "b" "c"
====
x = 1 [y]
'''
RAW = [b"", b"a = 1\r\nb = 2\r\n", b"a = 1\rb = 2", b"a = 'x\ty'", b"a = 'x\x00'", b"a = \"\x1f\"", b"a = \"\x7f\"", b"# \x00", b"# \x7f", b"# a\rb",
       b"a = '''x\r\ny'''", b"a = '''x\ry'''", b"a = \"\"\"x\\\r\n  y\"\"\"", b"a = \"\xff\"", b"a = \"\xc3\"", b"a = 1\n# \xc0\x80",
       b"\xe9 = 1", b"a = \"\xed\xa0\x80\"", b"a = \"\xf4\x90\x80\x80\"", b"\na\x00 = 1", b"a = 1\x00", b"a = [1,\r\n2]\r\n", b"\r\n", b"\r",
       b"a = 1\x0b", b"a = 1\x0c\n", "a\u00a0= 1".encode(), "\u2028a = 1".encode(), b"\t a \t = \t 1 \t \n"]


def documents(text):
    # the quotes that would end the texts above
    return [d.strip("\n").replace("\\'\\'\\'\\'", "''''").replace("\\'\\'\\'", "'''").replace("\\'", "'").encode() for d in text.split("\n====\n")]


def notation(v):
    if isinstance(v, dict):
        return "{" + ",".join(json.dumps(k, ensure_ascii=False) + ":" + notation(x) for k, x in v.items()) + "}"
    if isinstance(v, list):
        return "[" + ",".join(map(notation, v)) + "]"
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, int):
        if not -(2**63) <= v < 2**63:
            raise ValueError
        return f"i{v}"
    if isinstance(v, float):
        return "f%.17g" % v
    if isinstance(v, str):
        return json.dumps(v, ensure_ascii=False)
    assert isinstance(v, (datetime.date, datetime.time))
    return "T"


def read(document):
    try:
        return notation(tomllib.loads(document.decode()))
    except (ValueError, UnicodeDecodeError):
        return None


def change(r, document):
    some = b"[]{}=.,\"'\\#\n\r\t _+-:TZ0123456789abefinotrux\x00\x7f\xc3\xff"
    d = bytearray(document)
    for _ in range(r.choice((1, 1, 1, 2, 3))):
        at = r.randrange(len(d) + 1)
        to = min(len(d), at + r.choice((1, 1, 2, 5, 12)))
        kind = r.randrange(5)
        if kind == 0:
            d[at:at] = bytes([r.choice(some)])
        elif kind == 1:
            del d[at:to]
        elif kind == 2:
            d[at:to] = bytes([r.choice(some)])
        elif kind == 3:
            d[at:at] = d[(f := r.randrange(len(d) + 1)) : f + r.choice((1, 3, 10, 40))]
        else:
            lines = bytes(d).split(b"\n")
            lines.insert(r.randrange(len(lines) + 1), r.choice(lines))
            d[:] = b"\n".join(lines)
    return bytes(d)


def main(argv):
    out = argv[1] if len(argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "toml")
    count = int(argv[2]) if len(argv) > 2 else 3000
    seed = int(argv[3]) if len(argv) > 3 else 1
    valid, invalid = documents(VALID), documents(INVALID)
    for d in valid:
        assert read(d) is not None, d
    for d in invalid:
        assert read(d) is None, d
    cases, r = dict.fromkeys(valid + invalid + RAW), random.Random(seed)
    while len(cases) < count:
        cases[change(r, r.choice(valid))] = None
    with open(os.path.join(out, "cases.ndjson"), "w", encoding="utf-8") as f:
        for d in cases:
            json.dump({"toml": d.decode("utf-8", "surrogateescape"), "value": read(d)}, f)
            f.write("\n")
    print(f"{len(cases)} documents, {sum(read(d) is not None for d in cases)} of them valid")


if __name__ == "__main__":
    main(sys.argv)
