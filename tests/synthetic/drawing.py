"""Drawn anatomy: pictures that a dentist would recognise as what they pretend to be, and no more.

Every function returns float32 of shape (rows, columns), or (rows, columns, 3) for colour, in 0.0 (air, black film) to 1.0
(enamel, metal), with the patient's right on the left of the picture.

Chose shapes drawn by Pillow on a small 8-bit canvas, blurred, enlarged and grained by numpy, because a full-size panoramic
then takes some 50 ms; rejected drawing at full size (ten times slower) and pictures kept in the repository (megabytes).
"""

from collections.abc import Sequence
from math import cos, pi, sin

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Pixels = npt.NDArray[np.float32]
Point = tuple[float, float]

GRAIN_TILE = 256
MOLARS = frozenset((6, 7, 8))
TOOTH_WIDTHS = {1: 1.0, 2: 0.85, 3: 0.95, 4: 0.9, 5: 0.9, 6: 1.35, 7: 1.3, 8: 1.2}


def panoramic(rows: int, columns: int, rng: np.random.Generator) -> Pixels:
    """Both jaws unrolled, condyle to condyle, with the letter R on the patient's right."""
    width, height = 640, max(160, round(640 * rows / columns))
    image, draw = _canvas(width, height, background=52)
    middle = width / 2

    def smile(x: float, base: float) -> float:
        return height * (base - 0.11 * ((x - middle) / middle) ** 2)

    draw.rectangle((middle - 26, 0, middle + 26, height), fill=84)  # the spine's ghost
    for side in (-1, 1):
        draw.ellipse(_box(middle + side * 62, height * 0.17, 50, height * 0.11), fill=26)  # maxillary sinus
        ramus = [
            (middle + side * width * f, height * g)
            for f, g in ((0.36, 0.8), (0.43, 0.2), (0.455, 0.12), (0.475, 0.2), (0.45, 0.86))
        ]
        draw.polygon(ramus, fill=122)
        draw.ellipse(_box(middle + side * width * 0.455, height * 0.14, 13, 15), fill=140)  # condyle
    draw.ellipse(_box(middle, height * 0.2, 22, height * 0.12), fill=30)  # nasal cavity
    lower_edge = [(x, smile(x, 0.92)) for x in range(50, width - 49, 6)]
    upper_edge = [(x, smile(x, 0.58)) for x in range(width - 50, 49, -6)]
    draw.polygon(lower_edge + upper_edge, fill=112)  # body of the mandible
    draw.line(lower_edge, fill=176, width=5)  # its cortex
    draw.polygon(
        [(x, smile(x, 0.5)) for x in range(80, width - 79, 6)]
        + [(x, smile(x, 0.27)) for x in range(width - 80, 79, -6)],
        fill=100,
    )
    for canal in range(110, width - 109, 4):  # mandibular canal, seen at the sides only
        if abs(canal - middle) > 70:
            draw.ellipse(_box(canal, smile(canal, 0.84), 2, 2), fill=74)
    unit = width * 0.036
    for upper in (True, False):
        for side in (-1, 1):
            x = middle + side * unit * 0.55
            for number in range(1, 9):
                tooth_width = unit * TOOTH_WIDTHS[number] * (1.0 if upper else 0.95)
                centre = x + side * (tooth_width / 2 - unit * 0.5)
                line = smile(centre, 0.52 if upper else 0.53)
                tilt = side * number * (0.02 if upper else -0.02)
                _tooth(draw, (centre, line), tooth_width, height * 0.2, number, upper, tilt, rng)
                x += side * tooth_width * 1.03
    image = image.filter(ImageFilter.GaussianBlur(1.6))
    _letter(image, "R", (24, height * 0.62), 34)
    return _finish(image, rows, columns, rng, grain=0.014, vignette=0.35)


def intraoral(rows: int, columns: int, teeth: Sequence[int], rng: np.random.Generator) -> Pixels:
    """A periapical or bitewing film of the teeth given by their ISO 3950 numbers.

    A film with teeth of both jaws is a bitewing: crowns meet in its middle.
    """
    width, height = 300, round(300 * rows / columns)
    image, draw = _canvas(width, height, background=14)
    jaws = {
        True: [t for t in teeth if t // 10 in (1, 2)],
        False: [t for t in teeth if t // 10 in (3, 4)],
    }
    bitewing = bool(jaws[True] and jaws[False])
    for upper, present in jaws.items():
        if not present:
            continue
        biting_edge = height * (0.49 if upper else 0.52) if bitewing else height * (0.86 if upper else 0.14)
        crest = biting_edge + (-1 if upper else 1) * height * (0.3 if bitewing else 0.2)
        edge = 0 if upper else height
        draw.polygon([(0, edge), (0, crest), (width, crest + rng.uniform(-12, 12)), (width, edge)], fill=96)
        for _ in range(260):  # trabeculae
            x, y = rng.uniform(0, width), rng.uniform(min(edge, crest), max(edge, crest))
            draw.line((x, y, x + rng.uniform(-9, 9), y + rng.uniform(-9, 9)), fill=int(rng.integers(74, 128)))
        ordered = sorted(present, key=_right_to_left)
        total = sum(TOOTH_WIDTHS[t % 10] for t in ordered)
        length = height * (0.75 if bitewing else 0.7)  # a bitewing cuts the roots off
        unit = min(width * 0.94 / total, length * 0.6)
        x = (width - unit * total) / 2
        for tooth in ordered:
            tooth_width = unit * TOOTH_WIDTHS[tooth % 10]
            tilt = rng.uniform(-0.05, 0.05)
            centre = (x + tooth_width / 2, biting_edge)
            _tooth(draw, centre, tooth_width * 0.97, length, tooth % 10, upper, tilt, rng)
            x += tooth_width
    image = image.filter(ImageFilter.GaussianBlur(1.3))
    ImageDraw.Draw(image).ellipse(_box(width - 16, 16, 5, 5), fill=38)  # the film's raised dot
    return _finish(image, rows, columns, rng, grain=0.02, vignette=0.1)


def cephalometric(rows: int, columns: int, rng: np.random.Generator) -> Pixels:
    """The skull from the left, looking right, with the ruler of the nose support and the letter L."""
    width = 480
    height = round(width * rows / columns)
    image, draw = _canvas(width, height, background=10)

    def at(*points: Point) -> list[Point]:
        return [(x * width, y * height) for x, y in points]

    draw.polygon(
        at(
            (0.1, 0.3),
            (0.3, 0.06),
            (0.62, 0.06),
            (0.82, 0.26),
            (0.83, 0.4),
            (0.92, 0.56),
            (0.84, 0.6),
            (0.86, 0.68),
        ),
        fill=44,
    )
    soft = at(
        (0.83, 0.36), (0.93, 0.55), (0.86, 0.59), (0.89, 0.65), (0.85, 0.68), (0.88, 0.72), (0.85, 0.84),
        (0.72, 0.92), (0.5, 0.86), (0.34, 0.99), (0.14, 0.99), (0.1, 0.3),
    )  # fmt: skip
    draw.polygon(soft, fill=48)
    draw.ellipse((*at((0.08, 0.05))[0], *at((0.84, 0.58))[0]), outline=196, fill=82, width=8)  # cranial vault
    draw.line(
        at((0.8, 0.36), (0.56, 0.4), (0.5, 0.46), (0.4, 0.44), (0.3, 0.56)), fill=200, width=7
    )  # skull base
    draw.arc((*at((0.48, 0.4))[0], *at((0.56, 0.47))[0]), 0, 180, fill=220, width=4)  # sella turcica
    draw.ellipse((*at((0.68, 0.38))[0], *at((0.82, 0.48))[0]), fill=40, outline=150, width=3)  # orbit
    draw.polygon(at((0.6, 0.56), (0.82, 0.55), (0.83, 0.61), (0.62, 0.62)), fill=140)  # maxilla
    draw.polygon(
        at((0.4, 0.5), (0.47, 0.5), (0.52, 0.7), (0.8, 0.72), (0.82, 0.82), (0.76, 0.84), (0.46, 0.77)),
        fill=138,
    )
    for i in range(7):
        x = 0.6 + 0.033 * i
        for upper, y in ((True, 0.665), (False, 0.67)):
            _tooth(draw, (x * width, y * height), width * 0.032, height * 0.09, 7 - i or 1, upper, 0.0, rng)
    for i in range(6):  # cervical spine
        x, y = 0.27 - 0.012 * i, 0.6 + 0.065 * i
        draw.rounded_rectangle((*at((x, y))[0], *at((x + 0.1, y + 0.05))[0]), 5, fill=126, outline=160)
    for i in range(11):  # ruler, a bead every 10 mm
        draw.ellipse(_box(width * 0.955, height * (0.2 + 0.03 * i), 2, 2), fill=250)
    image = image.filter(ImageFilter.GaussianBlur(1.7))
    _letter(image, "L", (18, height * 0.9), 36)
    return _finish(image, rows, columns, rng, grain=0.012, vignette=0.15)


def photo(rows: int, columns: int, rng: np.random.Generator) -> Pixels:
    """An intra-oral photograph: lips, gums and teeth in colour."""
    width = 480
    height = round(width * rows / columns)
    image = Image.new("RGB", (width, height), (150, 84, 78))
    draw = ImageDraw.Draw(image)
    draw.ellipse(_box(width / 2, height / 2, width * 0.5, height * 0.46), fill=(196, 104, 102))
    draw.ellipse(_box(width / 2, height / 2, width * 0.43, height * 0.37), fill=(74, 24, 26))
    for upper in (True, False):
        y = height * (0.3 if upper else 0.7)
        draw.ellipse(_box(width / 2, y, width * 0.38, height * 0.12), fill=(214, 128, 126))
        x = width * 0.14
        for number in (5, 4, 3, 2, 1, 1, 2, 3, 4, 5):
            span = width * 0.0725 * (1.18 if number == 1 else 1.0) * (0.8 if number == 5 else 1.0)
            top = height * (0.3 if upper else 0.52)
            shade = int(rng.integers(-6, 7)) - number * 5
            box = (x, top, x + span * 0.96, top + height * 0.2)
            draw.rounded_rectangle(box, span * 0.3, fill=(238 + shade, 228 + shade, 206 + shade))
            x += span
    image = image.filter(ImageFilter.GaussianBlur(1.4)).resize((columns, rows), Image.Resampling.BICUBIC)
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    return np.clip(pixels + _grain(rows, columns, rng, 0.012)[..., np.newaxis], 0.0, 1.0)


def axial_head(size: int, level: float, rng: np.random.Generator) -> Pixels:
    """One axial slice, square, `level` 0.0 (chin) to 1.0 (vertex): skull or jaw, brain or air ways."""
    image, draw = _canvas(size, size, background=0)
    middle = size / 2
    spread = size * (0.3 + 0.12 * sin(pi * min(1.0, 0.15 + level)))
    draw.ellipse(_box(middle, middle, spread, spread * 1.15), fill=70)  # soft tissue
    if level > 0.55:
        draw.ellipse(
            _box(middle, middle, spread * 0.93, spread * 1.07), fill=88, outline=215, width=max(2, size // 40)
        )
        draw.line((middle, middle - spread, middle, middle + spread), fill=104, width=max(1, size // 128))
        for side in (-1, 1):
            draw.ellipse(_box(middle + side * spread * 0.16, middle, spread * 0.09, spread * 0.3), fill=64)
    else:
        draw.ellipse(_box(middle, middle + spread * 0.15, spread * 0.16, spread * 0.14), fill=0)  # airway
        draw.ellipse(_box(middle, middle + spread * 0.62, spread * 0.22, spread * 0.2), fill=170)  # vertebra
        arch = [_on_arch(middle, spread, step / 60) for step in range(61)]
        draw.line(arch, fill=160, width=max(3, round(size * 0.055)), joint="curve")
        if 0.15 < level < 0.45:
            for step in range(14):
                x, y = _on_arch(middle, spread, (step + 0.5) / 14)
                radius = size * (0.018 + 0.008 * abs(step - 6.5) / 6.5)
                draw.ellipse(_box(x, y, radius, radius), fill=236)
                draw.ellipse(_box(x, y, radius * 0.3, radius * 0.3), fill=120)
    image = image.filter(ImageFilter.GaussianBlur(size / 320))
    return _finish(image, size, size, rng, grain=0.01, vignette=0.0)


def tmj(rows: int, columns: int, *, side: str, mouth_open: bool, rng: np.random.Generator) -> Pixels:
    """One temporomandibular joint from the side; the condyle leaves its fossa when the mouth opens."""
    width, height = 300, round(300 * rows / columns)
    image, draw = _canvas(width, height, background=40)
    draw.polygon(
        [(0, 0), (width, 0), (width, 90), (200, 78), (165, 46), (120, 52), (92, 104), (0, 120)], fill=116
    )
    draw.line([(200, 78), (165, 46), (120, 52), (92, 104)], fill=210, width=5, joint="curve")
    draw.ellipse(_box(232, 92, 16, 16), fill=18)  # external auditory meatus
    x, y = (96, 122) if mouth_open else (146, 88)
    draw.polygon([(x - 15, y), (x + 17, y), (x + 40, height), (x - 44, height)], fill=124)
    draw.ellipse(_box(x, y, 27, 20), fill=150, outline=206, width=4)
    image = image.filter(ImageFilter.GaussianBlur(2.0))
    if side == "L":
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    _letter(image, side, (14, height - 48), 34)
    return _finish(image, rows, columns, rng, grain=0.016, vignette=0.2)


def _canvas(width: int, height: int, *, background: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("L", (width, height), background)
    return image, ImageDraw.Draw(image)


def _box(x: float, y: float, half_width: float, half_height: float) -> tuple[float, float, float, float]:
    return (x - half_width, y - half_height, x + half_width, y + half_height)


def _right_to_left(tooth: int) -> int:
    """Order along the arch from the patient's right to the left, by ISO 3950 number."""
    quadrant, number = divmod(tooth, 10)
    return -number if quadrant in (1, 4) else number


def _on_arch(middle: float, spread: float, along: float) -> Point:
    """A point of the dental arch, `along` 0.0 (right) to 1.0 (left), front at the top as in an axial slice."""
    angle = pi * (1.08 - 1.16 * along)
    return middle + spread * 0.62 * cos(angle), middle - spread * 0.02 - spread * 0.72 * sin(angle)


def _tooth(
    draw: ImageDraw.ImageDraw,
    biting_edge: Point,
    width: float,
    length: float,
    number: int,
    upper: bool,
    tilt: float,
    rng: np.random.Generator,
) -> None:
    """Crown, roots, pulp and sometimes a filling; `number` 1 to 8 within the quadrant."""
    x, y = biting_edge
    away = -1.0 if upper else 1.0  # from the biting edge to the root's tip

    def at(across: float, along: float) -> Point:
        return x + across * width + tilt * along * length, y + away * along * length

    roots = (-0.27, 0.27) if number in MOLARS else (0.0,)
    for root in roots:
        half = 0.2 if len(roots) == 2 else 0.32
        tip = root * 1.25
        draw.polygon(
            [at(root - half, 0.28), at(tip - 0.06, 1.0), at(tip + 0.06, 1.0), at(root + half, 0.28)],
            fill=168,
        )
        draw.line([at(root * 0.5, 0.2), at(tip, 0.94)], fill=92, width=max(1, round(width * 0.06)))
    crown = [at(-0.34, 0.36), at(-0.49, 0.16), at(-0.42, 0.0), at(0.42, 0.0), at(0.49, 0.16), at(0.34, 0.36)]
    draw.polygon(crown, fill=226)
    draw.polygon([at(-0.2, 0.36), at(-0.26, 0.14), at(0.26, 0.14), at(0.2, 0.36)], fill=190)
    draw.polygon([at(-0.09, 0.34), at(-0.07, 0.18), at(0.07, 0.18), at(0.09, 0.34)], fill=110)
    if number in MOLARS and rng.random() < 0.35:
        draw.polygon([at(-0.3, 0.0), at(-0.2, 0.12), at(0.2, 0.12), at(0.3, 0.0)], fill=255)


def _letter(image: Image.Image, letter: str, corner: Point, size: int) -> None:
    """A lead letter on the film, burned into the pixels as on a real one."""
    ImageDraw.Draw(image).text(corner, letter, fill=255, font=ImageFont.load_default(size))


def _grain(rows: int, columns: int, rng: np.random.Generator, strength: float) -> Pixels:
    tile = rng.standard_normal((GRAIN_TILE, GRAIN_TILE), dtype=np.float32) * np.float32(strength)
    repeats = (-(-rows // GRAIN_TILE), -(-columns // GRAIN_TILE))
    return np.tile(tile, repeats)[:rows, :columns]


def _finish(
    image: Image.Image, rows: int, columns: int, rng: np.random.Generator, *, grain: float, vignette: float
) -> Pixels:
    """Enlarge to (rows, columns), darken the corners and add grain."""
    large = image.convert("F").resize((columns, rows), Image.Resampling.BICUBIC)
    pixels = np.asarray(large, dtype=np.float32) / np.float32(255)
    if vignette:
        across = np.linspace(-1, 1, columns, dtype=np.float32) ** 2
        down = np.linspace(-1, 1, rows, dtype=np.float32)[:, np.newaxis] ** 2
        pixels = pixels * (1 - np.float32(vignette) * (across + down) / 2)
    finished: Pixels = np.clip(pixels + _grain(rows, columns, rng, grain), 0.0, 1.0)
    return finished
