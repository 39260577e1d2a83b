#!/usr/bin/env python3
"""Makes t/data/text/: what the originals make of texts. Deterministic; about two minutes.

transformers 4.54.1 (slow CLIPTokenizer, no ftfy), regex 2026.11.15, CPython 3.11 (Unicode 14);
sd-scripts 0.10.1, whose functions are run from where it is installed.
Run from the repository root: python3 t/ref/text.py TOKENIZER_FOLDER SD_SCRIPTS_FOLDER [PART ...]
where PART is clip, unicode, caption, prompt or clean

Fixtures are lines of tab-separated fields. Texts are UTF-8 with \\n \\t \\r \\\\ and \\xHH (a byte) escaped.
Ids and such are kept as CRC-32 of their little-endian int32 values.
"""

import ast
import os
import random
import struct
import sys
import types
import unicodedata
import zlib

TOKENIZER, SD_SCRIPTS = sys.argv[1], sys.argv[2]
WANTED = sys.argv[3:] or ["clip", "unicode", "caption", "prompt", "clean"]


def escape(data):
    if isinstance(data, str):
        data = data.encode("utf-8")
    try:
        data.decode("utf-8")
        valid = True
    except UnicodeDecodeError:
        valid = False
    out = bytearray()
    for b in data:
        special = {10: b"\\n", 9: b"\\t", 13: b"\\r", 92: b"\\\\"}.get(b)
        if special:
            out += special
        elif b < 32 or b == 127 or (b >= 128 and not valid):
            out += b"\\x%02x" % b
        else:
            out.append(b)
    return bytes(out)


def crc(values):
    return b"%08x" % zlib.crc32(struct.pack(f"<{len(values)}i", *values))


def write(name, lines):
    with open(f"t/data/text/{name}", "wb") as f:
        for fields in lines:
            f.write(b"\t".join(x if isinstance(x, bytes) else str(x).encode() for x in fields) + b"\n")


# -- texts to try ----------------------------------------------------------------------------------

WORDS = """1girl solo long hair blue eyes smile looking at viewer the a photo of sks dog
masterpiece best quality
highres absurdres simple_background school uniform it's they're we've I'm you'll he'd don't O'Brien
rock'n'roll
2girls 1990s 4k 8K 3.14 100% $5 (a:1.2) [b] {c|d} <lora:x:1> -- ... !!! ?! :) ^_^ @_@ #tag a/b c\\d e=mc2
UPPER Mixed CaMeL naïve café Ångström Straße ΣΊΣΥΦΟΣ ὈΔΥΣΣΕΎΣ İstanbul ısırgan Ǆ ǅ ﬁne ﬃ ſhip 'ſ 'S 'T 'RE 'LL
日本語 のテキスト カタカナ 女の子 一人 魔法少女 かわいい 髪型：ツインテール 「引用」 ｆｕｌｌｗｉｄｔｈ １２３ ㍿ ㌔
中文 漢字 한국어 조선말 русский текст العربية עברית हिन्दी ไทย ქართული ԱՐԵՎ Ⅳ ⅻ ② Ⓐ ½ ¾ ٣ ७
😀 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 ❤️ ☃ ♥ ★ → ∞ ≠ © ® ™ ‘quote’ “double” – — … • · ´ ` ¨
<|startoftext|> <|endoftext|> <|STARTOFTEXT|> <|EndOfText|> <|startoftext <|ſtartoftext|>
endoftext|> </w> !""".split()
MARKS = [c for c in map(chr, range(0x300, 0x3100)) if unicodedata.category(c) in ("Mn", "Mc", "Me")]
BASES = "aAeEiIoOuUnNsScCyYzZαΑηωΩυкиіअকதあかさたはウカハホᄀ가각ᅡᆨｶ" + "ᄀᄂ다ᅢᅥᆨᆩᆫ"
CONTROLS = """0 1 7 8 9 a b c d 1b 1c 1f 7f 80 85 9f a0 ad 600 61c 180e 200b 200c 200d 200e 2028 2029 202e
202f 2060 3000 feff fff9 fffd fffe ffff e000 f8ff e0001 e0041 10ffff 1680 2000 2003 205f""".split()
CONTROLS = [chr(int(c, 16)) for c in CONTROLS]


def any_char(rng):
    while True:
        c = rng.choice(
            [
                rng.randrange(0x250),
                rng.randrange(0x3000),
                rng.randrange(0x10000),
                rng.randrange(0x20000),
                rng.randrange(0x110000),
            ]
        )
        if not 0xD800 <= c < 0xE000:
            return chr(c)


def marked(rng):
    return rng.choice(BASES) + "".join(rng.choice(MARKS) for _ in range(rng.randrange(5)))


def some_text(rng):
    kind = rng.randrange(8)
    n = rng.randrange(1, 9)
    if kind < 3:
        glue = rng.choice([" ", ", ", "", "_", "  ", "\u3000", "-", "."])
        return glue.join(rng.choice(WORDS) for _ in range(n))
    if kind == 3:
        return "".join(marked(rng) for _ in range(n))
    if kind == 4:
        return "".join(any_char(rng) for _ in range(n * 2))
    if kind == 5:
        return "".join(rng.choice([rng.choice(WORDS), rng.choice(CONTROLS), " "]) for _ in range(n * 2))
    if kind == 6:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz  ABCXYZ0189'!?.,-_<>|") for _ in range(n * 6))
    return "".join(
        rng.choice([rng.choice("ΑΣσςsSİ'.:^·"), rng.choice(MARKS), rng.choice(WORDS), " "])
        for _ in range(n * 2)
    )


def some_bytes(rng):
    if rng.random() < 0.5:
        return bytes(
            rng.choice([rng.randrange(256), rng.randrange(128, 256), 32, 97])
            for _ in range(rng.randrange(1, 40))
        )
    data = bytearray(some_text(rng).encode())
    for _ in range(rng.randrange(1, 4)):
        i = rng.randrange(len(data) + 1)
        if rng.random() < 0.5:
            del data[i : i + 1]
        else:
            data[i:i] = bytes([rng.randrange(128, 256)])
    return bytes(data)


# -- the CLIP tokenizer ----------------------------------------------------------------------------


def sd_chunks(tok, text, length):
    """library/strategy_base.py's own TokenizeStrategy._get_input_ids."""
    import torch

    get = borrow("library/strategy_base.py", ["_get_input_ids"], {"torch": torch})["_get_input_ids"]
    return get(None, tok, text, length).flatten().tolist()


def make_clip():
    from transformers import CLIPTokenizer

    files = f"{TOKENIZER}/vocab.json", f"{TOKENIZER}/merges.txt"
    sd1 = CLIPTokenizer(*files, model_max_length=77)
    sd2 = CLIPTokenizer(*files, model_max_length=77, pad_token="!")
    tokenizers = {1: sd1, 2: sd2}

    def ids(tok, text):
        return tok.convert_tokens_to_ids(tok.tokenize(text))

    rng = random.Random(1)
    lines = []
    texts = [
        b"",
        b" ",
        b"\n",
        b"!",
        b"a",
        b"\xff",
        b"\x00",
        "ß".encode(),
        b"<|endoftext|>",
        b"'",
        b"''s",
        b"a'sb",
        "e\u0301".encode(),
        "Σ".encode(),
        "aΣ".encode(),
        "aΣ'b".encode(),
        "aΣ.".encode(),
        "a\u0345Σ".encode(),
        "a\u0345b".encode(),
        "!\u0345!".encode(),
        b"<|start\xffoftext|>",
        b"a<|startoftext|>b<|endoftext|>c",
        b"<<|endoftext|>>",
    ]
    texts += [w.encode() for w in WORDS]
    while len(texts) < 1800:
        texts.append(some_text(rng).encode())
    while len(texts) < 2200:
        texts.append(some_bytes(rng))
    for k, data in enumerate(texts):
        kind = 2 if k % 5 == 4 or data == b"!" else 1
        got = ids(tokenizers[kind], data.decode("utf-8", "replace"))
        lines.append(["encode", kind, escape(data), len(got), crc(got)])
    letters = "".join(rng.choice("etaoinshrdlu") for _ in range(3000))
    for unit, count in [
        ("a", 10000),
        ("ab", 5000),
        ("lol", 3334),
        ("あ", 10000),
        ("é ", 5000),
        ("1", 10000),
        (".", 10000),
        ("日本", 5000),
        ("e\u0301\u0323", 3000),
        ("masterpiece, ", 800),
        ("😀", 2500),
        (letters, 1),
        ("<|endoftext|>", 700),
        ("\x00", 10000),
    ]:
        got = ids(sd1, unit * count)
        lines.append(["repeat", 1, escape(unit), count, len(got), crc(got)])
    for kind, tok in tokenizers.items():
        for length in (77, 152, 227):
            for n in [0, 1, 2, 73, 74, 75, 76, 148, 149, 150, 151, 152, 224, 225, 226, 300]:
                text = " ".join(rng.choice(["cat", "1", "!", "blue", "é"]) if n else "" for _ in range(n))
                lines.append(["chunks", kind, escape(text), length, crc(sd_chunks(tok, text, length))])
    for k in range(150):
        kind = rng.choice([1, 2])
        some = (
            ids(tokenizers[kind], some_text(rng))
            if k % 2
            else [rng.randrange(49408) for _ in range(rng.randrange(6))]
        )
        text = tokenizers[kind].decode(some)
        lines.append(["decode", kind, " ".join(map(str, some)), escape(text)])
    for tokens in [
        ["sks"],
        ["<cat>", "<cat>1", "<cat>12"],
        ["Shs", "shs1", "shs2"],
        ["low er", "blowing", "lower"],
        ["猫耳", "é"],
    ]:
        tok = CLIPTokenizer(*files, model_max_length=77)
        known = tok.get_vocab()
        tokens = [t for t in tokens if t not in known]
        assert tok.add_tokens(tokens) == len(tokens)
        pieces = (
            tokens
            + [t[:-1] for t in tokens]
            + [" ", "a ", ", ", "1", "<|endoftext|>", "<", "Sks", "SHS1", "bl", "low"]
        )
        for _ in range(25):
            text = "".join(rng.choice(pieces) for _ in range(rng.randrange(1, 8)))
            got = ids(tok, text)
            lines.append(
                [
                    "added",
                    escape(" | ".join(tokens)),
                    escape(text),
                    len(got),
                    crc(got),
                    escape(tok.decode(got)),
                ]
            )
    write("clip.tsv", lines)

    lines = []
    for block in range(0, 0x110000, 4096):
        sums = []
        for form in ("%s", "x%sΣ%s's1 %s%s"):
            values = []
            for cp in range(block, block + 4096):
                c = chr(cp).encode("utf-8", "surrogatepass").decode("utf-8", "replace")
                got = ids(sd1, form.replace("%s", c))
                values += [len(got), *got]
            sums.append(crc(values))
            sd1.cache = {"<|startoftext|>": "<|startoftext|>", "<|endoftext|>": "<|endoftext|>"}
        lines.append(["%x" % block, *sums])
    write("clip-code-points.tsv", lines)


def make_unicode():
    import re

    def klass(c):
        return {"L": 1, "N": 2, "C": 3}.get(unicodedata.category(c)[0], 0)

    rules = {
        "class": klass,
        "space": lambda c: c.isspace(),
        "separator": lambda c: unicodedata.category(c) == "Zs",
        "word": lambda c: bool(re.match(r"\w", c)),
        "digit": lambda c: int(c) + 1 if re.match(r"\d", c) else 0,
    }
    write(
        "unicode.tsv",
        [
            [name, b"%08x" % zlib.crc32(bytes(int(rule(chr(c))) for c in range(0x110000)))]
            for name, rule in rules.items()
        ],
    )


# -- sd-scripts' own functions ---------------------------------------------------------------------


def borrow(path, names, scope):
    """Runs only the named functions and constants of a source file, in scope."""
    body = []
    for node in ast.walk(ast.parse(open(f"{SD_SCRIPTS}/{path}", encoding="utf-8").read())):
        if isinstance(node, ast.FunctionDef) and node.name in names:
            for arg in node.args.args:
                arg.annotation = None
            node.returns = None
            body.append(node)
        elif (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id in names
        ):
            body.append(node)
    exec(compile(ast.Module(body, []), path, "exec"), scope)
    return scope


def make_caption():
    import math
    import re

    process = borrow(
        "library/train_util.py", ["process_caption"], {"math": math, "random": random, "re": re}
    )["process_caption"]
    rng = random.Random(2)
    tags = [
        "1girl",
        "solo",
        " long hair",
        "blue eyes ",
        "",
        " ",
        "{red|blue|green} hair",
        "{a|b}",
        "{{lit}}",
        "{}",
        "{x",
        "y}",
        "smile",
        "a;b",
        "猫耳",
        "\u3000全角\u3000",
        "{一|二|三}",
        "⦅q⦆",
        "{{{a|b}}}",
        "a|b",
        "sks dog",
        "hat",
        "tree",
        "sky",
    ]
    lines = []
    for _ in range(330):
        sep = rng.choice([",", ",", ",", ";", ", ", "|||"])
        keepsep = rng.choice(["", "", "|||", "@"])
        caption = (sep + rng.choice(["", " "])).join(rng.choice(tags) for _ in range(rng.randrange(8)))
        if rng.random() < 0.3:
            caption += "\n" + rng.choice(["second line, x", "zweite", ""]) + rng.choice(["", "\nthird"])
        for _ in range(rng.choice([0, 0, 1, 2, 3]) if keepsep else 0):
            at = rng.randrange(len(caption) + 1)
            caption = caption[:at] + keepsep + caption[at:]
        replacements = rng.choice(
            [
                {},
                {},
                {},
                {"sks": "<v1> <v2>"},
                {"": ["a photo of x", "x, drawn", "{x}"]},
                {"girl": "x", "x": "yy"},
                {"": "plain"},
                {"": ["one"]},
            ]
        )
        subset = types.SimpleNamespace(
            caption_prefix=rng.choice([None, None, "", "pre, "]),
            caption_suffix=rng.choice([None, None, "suf"]),
            caption_dropout_rate=rng.choice([0, 0, 0, 0.3]),
            caption_dropout_every_n_epochs=rng.choice([0, 0, 0, 2]),
            caption_tag_dropout_rate=rng.choice([0, 0, 0.4, 1.0]),
            enable_wildcard=rng.random() < 0.5,
            shuffle_caption=rng.random() < 0.6,
            keep_tokens=rng.choice([0, 0, 1, 2, 9]),
            keep_tokens_separator=keepsep,
            caption_separator=sep,
            secondary_separator=rng.choice([None, ";", ";;"]),
            token_warmup_min=rng.choice([1, 1, 2, 0]),
            token_warmup_step=rng.choice([0, 0, 0, 10, 0.5, 0.001, 7.5]),
        )
        o = subset
        at = types.SimpleNamespace(
            current_epoch=rng.randrange(1, 5),
            current_step=rng.choice([0, 1, 3, 5, 9, 50]),
            max_train_steps=rng.choice([20, 100]),
            replacements=replacements,
        )
        fields = [
            rng.randrange(1000),
            at.current_epoch,
            at.current_step,
            at.max_train_steps,
            o.caption_dropout_rate,
            o.caption_dropout_every_n_epochs,
            o.caption_tag_dropout_rate,
            int(o.enable_wildcard),
            int(o.shuffle_caption),
            o.keep_tokens,
            o.token_warmup_min,
            o.token_warmup_step,
        ]
        fields += [
            escape(x or "") for x in (o.caption_prefix, o.caption_suffix, sep, o.secondary_separator, keepsep)
        ]
        fields.append(
            escape(
                "\x1e".join(
                    "\x1f".join(
                        [f, "L" if isinstance(t, list) else "S", *(t if isinstance(t, list) else [t])]
                    )
                    for f, t in replacements.items()
                )
            )
        )
        random.seed(fields[0])
        fields += (
            [escape(caption)]
            + [escape(process(at, subset, caption)) for _ in range(2)]
            + [random.getrandbits(32)]
        )
        lines.append(fields)
    write("caption.tsv", lines)


def make_prompt():
    import re

    class Quiet:
        def error(self, *_):
            pass

    parse = borrow("library/train_util.py", ["line_to_prompt_dict"], {"re": re, "logger": Quiet()})[
        "line_to_prompt_dict"
    ]
    keys = [
        "width",
        "height",
        "seed",
        "sample_steps",
        "scale",
        "guidance_scale",
        "negative_prompt",
        "sample_sampler",
        "controlnet_image",
        "cfg_trunc_ratio",
        "renorm_cfg",
        "flow_shift",
    ]
    rng = random.Random(3)
    parts = [
        "w 512",
        "h 768",
        "d 42",
        "s 30",
        "l 7.5",
        "g 3",
        "n bad, worst",
        "ss euler_a",
        "cn /a b.png",
        "ctr 0.5",
        "rcfg 1e-2",
        "fs 3.1",
        "W 64",
        "H 12abc",
        "D 18446744073709551615",
        "S 0",
        "s 99999",
        "L 1.2.3",
        "l .5",
        "l .",
        "g 5.",
        "N No",
        "n ",
        "n  two",
        "w  512",
        "w512",
        "w -5",
        "x 3",
        "am 1",
        "seed 3",
        "s 0020",
        "SS Euler",
        "ſ 12",
        "ſſ k",
        "w ٣٤",
        "l ٣.٥",
        "d 007",
        "ctr abc",
        "ctr 1_0.5",
        "rcfg nan",
        "ctr  -inf ",
        "fs ",
        "n a --w 3",
        "n a -- w 3",
        "-w 5",
        " w 5",
        "cn",
        "n x\ny",
        "n \ny",
        "rcfg 1__0",
        "rcfg _1",
        "ctr 0x1p3",
        "ctr +.5e1",
        "d 5 6",
    ]
    heads = [
        "a photo of sks cat",
        "",
        "n girl standing",
        "w 100 things",
        "--w 5",
        "日本の猫 ",
        "# no comment here",
        "s 5",
        "a--w 5",
        "l x",
    ]
    lines = []
    for k in range(260):
        some = [parts[k]] if k < len(parts) else [rng.choice(parts) for _ in range(rng.randrange(6))]
        line = rng.choice(heads) + "".join(" --" + p for p in some)
        got = parse(line)
        assert set(got) <= {"prompt", *keys}
        cells = []
        for key in keys:
            v = got.get(key)
            cells.append(
                b"-"
                if v is None
                else b"="
                + (
                    b"%016x" % struct.unpack("<Q", struct.pack("<d", v))[0]
                    if isinstance(v, float)
                    else escape(str(v))
                )
            )
        lines.append([escape(line), escape(got["prompt"]), *cells])
    write("prompt.tsv", lines)


def make_clean():
    import re

    names = [
        "clean_tags",
        "clean_caption",
        "CAPTION_REPLACEMENTS",
        "PATTERN_HAIR_LENGTH",
        "PATTERN_HAIR_CUT",
        "PATTERN_HAIR",
        "PATTERN_WORD",
        "PATTERNS_REMOVE_IN_MULTI",
    ]

    class Quiet:
        def info(self, *_):
            pass

    scope = borrow("finetune/clean_captions_and_tags.py", names, {"re": re, "logger": Quiet()})
    rng = random.Random(4)
    people = ["1girl", "2girls", "multiple_girls", "2boys", "1boy", "solo"]
    tags = (
        people
        + """long_hair short_hair medium_hair black_hair blonde_hair blue-green_hair 髪_hair
        very_long_hair bob_cut hime_cut blue_eyes
        red_eyes crossed-bangs_eyes 青い_eyes long_sleeves short_sleeves sleeveless ponytail braid
        twin_braid ahoge twintails single_hair_bun hair_bun
        double_bun two_side_up two_tails sidelocks shirt white_shirt black_white_shirt t-shirt
        red_t-shirt hair_ornament flower_hair_ornament hat
        red_hat ^_^ @_@ o_o smile 1girls skirt pleated_skirt a-b_skirt hair girls éclair big_éclair
        猫耳 黒い_猫耳 _ __ rating:safe rating_x
        :d shirt_ a,b""".split()
    )
    lines = []
    cases = [
        "",
        ",",
        ", ",
        "shirt",
        "2girls",
        "girls, rating",
        ", rating:safe",
        "1girl,hair",
        "2girls,long_hair, black_hair",
        "rating:safe, 1girl",
        "1girl, long_hair, blue_eyes, shirt, white_shirt, ^_^, rating:safe",
        "shirt, shirt",
        "a shirt,shirt",
        "a  shirt, shirt",
    ]
    while len(cases) < 1500:
        n = rng.randrange(1, 10)
        some = [rng.choice(tags) for _ in range(n)]
        if rng.random() < 0.6:
            some.insert(0, rng.choice(people))
        cases.append(rng.choice([", ", ", ", ", ", ",", ",  ", " , "]).join(some))
    for text in cases:
        try:
            got = scope["clean_tags"]("", text)
        except AssertionError:
            got = ""
        lines.append(["t", escape(text), b"%08x" % zlib.crc32(got.encode())])
    words = sorted({w for pair in scope["CAPTION_REPLACEMENTS"] for w in " ".join(pair).split()}) + [
        "in",
        "the",
        "of",
        "persona",
        "young",
    ]
    for _ in range(500):
        text = "".join(rng.choice(words) + rng.choice([" ", " ", " ", ""]) for _ in range(rng.randrange(9)))
        lines.append(["c", escape(text), b"%08x" % zlib.crc32(scope["clean_caption"](text).encode())])
    write("clean.tsv", lines)


def main():
    os.makedirs("t/data/text", exist_ok=True)
    for name in WANTED:
        globals()[f"make_{name}"]()


if __name__ == "__main__":
    main()
