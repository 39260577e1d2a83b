#!/usr/bin/env python3
"""Data set configurations, and the pictures with their parameters that sd-scripts makes of them.

  SD_SCRIPTS=... config.py [DIR]        (DIR: t/data/config; versions and environment: see peers.py;
                                         also voluptuous, and bin/sd-config)

Makes the files of DIR/files.json (text, or null for a picture) in a folder of its own, has config_util read each
configuration, and writes cases.ndjson, a line a case:
  name, toml or json (the file's text; neither: the folder convention), args (of the command line),
  refused (sd-scripts raises an error), or
  pictures: for training, then for validation: path, caption (as the data set holds it), repeats, reg, mask, dataset, subset
and ends with an error unless sd-scripts makes the same of what sd-config --to-toml writes for these. Their
repeats are those before regularisation pictures are balanced, dataset and subset the parameters in force.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

import peers

# key: values for [general], [[datasets]], [[datasets.subsets]], the command line
SUBSET = {
    "num_repeats": ("2", "3", "4", "5"),
    "shuffle_caption": ("true", "false", "true", ""),
    "caption_separator": ('"|"', '";"', '"\\t"', "."),
    "keep_tokens": ("1", "2", "0", "3"),
    "keep_tokens_separator": ('"|||"', '""', '"##"', "%%"),
    "secondary_separator": ('";;;"', '"a"', '""', "::"),
    "enable_wildcard": ("true", "false", "true", ""),
    "caption_prefix": ('"pre "', '""', '"\\u00e9 \\"q\\""', "cli pre"),
    "caption_suffix": ('" post"', "'C:\\x'", '""', "cli post"),
    "color_aug": ("true", "false", "true", ""),
    "flip_aug": ("true", "false", "true", ""),
    "random_crop": ("false", "true", "false", ""),
    "face_crop_aug_range": ("[1.0, 3.0]", "[2.5, 2.5]", "[0.5, 4.0]", "1.5,2"),
    "token_warmup_min": ("2", "0", "7", "3"),
    "token_warmup_step": ("0.5", "100", "0", "0.25"),
    "caption_dropout_rate": ("0.1", "1", "0.0", "0.75"),
    "caption_tag_dropout_rate": ("0.2", "0", "1.0", "0.3"),
    "caption_dropout_every_n_epochs": ("3", "0", "1", "2"),
    "resize_interpolation": ('"area"', '"box"', '"lanczos"', "cubic"),
    "custom_attributes": ("{a = 1, b = [1.5, 2.0]}", "{}", "{d = 'e'}", None),
}
FOLDER = {"caption_extension": ('"txt"', '".txt"', '".none"', ".txt"), "class_tokens": ('"sks g"', '""', '"s s"', None)}
DATASET = {
    "resolution": ("512", "[512, 768]", None, "640"),
    "batch_size": ("2", "3", None, "4"),
    "enable_bucket": ("true", "false", None, ""),
    "min_bucket_reso": ("128", "300", None, "64"),
    "max_bucket_reso": ("2048", "1000", None, "1024"),
    "bucket_reso_steps": ("64", "32", None, "64"),
    "bucket_no_upscale": ("true", "false", None, ""),
    "network_multiplier": ("0.5", "2.0", None, None),
}
SHOWN_SUBSET = [k for k in SUBSET if k != "num_repeats"] + ["alpha_mask"]
SHOWN_DATASET = [k for k in DATASET if k not in ("resolution", "network_multiplier")]

OUT_OF_PLACE = [("image_dir", "'db'"), ("is_reg", "true"), ("alpha_mask", "true"), ("metadata_file", "'ft.json'"),
                ("conditioning_data_dir", "'masks'"), ("shufle_caption", "true"), ("train_batch_size", "1"),
                ("prior_loss_weight", "1.0"), ("debug_dataset", "true")]
QUOTED = """general.'keep_tokens' = 3
[[datasets]]
"resolution" = 512
subsets = [{image_dir = 'db', class_tokens = "x"}, {image_dir = 'many'}]
"""
WRITTEN = """# two subjects, and pictures of their class
[general]
caption_extension = '.txt'
keep_tokens = 1
shuffle_caption = true

[[datasets]]
batch_size = 4
keep_tokens = 2 # for those that say nothing else
resolution = 512

  [[datasets.subsets]]
  class_tokens = 'sks cat'
  image_dir = 'db'

  [[datasets.subsets]]
  class_tokens = 'xyz dog'
  image_dir = 'many'
  keep_tokens = 3

  [[datasets.subsets]]
  class_tokens = 'animal'
  image_dir = 'reg'
  is_reg = true
  keep_tokens = 1
"""


def settings(keys, level, skip=()):
    return "".join(f"{k} = {v[level]}\n" for k, v in keys.items() if v[level] is not None and k not in skip)


def options(keys):
    names = {"batch_size": "--train_batch_size", "num_repeats": "--dataset_repeats"}
    given = {names.get(k, "--" + k): v[3] for k, v in keys.items() if v[3] is not None}
    return [word for name, value in given.items() for word in ([name, value] if value else [name])]


def accepted():
    plain = "[[datasets]]\nresolution = 512\n"
    db, ft = "image_dir = 'db'\n", "metadata_file = 'ft.json'\nimage_dir = 'ft'\n"
    cn = "image_dir = 'cn'\nconditioning_data_dir = 'masks'\ncaption_extension = '.txt'\n"
    sub = "[[datasets.subsets]]\n"
    for kind, where, more in (("DreamBooth", db, {**SUBSET, **FOLDER}), ("fine-tuning", ft, SUBSET), ("ControlNet", cn, SUBSET)):
        skip = ("random_crop",) if kind == "ControlNet" else ()
        yield f"{kind}: nothing", plain + sub + where
        yield (f"{kind}: all in general", "[general]\n" + settings(DATASET, 0) + settings(more, 0, skip)
               + "[[datasets]]\n" + sub + where)
        general = "[general]\n" + settings(DATASET, 0) + settings(more, 0, skip)
        own = where if kind != "ControlNet" else where.replace("caption_extension = '.txt'\n", "")
        yield (f"{kind}: all in the data set", general + "[[datasets]]\n" + settings(DATASET, 1) + settings(more, 1,
               skip) + sub + own)
        yield (f"{kind}: all in the subset", general + "[[datasets]]\n" + settings(DATASET, 1) + settings(more, 1,
               skip) + sub + own + settings(more, 2, skip))
        yield (f"{kind}: all on the command line", "[[datasets]]\n" + sub + where, options(DATASET)
               + options({k: v for k, v in more.items() if k not in skip}))
        yield (f"{kind}: all everywhere", general + "[[datasets]]\n" + sub + own + settings(more, 2, skip) + plain
               + sub + where, options(DATASET) + ["--keep_tokens", "9"])
    yield ("false, 0 and an empty string count as set",
           "[general]\nshuffle_caption = true\nkeep_tokens = 4\ncaption_prefix = 'x'\n" + plain
           + "shuffle_caption = false\nkeep_tokens = 0\ncaption_prefix = ''\n" + sub + db, ["--shuffle_caption",
           "--keep_tokens", "5"])
    for ext in ("'.txt'", "'txt'", "'.caption'", "''", "'.none'"):
        for wild in ("false", "true"):
            yield (f"captions: {ext}, wildcard {wild}", plain + sub + db
                   + f"caption_extension = {ext}\nenable_wildcard = {wild}\nclass_tokens = 'c t'\n")
    yield "captions: none", plain + sub + db + "caption_extension = '.none'\n"
    yield "captions: the folder's name counts", plain + sub + "image_dir = 'one_two_three'\n"
    yield ("regularisation", plain + sub + db + "num_repeats = 3\n" + sub
           + "image_dir = 'reg'\nis_reg = true\nnum_repeats = 2\nclass_tokens = 'cat'\ncaption_extension = '.txt'\n"
           + sub + "image_dir = 'many'\n")
    yield ("several data sets", plain + sub + db + sub
           + "image_dir = 'many'\nalpha_mask = true\n[[datasets]]\nresolution = [640, 448]\nbatch_size = 7\n" + sub
           + ft + "alpha_mask = false\n" + sub + "metadata_file = 'ft.jsonl'\nimage_dir = 'ft'\nnum_repeats = 2\n")
    yield ("subsets that count twice", plain + sub + db + "num_repeats = 2\n" + sub + "image_dir = 'many'\n" + sub
           + db + "num_repeats = 5\n" + plain + sub + db)
    yield "metadata that counts twice", plain + sub + ft + sub + ft.replace("'ft'", "'db'")
    yield ("no repeats", plain + "num_repeats = 0\n" + sub + db + sub + "image_dir = 'many'\nnum_repeats = 1\n" + sub
           + "image_dir = 'reg'\nnum_repeats = -1\n")
    yield ("a folder without pictures, and none", plain + sub + "image_dir = 'empty'\n" + sub
           + "image_dir = 'missing'\n" + sub + "image_dir = 'many'\n")
    yield "metadata with wildcards", plain + "enable_wildcard = true\ncaption_separator = ';'\n" + sub + ft
    yield "lines", plain + sub + "metadata_file = 'ft.jsonl'\nimage_dir = 'ft'\n"
    yield "masks", plain + sub + cn
    yield "alpha mask on the command line", plain + sub + db + sub + "image_dir = 'many'\nalpha_mask = false\n", ["--alpha_mask"]
    for part, seed in ((0.2, 1), (0.15, 7), (0.25, 0), (1.0, 3), (0.35, 12345), (0.05, 2)):
        yield (f"validation {part}", f"[general]\nvalidation_split = {part}\n" + plain
               + f"validation_seed = {seed}\n" + sub
               + "image_dir = 'many'\nnum_repeats = 4\ncaption_extension = '.txt'\n" + sub
               + "image_dir = 'reg'\nis_reg = true\n" + sub + db)
    yield ("validation on the command line", plain + sub + "image_dir = 'many'\n", ["--validation_split", "0.5",
           "--validation_seed", "5"])
    yield "quoted and dotted names", QUOTED
    yield "a file as people write it", WRITTEN


def refused():
    plain, sub = "[[datasets]]\nresolution = 512\n", "[[datasets.subsets]]\n"
    good = plain + sub + "image_dir = 'db'\n"
    wrong = {"true": ("num_repeats", "keep_tokens", "min_bucket_reso", "batch_size", "token_warmup_min")}  # Python takes it for 1
    for keys, head in ((DATASET, plain), (SUBSET, good), (FOLDER, good)):
        for k, v in keys.items():
            for bad in ("true", "1", "1.5", '"1"', "[1]", "[1, 2, 3]", "1979-05-27", "{a = 1}", "[{a = 1}]"):
                kind = v[0][0]
                fits = {"t": ("true",), "f": ("true",), '"': ('"1"',), "'": ('"1"',), "{": ("{a = 1}",)}.get(kind, ("1", "true"))
                if k in ("face_crop_aug_range", "network_multiplier"):
                    fits = ("1.5",) if k == "network_multiplier" else ()
                if k in ("token_warmup_step", "caption_dropout_rate", "caption_tag_dropout_rate"):
                    fits += ("1.5",)
                if bad not in fits and not (k == "resolution" and bad == "1"):
                    text = head if k != "resolution" else "[[datasets]]\n"
                    text += f"{k} = {bad}\n" + ("" if text == good else sub + "image_dir = 'db'\n")
                    yield f"{k} = {bad}", text
    for k, v in DATASET.items():
        yield f"{k} in a subset", good + f"{k} = {v[0]}\n"
    for k, v in FOLDER.items():
        yield f"{k} of metadata", plain + sub + f"metadata_file = 'ft.json'\nimage_dir = 'ft'\n{k} = {v[0]}\n"
        yield f"{k} of a metadata data set", plain + f"{k} = {v[0]}\n" + sub + "metadata_file = 'ft.json'\nimage_dir = 'ft'\n"
    for place in ("[general]\n", plain):
        for k, v in OUT_OF_PLACE:
            yield (f"{k} after {place.split()[0]}", place + f"{k} = {v}\n" + ("" if place == plain else plain) + sub
                   + "image_dir = 'db'\n")
    yield "no image_dir", plain + sub + "class_tokens = 'x'\n"
    yield "metadata and folder in one data set", good + sub + "metadata_file = 'ft.json'\nimage_dir = 'ft'\n"
    yield "masks and folder in one data set", good + sub + "image_dir = 'cn'\nconditioning_data_dir = 'masks'\n"
    yield ("masks and metadata in one subset", plain + sub
           + "image_dir = 'cn'\nconditioning_data_dir = 'masks'\nmetadata_file = 'ft.json'\n")
    for k, v in (("is_reg", "true"), ("class_tokens", "'x'"), ("alpha_mask", "true"), ("random_crop", "true")):
        yield f"{k} with masks", plain + sub + f"image_dir = 'cn'\nconditioning_data_dir = 'masks'\n{k} = {v}\n"
    yield "is_reg of metadata", plain + sub + "metadata_file = 'ft.json'\nimage_dir = 'ft'\nis_reg = true\n"
    yield "no resolution", "[[datasets]]\n" + sub + "image_dir = 'db'\n"
    yield "no resolution, metadata", "[[datasets]]\n" + sub + "metadata_file = 'ft.json'\nimage_dir = 'ft'\n"
    yield "no metadata", plain + sub + "metadata_file = 'none.json'\n"
    yield "relative names without a folder", plain + sub + "metadata_file = 'ft.json'\n"
    yield "too few masks", plain + sub + "image_dir = 'cn'\nconditioning_data_dir = 'few'\n"
    yield "too many masks", plain + sub + "image_dir = 'cn'\nconditioning_data_dir = 'more'\n"
    yield ("buckets beyond the resolution",
           "[[datasets]]\nresolution = 256\nenable_bucket = true\nmin_bucket_reso = 320\n" + sub + "image_dir = 'db'\n")
    yield ("buckets below the resolution",
           "[[datasets]]\nresolution = 2048\nenable_bucket = true\nbucket_no_upscale = true\n" + sub
           + "image_dir = 'db'\n")
    yield "an unknown table", good + "[extra]\na = 1\n"
    yield "a key outside", "resolution = 512\n" + good
    yield "general twice", "[general]\n[general]\n" + good
    yield "an interpolation that is not", plain + "resize_interpolation = 'best'\n" + sub + "image_dir = 'db'\n"
    yield "datasets as a table", "[datasets]\nresolution = 512\n"
    yield "subsets as a table", plain + "[datasets.subsets]\nimage_dir = 'db'\n"
    yield "not TOML", good + "x"


def arguments(words):
    from library import train_util

    parser = argparse.ArgumentParser()
    train_util.add_dataset_arguments(parser, True, True, True)
    train_util.add_training_arguments(parser, True)
    parser.add_argument("--validation_seed", type=int, default=None)
    parser.add_argument("--validation_split", type=float, default=0.0)
    parser.add_argument("--max_token_length_", default=None)
    args = parser.parse_args(words)
    train_util.prepare_dataset_args(args, True)
    return args


class Watch:
    """Notes every data set as it is made, and every picture in it, before regularisation is balanced."""

    def __init__(self):
        from library import train_util as t

        self.made = []
        for name in ("DreamBoothDataset", "FineTuningDataset", "ControlNetDataset"):
            self.wrap(getattr(t, name), name)
        info = t.ImageInfo

        def noted(*args, **kwargs):
            image = info(*args, **kwargs)
            self.made[-1][1].append((image, image.num_repeats))
            return image

        t.ImageInfo = noted

        def no_buckets(dataset):  # the pictures are too small for some
            dataset._length, dataset.buckets_indices = 0, []

        t.BaseDataset.make_buckets = no_buckets

    def wrap(self, cls, name):
        before = cls.__init__

        def init(dataset, *args, **kwargs):
            inside = self.made and self.made[-1][2] == "ControlNetDataset" and name == "DreamBoothDataset"
            if not inside:
                self.made.append([dataset, [], name])
            before(dataset, *args, **kwargs)

        cls.__init__ = init


def number(v):
    if isinstance(v, float) and v == int(v):
        return int(v)
    if isinstance(v, (tuple, list)):
        return [number(x) for x in v]
    if isinstance(v, dict):
        return {k: number(x) for k, x in v.items()}
    return v


def subset_of(dataset, image, subsets):
    subset = getattr(dataset, "image_to_subset", {}).get(image.image_key) or next(
        s for s in subsets if getattr(s, "image_dir", None) == os.path.dirname(image.absolute_path))
    same = lambda a, b: a.image_dir == b.image_dir and getattr(a, "metadata_file", 0) == getattr(b, "metadata_file", 0)
    return next(s for s in subsets if same(s, subset))


def pictures(watch, blueprint):
    n = len(blueprint.dataset_group.datasets)
    result = []
    for k, (dataset, images, _) in enumerate(watch.made):
        split = [i for i, d in enumerate(blueprint.dataset_group.datasets) if d.params.validation_split > 0]
        index = k if k < n else split[k - n]
        plan = blueprint.dataset_group.datasets[index]
        owner = getattr(dataset, "dreambooth_dataset_delegate", dataset)
        for image, repeats in images:
            params = subset_of(owner, image, [s.params for s in plan.subsets])
            line = dict(path=image.absolute_path, caption=image.caption, repeats=repeats, reg=image.is_reg, validation=k >= n)
            if plan.is_controlnet:
                line["mask"] = os.path.relpath(image.cond_img_path)
            shown = {k: getattr(plan.params, k) for k in SHOWN_DATASET}
            line["dataset"] = dict(index=index, resolution=list(plan.params.resolution), **shown)
            line["dataset"]["network_multiplier"] = number(plan.params.network_multiplier)
            line["subset"] = {k: number(getattr(params, k, False)) for k in SHOWN_SUBSET}
            line["subset"]["custom_attributes"] = line["subset"]["custom_attributes"] or {}
            result.append(line)
    return result


def by_name(subsets):
    return sorted(subsets, key=lambda s: s["image_dir"])  # sd-scripts has them in the order of the file system


def expand(watch, name, text, words):
    from library import config_util

    args = arguments(words)
    watch.made.clear()
    sanitizer = config_util.ConfigSanitizer(True, True, True, True)
    if text is None:
        folders = config_util.generate_dreambooth_subsets_config_by_subdirs
        user = {"datasets": [{"subsets": by_name(folders(args.train_data_dir)) + by_name(folders(None, args.reg_data_dir))}]}
        if args.in_json:
            user = {"datasets": [{"subsets": [{"image_dir": args.train_data_dir, "metadata_file": args.in_json}]}]}
    else:
        with open(name, "w", encoding="utf-8") as f:
            f.write(text)
        user = config_util.load_user_config(name)
    blueprint = config_util.BlueprintGenerator(sanitizer).generate(user, args)
    config_util.generate_dataset_group_by_blueprint(blueprint.dataset_group)
    return blueprint


def check_again(watch, case, root):
    if "refused" in case:
        return
    words = list(case["args"])
    for kind in ("toml", "json"):
        if kind in case:
            open("x." + kind, "w", encoding="utf-8").write(case[kind])
            words.append("x." + kind)
    text = subprocess.run([os.path.join(root, "bin", "sd-config"), "--to-toml", *words], check=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    if pictures(watch, expand(watch, "again.toml", text.decode(), [])) != case["pictures"]:
        sys.exit(f"{case['name']}: sd-scripts reads something else in\n{text.decode()}")


def main(argv):
    peers.check()
    out = os.path.abspath(peers.output(argv, "config"))
    root = os.path.abspath(os.path.join(peers.DATA, "..", ".."))
    picture = os.path.join(os.path.abspath(peers.DATA), "image", "rgb.png")
    peers.sd_scripts()
    import logging

    from library import strategy_base, strategy_sd

    logging.disable(logging.CRITICAL)
    strategy_base.LatentsCachingStrategy.set_strategy(strategy_sd.SdSdxlLatentsCachingStrategy(True, False, 1, False))
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for path, text in json.load(open(os.path.join(out, "files.json"), encoding="utf-8")).items():
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            if text is None:
                shutil.copy(picture, path)
            else:
                open(path, "w", encoding="utf-8", newline="").write(text)
        watch = Watch()
        for name, text, *words in accepted():
            cases.append(dict(name=name, toml=text, args=words[0] if words else [], pictures=pictures(watch,
                    expand(watch, "x.toml", text, words[0] if words else []))))
        data = {"general": {"keep_tokens": 3, "caption_dropout_rate": 0}, "datasets": [{"resolution": 512,
                "subsets": [{"image_dir": "db", "caption_prefix": "\u00e9"}]}]}
        text = json.dumps(data, indent=1)
        cases.append(dict(name="JSON", json=text, args=[], pictures=pictures(watch, expand(watch, "x.json", text, []))))
        for name, words in (("folders", ["--train_data_dir", "train"]), ("folders, regularisation",
                ["--train_data_dir", "train", "--reg_data_dir", "regs"]),
                            ("metadata", ["--in_json", "ft.json", "--train_data_dir", "ft", "--dataset_repeats", "3"])):
            words += ["--resolution", "512,640"]
            cases.append(dict(name=name, args=words, pictures=pictures(watch, expand(watch, None, None, words))))
        for name, text in refused():
            try:
                expand(watch, "x.toml", text, [])
            except Exception:
                cases.append(dict(name=name, toml=text, args=[], refused=True))
            else:
                sys.exit(f"sd-scripts accepts {name}:\n{text}")
        for case in cases:
            check_again(watch, case, root)
    with open(os.path.join(out, "cases.ndjson"), "w", encoding="utf-8") as f:
        for case in cases:
            print(json.dumps(case), file=f)
    print(f"{len(cases)} cases, {sum('refused' in c for c in cases)} of them refused")


if __name__ == "__main__":
    main(sys.argv)
