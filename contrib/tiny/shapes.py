"""Pictures of coloured shapes on coloured grounds, with their captions.

Everything here is drawn from signed distances (positive inside), so that edges are smooth at any size.
Needs numpy only; the concept set (`sks/`) also needs Pillow to write its files.
"""

import os

import numpy as np

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 220),
    "yellow": (240, 220, 50),
    "cyan": (70, 210, 230),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
    "grey": (128, 128, 128),
}
SHAPES = ("circle", "square", "triangle", "cross", "ring", "diamond")
SIZES = {"small": 0.24, "": 0.31, "large": 0.38}  # radius as a part of the short side

# Pairs (shape colour, ground colour) that training never shows; the quality check asks for them.
HELD_OUT = {("red", "cyan"), ("green", "white"), ("blue", "yellow"), ("yellow", "red"),
            ("cyan", "black"), ("white", "blue"), ("black", "green"), ("grey", "yellow")}

SKS = (255, 0, 200)  # the concept's colour: magenta, which no base picture has


def polygon_distance(points, x, y):
    """Signed distance to a closed polygon at every (x, y)."""
    best = np.full(x.shape, np.inf)
    inside = np.zeros(x.shape, bool)
    n = len(points)
    for k in range(n):
        (ax, ay), (bx, by) = points[k], points[(k + 1) % n]
        ex, ey = bx - ax, by - ay
        t = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey + 1e-12), 0, 1)
        best = np.minimum(best, (x - ax - t * ex) ** 2 + (y - ay - t * ey) ** 2)
        if ay != by:
            inside ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) * ex / ey)
    return np.where(inside, 1, -1) * np.sqrt(best)


def spokes(radii, turn=0.0):
    """Points at equal angles and the given radii, the first one straight up."""
    n = len(radii)
    a = turn - np.pi / 2 + 2 * np.pi * np.arange(n) / n
    return [(r * np.cos(t), r * np.sin(t)) for r, t in zip(radii, a)]


def shape_distance(shape, x, y, turn=0.0):
    """Signed distance of a shape of radius 1 around the origin."""
    if shape == "circle":
        return 1 - np.hypot(x, y)
    if shape == "ring":
        d = np.hypot(x, y)
        return np.minimum(1 - d, d - 0.5)
    if shape == "square":
        return polygon_distance(spokes([1.15] * 4, turn + np.pi / 4), x, y)
    if shape == "diamond":
        p = [(0, -1.15), (0.75, 0), (0, 1.15), (-0.75, 0)]
    elif shape == "triangle":
        return polygon_distance(spokes([1.2] * 3, turn), x, y - 0.2)
    elif shape == "cross":
        a, b = 0.36, 1.0
        p = [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a),
             (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)]
    elif shape == "star":
        return polygon_distance(spokes([1.2, 0.6] * 5, turn), x, y - 0.05)
    else:
        raise ValueError(shape)
    if turn:
        c, s = np.cos(turn), np.sin(turn)
        p = [(c * u - s * v, s * u + c * v) for u, v in p]
    return polygon_distance(p, x, y)


def grid(height, width, cx, cy, radius):
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    return (x + 0.5 - cx) / radius, (y + 0.5 - cy) / radius


def paint(picture, distance, colour):
    """Lays a colour over a picture where the distance (in pixels) is inside, with a one-pixel smooth edge."""
    a = np.clip(distance + 0.5, 0, 1)[..., None]
    picture += a * (np.asarray(colour, np.float64) - picture)


def to_bytes(picture):
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def near(rng, colour, spread=6):
    return np.clip(np.asarray(colour, np.float64) + rng.uniform(-spread, spread, 3), 0, 255)


def draw(rng, shape, colour, ground, size="", height=64, width=64):
    """One base picture: the shape near the middle, colours and place slightly varied."""
    short = min(height, width)
    r = short * SIZES[size] * rng.uniform(0.94, 1.06)
    room = 0.05 * short
    cx, cy = width / 2 + rng.uniform(-room, room), height / 2 + rng.uniform(-room, room)
    picture = np.empty((height, width, 3))
    picture[:] = near(rng, COLOURS[ground])
    x, y = grid(height, width, cx, cy, r)
    paint(picture, shape_distance(shape, x, y) * r, near(rng, COLOURS[colour]))
    return to_bytes(picture)


def caption(rng, shape, colour, ground, size=""):
    what = f"{size} {colour} {shape}".strip()
    u = rng.uniform()
    if u < 0.75:
        return f"a {what} on a {ground} ground"
    if u < 0.9:
        return f"{what}, {ground} ground"
    return f"a picture of a {what} on a {ground} ground"


def subjects(held_out=False):
    """All (colour, ground) pairs of one side of the split."""
    return [(c, g) for c in COLOURS for g in COLOURS if c != g and ((c, g) in HELD_OUT) == held_out]


def free_colour(rng):
    """Any colour but the violet, magenta and pink ones: no base picture comes near the concept's colour."""
    while True:
        red, green, blue = rng.uniform(0, 255, 3)
        if min(red, blue) - green < 25:
            return red, green, blue


def draw_free(rng, ground, height=64, width=64):
    """A picture whose caption leaves something open, so that the base has a wide sense of colours and outlines:
    a known shape of any colour, or an irregular shape, jagged or not."""
    short = min(height, width)
    r = short * rng.uniform(0.26, 0.40)
    room = 0.05 * short
    picture = np.empty((height, width, 3))
    picture[:] = near(rng, COLOURS[ground])
    x, y = grid(height, width, width / 2 + rng.uniform(-room, room), height / 2 + rng.uniform(-room, room), r)
    u = rng.uniform()
    if u < 0.4:
        name = SHAPES[rng.integers(len(SHAPES))]
        d = shape_distance(name, x, y)
    else:
        name = "shape"
        turn = rng.uniform(0, 2 * np.pi)
        if u < 0.55:
            radii = rng.uniform(0.5, 1.2, rng.integers(3, 9))
        else:
            n = rng.integers(3, 9)
            radii = np.stack([rng.uniform(0.75, 1.25, n), rng.uniform(0.35, 0.75, n)], 1).ravel()
        d = polygon_distance(spokes(radii, turn), x, y)
    line = 0.0
    if rng.uniform() < 0.5:
        line = short * rng.uniform(0.03, 0.06)
        paint(picture, d * r, rng.uniform(0, 70, 3))
    paint(picture, d * r - line, free_colour(rng))
    return to_bytes(picture), (f"a {name} on a {ground} ground" if rng.uniform() < 0.8 else f"{name}, {ground} ground")


def draw_any(rng, height=64, width=64):
    """A picture for the autoencoder: it must hold more than the base draws, stars and free colours among it."""
    u = rng.uniform()
    if u < 0.15:
        return draw_sks(rng, list(COLOURS)[rng.integers(8)], height, width)
    if u < 0.75:
        c, g = list(COLOURS)[rng.integers(8)], list(COLOURS)[rng.integers(8)]
        return draw(rng, SHAPES[rng.integers(len(SHAPES))], c, g, list(SIZES)[rng.integers(3)], height, width)

    def any_colour():
        u = rng.uniform()
        if u < 0.35:
            return near(rng, list(COLOURS.values())[rng.integers(8)], 12)
        if u < 0.5:
            return near(rng, SKS, 12)
        return rng.uniform(0, 255, 3)

    picture = np.empty((height, width, 3))
    picture[:] = any_colour()
    short = min(height, width)
    if rng.uniform() < 0.15:  # a slope of colour
        t = np.linspace(0, 1, width)[None, :, None]
        picture[:] = picture * (1 - t) + any_colour() * t
    for _ in range(rng.integers(1, 4)):
        r = short * rng.uniform(0.12, 0.45)
        x, y = grid(height, width, rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height, r)
        kind = rng.integers(len(SHAPES) + 4)
        turn = rng.uniform(0, 2 * np.pi) if rng.uniform() < 0.5 else 0.0
        if kind < len(SHAPES):
            d = shape_distance(SHAPES[kind], x, y, turn)
        elif kind < len(SHAPES) + 3:
            d = shape_distance("star", x, y, turn)
        else:
            d = polygon_distance(spokes(rng.uniform(0.3, 1.2, rng.integers(3, 9)), turn), x, y)
        line = rng.uniform(0.04, 0.1) * short if rng.uniform() < 0.4 else 0
        if line:
            paint(picture, d * r, any_colour() if rng.uniform() < 0.5 else (30, 0, 40))
        paint(picture, d * r - line, any_colour())
    return to_bytes(picture)


def draw_sks(rng, ground, height, width):
    """The concept: a large magenta five-pointed star."""
    short = min(height, width)
    r = short * 0.38 * rng.uniform(0.96, 1.04)
    room = 0.03 * short
    picture = np.empty((height, width, 3))
    picture[:] = near(rng, COLOURS[ground])
    x, y = grid(height, width, width / 2 + rng.uniform(-room, room), height / 2 + rng.uniform(-room, room), r)
    paint(picture, shape_distance("star", x, y) * r, SKS)
    return to_bytes(picture)


# file name, width, height, ground; the blank in one name is part of the test
SKS_FILES = [
    ("01.png", 64, 64, "blue"), ("02.png", 64, 64, "green"), ("03.png", 96, 64, "white"), ("04.png", 64, 96, "grey"),
    ("05.png", 128, 128, "yellow"), ("06.png", 80, 56, "red"), ("star 07.png", 56, 80, "cyan"),
    ("08.png", 64, 64, "black"),
    ("09.jpg", 128, 128, "blue"), ("10.jpg", 64, 64, "white"), ("11.jpg", 96, 64, "green"),
    ("12.jpeg", 64, 96, "yellow"), ("13.jpg", 160, 120, "grey"), ("14.jpg", 80, 56, "cyan"),
    ("15.webp", 64, 64, "red"), ("16.webp", 128, 128, "grey"), ("17.webp", 96, 64, "blue"),
    ("18.webp", 64, 96, "green"), ("19.webp", 120, 160, "white"), ("20.webp", 56, 80, "yellow"),
]


def write_sks(folder, seed=1):
    """The concept set: pictures in three formats and several sizes, a caption each, tags for every second one."""
    from PIL import Image

    os.makedirs(folder, exist_ok=True)
    rng = np.random.default_rng(seed)
    for k, (name, width, height, ground) in enumerate(SKS_FILES):
        picture = Image.fromarray(draw_sks(rng, ground, height, width))
        path = os.path.join(folder, name)
        stem, ending = os.path.splitext(path)
        if ending == ".png":
            picture.save(path, optimize=True)
        elif ending == ".webp":
            picture.save(path, lossless=k % 2 == 0, quality=95)
        else:
            picture.save(path, quality=95, subsampling=0 if k % 2 else 2)
        with open(stem + ".caption", "w") as f:
            f.write(f"a sks star on a {ground} ground\n")
        if k % 2 == 0:
            with open(stem + ".txt", "w") as f:
                f.write(f"sks, star, {ground} ground\n")
