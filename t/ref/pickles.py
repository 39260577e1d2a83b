"""A corpus of files that attack whoever reads a torch.save: t/data/torch/bad/.

  pickles.py [OUT]        writes the files and expected.txt: a line each, the file's name and a part of the message

Python's own pickle would run what is in some of them. They name harmless commands (true), and never run here.
"""

import io
import os
import pickle
import struct
import sys
import tarfile
import zipfile

import peers

PROTO = b"\x80\x02"
FILES = []


def bad(name, message, data):
    FILES.append((name, message, data))


def archive(pkl, members=(), folder="a/", method=zipfile.ZIP_STORED):
    b = io.BytesIO()
    with zipfile.ZipFile(b, "w", method) as z:
        for name, data in [("data.pkl", pkl), *members, ("version", b"3\n")]:
            z.writestr(zipfile.ZipInfo(folder + name), data, method)
    return b.getvalue()


def tar(*names):
    """As PyTorch 0.1 saved: members in a fixed order, in pax' format."""
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode="w", format=tarfile.PAX_FORMAT) as t:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 4
            t.addfile(info, io.BytesIO(b"\x80\x02N."))
    return b.getvalue()[:len(names) * 1024 + 1024]


def text(s):
    return b"X" + struct.pack("<I", len(s.encode())) + s.encode()


def glob(module, name):
    return f"c{module}\n{name}\n".encode()


def number(n):
    return b"K" + bytes([n]) if 0 <= n < 256 else b"\x8a\x08" + struct.pack("<q", n)


def dims(*n):
    return b"(" + b"".join(map(number, n)) + b"t"


def storage(key="0", kind=("torch", "FloatStorage"), elements=4, first="storage"):
    return b"(" + text(first) + glob(*kind) + text(key) + text("cpu") + number(elements) + b"tQ"


def tensor(shape=(4,), stride=(1,), offset=0, **how):
    return (glob("torch._utils", "_rebuild_tensor_v2") + b"(" + storage(**how) + number(offset) + dims(*shape) + dims(*stride) +
            b"\x89" + glob("collections", "OrderedDict") + b")RtR")


def saved(value):
    """{"x": value}"""
    return PROTO + b"}" + text("x") + value + b"s."


def calls():
    """What a victim would run. The message must name it."""
    class Run:
        def __init__(self, f, *args):
            self.call = f, args

        def __reduce__(self):
            return self.call

    run = {"system": (Run(os.system, "true"), "refers to posix.system"),
           "eval": (Run(eval, "1"), "refers to builtins.eval"),
           "exec": (Run(exec, "1"), "refers to builtins.exec"),
           "import": (Run(__import__, "os"), "refers to builtins.__import__"),
           "getattr": (Run(getattr, "x", "y"), "refers to builtins.getattr"),
           "open": (Run(open, "/dev/null"), "refers to io.open"),
           "nested": ({"a": [({"b": Run(os.system, "true")},)]}, "refers to posix.system")}
    for name, (obj, message) in run.items():
        for protocol in (0, 2, 4):
            bad(f"{name}-{protocol}.pt", message, archive(pickle.dumps(obj, protocol)))
        bad(f"{name}-legacy.pt", message, pickle.dumps(obj, 2))
    state = {"x": Run(os.system, "true")}
    magic = b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    bad("system-behind-magic.pt", "the saved values, at byte", magic + pickle.dumps(state, 2) + pickle.dumps([], 2))
    bad("system-in-keys.pt", "the storages' keys, at byte", magic + pickle.dumps({}, 2) + pickle.dumps([state], 2))


def names():
    for module, name in (("torch.storage", "_load_from_bytes"), ("torch", "load"), ("torch.hub", "load"), ("numpy", "load"),
                         ("torch.jit", "load"), ("builtins", "object"), ("copyreg", "_reconstructor"), ("subprocess", "Popen"),
                         ("runpy", "_run_code"), ("webbrowser", "open"), ("torch._utils", "_rebuild_tensor_v2.__globals__"),
                         ("__main__", "Model"), ("torch.nn.modules.linear", "Linear")):
        bad(f"name-{module}-{name}.pt", f"refers to {module}.{name}", archive(saved(glob(module, name))))
    bad("name-stack.pt", "refers to os.system", archive(saved(text("os") + text("system") + b"\x93")))
    bad("name-inst.pt", "refers to os.system", archive(saved(b"(" + text("true") + b"ios\nsystem\n")))
    bad("name-not-called.pt", "refers to os.system", archive(PROTO + glob("os", "system") + b"0N."))
    bad("name-odd.pt", "refers to o", archive(saved(glob("o\x1b[2Js", "x\x07"))))
    bad("name-empty.pt", "refers to .", archive(saved(glob("", ""))))
    bad("name-number.pt", "a name that is not text", archive(saved(b"K\x01K\x02\x93")))
    bad("extension.pt", "opcode 0x82", archive(saved(b"\x82\x01")))
    bad("out-of-band.pt", "opcode 0x97", archive(saved(b"\x97")))


def calls_of_known():
    bad("call-storage.pt", "torch.FloatStorage: it is called", archive(saved(glob("torch", "FloatStorage") + b")R")))
    bad("call-text.pt", "calls something that is no known name", archive(saved(text("os.system") + b")R")))
    bad("call-dict.pt", "calls something that is no known name", archive(saved(b"})R")))
    bad("call-no-tuple.pt", "without a tuple", archive(saved(glob("collections", "OrderedDict") + b"NR")))
    bad("encode.pt", "its arguments are not", archive(saved(glob("_codecs", "encode") + b"(" + text("x") + text("rot13") + b"tR")))
    bad("build-int.pt", "attributes for a value", archive(saved(b"K\x01}b")))
    bad("append-int.pt", "items for a value", archive(saved(b"K\x01K\x02a")))
    bad("pairs.pt", "not a list of pairs", archive(saved(glob("collections", "OrderedDict") + b"(]]NaatR")))
    bad("rebuild-args.pt", "its arguments are not", archive(saved(glob("torch._utils", "_rebuild_tensor_v2") + b")R")))
    bad("rebuild-parameter.pt", "is not a tensor", archive(saved(glob("torch._utils", "_rebuild_parameter") + b"(NtR")))
    bad("rebuild-type.pt", "its arguments are not", archive(saved(
        glob("torch._tensor", "_rebuild_from_type_v2") + b"(" + glob("torch", "Size") + b"N)tR")))


def machine():
    bad("empty.pt", "no end", archive(b""))
    bad("no-stop.pt", "no end", archive(PROTO + b"N"))
    bad("underflow.pt", "more from the stack", archive(PROTO + b"."))
    bad("underflow-tuple.pt", "more from the stack", archive(PROTO + b"N\x87."))
    bad("underflow-mark.pt", "more from the stack", archive(PROTO + b"N(."))
    bad("underflow-beyond-mark.pt", "more from the stack", archive(PROTO + b"]N(a."))
    bad("no-mark.pt", "a mark that is not there", archive(PROTO + b"Nt."))
    bad("left-over.pt", "more than one value", archive(PROTO + b"NN."))
    bad("left-mark.pt", "more than one value", archive(PROTO + b"N(N."))
    bad("odd-dict.pt", "a key that has no value", archive(PROTO + b"(Nd."))
    bad("memo-none.pt", "was never set", archive(PROTO + b"h\x05."))
    bad("memo-far.pt", "memo index 4294967295 in a pickle of", archive(PROTO + b"Nr\xff\xff\xff\xff."))
    bad("memo-far-get.pt", "was never set", archive(PROTO + b"j\xff\xff\xff\xff."))
    bad("memo-text.pt", "memo index 99999999999 in", archive(b"Np99999999999\n."))
    bad("text-long.pt", "4294967295 bytes wanted", archive(PROTO + b"X\xff\xff\xff\xffab."))
    bad("text-longer.pt", "18446744073709551615 bytes wanted", archive(b"\x80\x04\x8d" + b"\xff" * 8 + b"."))
    bad("long-negative.pt", "an integer of 4294967295 bytes", archive(PROTO + b"\x8b\xff\xff\xff\xff."))
    bad("long-huge.pt", "an integer of 65536 bytes", archive(PROTO + b"\x8b\x00\x00\x01\x00" + b"\x7f" * 65536 + b"."))
    bad("long-digits.pt", "a number of 1000 characters", archive(b"L" + b"9" * 999 + b"L\n."))
    bad("long-20-digits.pt", "is not an integer of 64 bits", archive(b"I99999999999999999999\n."))
    bad("float-text.pt", "is not a number", archive(b"F__import__('os')\n."))
    bad("string-escape.pt", "a string with escapes", archive(b"S'\\x41'\n."))
    bad("protocol-9.pt", "protocol 9", archive(b"\x80\x09N."))
    bad("opcode.pt", "opcode 0xff", archive(PROTO + b"\xff."))


def bombs():
    many = 1000
    bad("deep-lists.pt", "nested more than 32 deep", archive(PROTO + b"]" * many + b"a" * (many - 1) + b"."))
    bad("name-long.pt", "a name of more than 65536 bytes", archive(PROTO + b"}" + text("k" * 70000) + b"Ns."))
    bad("deep-tuples.pt", "nested more than 32 deep", archive(PROTO + b"N" + b"\x85" * many + b"."))
    bad("itself.pt", "nested more than 32 deep", archive(PROTO + b"]q\x00h\x00a."))
    laughs = b"0" + b"".join(
        b"](" + b"h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) + b"0" for i in range(28)) + b"h\x1c."
    bad("laughs.pt", "more than 16 bytes of memory", archive(PROTO + b"]q\x00(" + tensor() + b"e" + laughs, [("data/0", bytes(16))]))
    bad("laughs-dry.pt", "too often", archive(PROTO + b"]q\x00" + laughs))
    bad("lists.pt", "more than 16 bytes of memory", archive(PROTO + b"]" * 8000))
    bad("memo-rising.pt", "more than 16 bytes of memory", archive(b"\x80\x04]" + b"\x94]" * 8000))
    long_list = PROTO + b"](" + b"N" * 8000 + b"eq\x00" + (glob("builtins", "set") + b"(h\x00tR0") * 200 + b"."
    bad("copies.pt", "more than 16 bytes of memory", archive(long_list))
    one = text("a" * 30000) + b"q\x00" + glob("_codecs", "encode") + b"q\x010" + text("latin1") + b"q\x020"
    bad("texts.pt", "more than 16 bytes of memory", archive(PROTO + one + b"h\x01h\x00h\x02\x86R0" * 400 + b"."))
    key = text("k" * 20000)
    bad("keys.pt", "more than 16 bytes of memory", archive(
        PROTO + tensor() + b"q\x000}(" + key + b"}(" + b"".join(text(str(i)) + b"h\x00" for i in range(1000)) + b"uuq\x010h\x01.",
        [("data/0", bytes(16))]))


def ids():
    where = [("data/0", bytes(16))]
    bad("id-text.pt", "a persistent id that is not", archive(PROTO + text("os.system") + b"Q."))
    bad("id-line.pt", "a persistent id that is not", archive(b"Pos.system\n."))
    bad("id-short.pt", "a persistent id that is not", archive(PROTO + text("storage") + b"\x85Q."))
    bad("id-kind.pt", "a persistent id that is not", archive(saved(tensor(first="file")), where))
    bad("id-module.pt", "a whole Python module", archive(saved(tensor(first="module")), where))
    bad("id-type.pt", "a persistent id that is not", archive(saved(tensor(kind=("torch", "Size"))), where))
    bad("id-negative.pt", "a persistent id that is not", archive(saved(tensor(elements=-1)), where))
    bad("id-storage-type.pt", "refers to torch.QInt8Storage", archive(saved(tensor(kind=("torch", "QInt8Storage"))), where))
    bad("no-storage.pt", 'storage "0" is not in the file', archive(saved(tensor())))
    bad("no-such-storage.pt", 'storage "../0" is not in the file', archive(saved(tensor(key="../0")), where))


def lies():
    where = [("data/0", bytes(16))]
    bad("storage-short.pt", "said to have 1000 elements of F32, but has 16 bytes", archive(saved(tensor(elements=1000)), where))
    bad("storage-long.pt", "said to have 2 elements of F32, but has 16 bytes", archive(saved(tensor(elements=2)), where))
    bad("storage-2-62.pt", "said to have", archive(saved(tensor(elements=(1 << 62) + 4)), where))
    bad("beyond.pt", "outside of its storage", archive(saved(tensor(shape=(5,))), where))
    bad("offset.pt", "outside of its storage", archive(saved(tensor(offset=1)), where))
    bad("offset-2-63.pt", "outside of its storage", archive(saved(tensor(offset=(1 << 63) - 1)), where))
    bad("offset-negative.pt", "its arguments are not", archive(saved(tensor(offset=-1)), where))
    bad("stride.pt", "outside of its storage", archive(saved(tensor(shape=(2,), stride=(4,))), where))
    bad("stride-2-62.pt", "outside of its storage", archive(saved(tensor(shape=(4, 4), stride=(1 << 62, 1 << 62))), where))
    bad("stride-negative.pt", "whole numbers from 0 up", archive(saved(tensor(stride=(-1,))), where))
    bad("stride-count.pt", "its arguments are not", archive(saved(tensor(stride=(1, 1))), where))
    bad("expanded.pt", "repeats its storage", archive(saved(tensor(shape=(1 << 40, 4), stride=(0, 1))), where))
    bad("shape-2-64.pt", "is too large", archive(saved(tensor(shape=(1 << 40, 1 << 40), stride=(0, 0))), where))
    bad("dims.pt", "more than 64 dimensions", archive(saved(tensor(shape=(1,) * 65, stride=(1,) * 65)), where))
    bad("twice.pt", "appears twice", archive(
        PROTO + b"}" + text("a.b") + tensor() + b"s" + text("a") + b"}" + text("b") + tensor() + b"ss.", where))
    bad("nul.pt", "has a NUL in it", archive(PROTO + b"}" + text("a\0b") + tensor() + b"s.", where))
    bad("latin.pt", "is not UTF-8", archive(PROTO + b"}U\x01\xe9" + tensor() + b"s.", where))


def archives():
    good, where = saved(tensor()), ("data/0", bytes(16))
    bad("deflated.pt", "compressed", archive(good, [where], method=zipfile.ZIP_DEFLATED))
    b = io.BytesIO()
    with zipfile.ZipFile(b, "w") as z:
        z.writestr(zipfile.ZipInfo("a/data.pkl"), good)
        z.writestr(zipfile.ZipInfo("a/data/0"), bytes(16 << 20), zipfile.ZIP_DEFLATED)
    bad("zip-bomb.pt", "compressed", b.getvalue())
    whole = bytearray(archive(good, [where]))
    at = whole.index(b"PK\1\2")
    entry = whole.index(b"PK\1\2", at + 4)
    shared = bytearray(whole)
    third = shared.index(b"PK\1\2", entry + 4)
    shared[third + 42:third + 46] = shared[entry + 42:entry + 46]
    bad("overlap.pt", "overlap", bytes(shared))
    quoted = bytearray(whole)  # a member whose bytes are the next one with its header
    for at in (quoted.index(b"a/data.pkl") - 30 + 18, quoted.index(b"PK\1\2") + 20):
        quoted[at:at + 8] = struct.pack("<II", len(good) + 60, len(good) + 60)
    bad("overlap-quoted.pt", "overlap", bytes(quoted))
    end = whole.index(b"PK\5\6")
    many = bytearray(whole)
    many[end + 8:end + 12] = b"\xff\xff\xff\xff"
    bad("members-65535.pt", "its directory is too short for its members", bytes(many))
    out = bytearray(whole)
    out[end + 16:end + 20] = b"\xf0\xff\xff\x7f"
    bad("directory-far.pt", "its directory lies outside the file", bytes(out))
    b = io.BytesIO()
    with zipfile.ZipFile(b, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr(zipfile.ZipInfo("a.npy"), bytes(65536), zipfile.ZIP_DEFLATED)
    ratio = bytearray(b.getvalue())
    for at in (22, ratio.index(b"PK\1\2") + 24):
        ratio[at:at + 4] = struct.pack("<I", 0xfffffff0)
    bad("zip-ratio.npz", "cannot have 4294967280 bytes unpacked from", bytes(ratio))
    far = bytearray(whole)
    far[entry + 42:entry + 46] = b"\xf0\xff\xff\x7f"
    bad("member-far.pt", "not where it should be", bytes(far))
    bad("big-endian.pt", "byte order", archive(good, [where, ("byteorder", b"big")]))
    bad("script.pt", "a TorchScript archive", archive(good, [where, ("constants.pkl", b"")]))
    b = io.BytesIO()
    with zipfile.ZipFile(b, "w") as z: # as torch.jit.save lays it out
        z.writestr(zipfile.ZipInfo("a/data.pkl"), good)
        z.writestr(zipfile.ZipInfo("a/code/__torch__/a.py"), "x = 1\n" * 100, zipfile.ZIP_DEFLATED)
        z.writestr(zipfile.ZipInfo("a/constants.pkl"), pickle.dumps((), 2))
    bad("script-code.pt", "a TorchScript archive", b.getvalue())
    bad("tar-torch.pt", "a tar file of PyTorch 0.1", tar("sys_info", "pickle", "tensors", "storages"))
    bad("tar.pt", "a tar archive, which is no tensor file", tar("weights.bin"))
    damaged = whole.replace(b"FloatStorage", b"LongxStorage")
    bad("damaged.pt", "refers to torch.LongxStorage", bytes(damaged))
    b = io.BytesIO()
    with zipfile.ZipFile(b, "w") as z:
        z.writestr(zipfile.ZipInfo("a/data.pkl"), good)
        z.writestr(zipfile.ZipInfo("b/data/0"), bytes(16))
    bad("folders.pt", "lies outside of the folder", b.getvalue())
    b = io.BytesIO()
    with zipfile.ZipFile(b, "w") as z:
        z.writestr(zipfile.ZipInfo("readme.txt"), "x")
    bad("other.zip", "neither torch.save's", b.getvalue())
    bad("cut.pt", "cut short", bytes(whole[:-40]))


def legacy():
    first = [pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    magic, keys = b"".join(first), pickle.dumps(["0"], 2)
    good = saved(tensor()) + keys
    bad("legacy-plain.pt", "magic number is not", pickle.dumps({"a": [1, 2, 3], "b": None}, 2))
    bad("legacy-protocol.pt", "protocol is not 1001", first[0] + pickle.dumps(7, 2) + first[2] + good + bytes(24))
    bad("legacy-big-endian.pt", "little-endian", first[0] + first[1] + pickle.dumps({"little_endian": False}, 2) + good)
    bad("legacy-cut.pt", "cut short", magic + good + struct.pack("<q", 4) + bytes(15))
    bad("legacy-huge.pt", "beyond the end", magic + good + struct.pack("<q", 1 << 61) + bytes(16))
    bad("legacy-negative.pt", "beyond the end", magic + good + struct.pack("<q", -1) + bytes(16))
    bad("legacy-lie.pt", "said to have 4 elements", magic + good + struct.pack("<q", 2) + bytes(8))
    bad("legacy-unlisted.pt", 'storage "0" is not in the file', magic + saved(tensor()) + pickle.dumps([], 2))
    bad("legacy-unknown.pt", 'storage "1" is listed', magic + saved(tensor()) + pickle.dumps(["1"], 2) + bytes(24))
    bad("legacy-key.pt", "key that is not text", magic + saved(tensor()) + pickle.dumps([1], 2) + bytes(24))
    twice = struct.pack("<q", 4) + bytes(16)
    bad("legacy-twice.pt", "appears twice", magic + saved(tensor()) + pickle.dumps(["0", "0"], 2) + twice + twice)


if __name__ == "__main__":
    for group in (calls, names, calls_of_known, machine, bombs, ids, lies, archives, legacy):
        group()
    folder = peers.output(sys.argv, "torch", "bad")
    for name, _, data in FILES:
        with open(os.path.join(folder, name), "wb") as f:
            f.write(data)
    with open(os.path.join(folder, "expected.txt"), "w") as f:
        f.write("".join(f"{name}\t{message}\n" for name, message, _ in FILES))
