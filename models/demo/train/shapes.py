"""Captions and the pictures they describe: everything the demo model ever sees.

A picture is drawn from formulas, so the data set has no files, no licence but the project's own, and no end.
Tensors of pictures are float32, channels first, in [-1, 1].
"""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

RESOLUTION = 128
"""Width and height of a picture, in pixels."""

BARE_CAPTION_SHARE = 0.15
"""Share of captions without the leading article, so that the model does not depend on it."""

# Positions and lengths below are in half pictures: a picture spans [-1, 1], and y points down.
# The order of these tables is part of the data set: captions are drawn by index.
COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.88, 0.10, 0.12),
    "green": (0.12, 0.62, 0.22),
    "blue": (0.12, 0.28, 0.88),
    "yellow": (0.98, 0.84, 0.12),
    "purple": (0.52, 0.16, 0.72),
    "orange": (0.98, 0.52, 0.06),
    "white": (0.97, 0.97, 0.97),
    "black": (0.06, 0.06, 0.07),
    "pink": (0.98, 0.52, 0.72),
    "cyan": (0.10, 0.78, 0.85),
}
SIZES: dict[str, float] = {"small": 0.26, "": 0.40, "large": 0.56}
PLACES: dict[str, tuple[float, float]] = {
    "": (0.0, 0.0),
    "on the left": (-0.38, 0.0),
    "on the right": (0.38, 0.0),
    "at the top": (0.0, -0.38),
    "at the bottom": (0.0, 0.38),
}


class Spec(NamedTuple):
    """What a caption says; each field is a key of its table."""

    color: str
    background: str
    shape: str
    size: str
    place: str


# Each function below returns about the signed distance from the points (x, y) to the outline of a shape of
# radius r around the origin, negative inside. Distances, not masks, because they give soft edges and shadows.


def _norm(x: Tensor, y: Tensor) -> Tensor:
    return (x * x + y * y).sqrt()


def circle(x: Tensor, y: Tensor, r: float) -> Tensor:
    return _norm(x, y) - r


def square(x: Tensor, y: Tensor, r: float) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - r * 0.86


def triangle(x: Tensor, y: Tensor, r: float) -> Tensor:
    slope = 3**0.5
    y = y - r * 0.12
    sides = torch.maximum((slope * x - y) / 2, (-slope * x - y) / 2) - r * 0.5
    return torch.maximum(sides, y - r * 0.62)


def star(x: Tensor, y: Tensor, r: float) -> Tensor:
    """Folds the plane into half of one of five points, whose outline is a straight line from tip to notch."""
    half_angle = math.pi / 5
    tip = r * 1.15
    notch = tip * 0.45
    angle = torch.remainder(torch.atan2(x, -y) + half_angle, 2 * half_angle) - half_angle
    radius = _norm(x, y)
    along, across = radius * torch.cos(angle), radius * angle.sin().abs()
    edge_along, edge_across = notch * math.cos(half_angle) - tip, notch * math.sin(half_angle)
    return ((along - tip) * edge_across - across * edge_along) / math.hypot(edge_along, edge_across)


def heart(x: Tensor, y: Tensor, r: float) -> Tensor:
    """Inigo Quilez's exact heart: a round lobe above the diagonal, a wedge below it."""
    x, y = x.abs() / r, -(y + r * 0.05) / r + 0.45
    lobe = ((x - 0.25) ** 2 + (y - 0.75) ** 2).sqrt() - math.sqrt(2) / 4
    middle = torch.clamp(0.5 * (x + y), min=0)
    wedge = torch.minimum(x**2 + (y - 1) ** 2, (x - middle) ** 2 + (y - middle) ** 2).sqrt()
    wedge = wedge * torch.sign(x - y)
    return torch.where(x + y > 1, lobe, wedge) * r * 1.15


def ring(x: Tensor, y: Tensor, r: float) -> Tensor:
    return (_norm(x, y) - r * 0.78).abs() - r * 0.24


def moon(x: Tensor, y: Tensor, r: float) -> Tensor:
    bite = ((x - r * 0.45) ** 2 + (y + r * 0.12) ** 2).sqrt()
    return torch.maximum(_norm(x, y) - r, r * 0.86 - bite)


def cross(x: Tensor, y: Tensor, r: float) -> Tensor:
    upright = torch.maximum(x.abs() - r * 0.32, y.abs() - r)
    level = torch.maximum(x.abs() - r, y.abs() - r * 0.32)
    return torch.minimum(upright, level)


SHAPES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "circle": circle,
    "square": square,
    "triangle": triangle,
    "star": star,
    "heart": heart,
    "ring": ring,
    "moon": moon,
    "cross": cross,
}


def caption_of(spec: Spec) -> str:
    """Returns `a [SIZE] COLOR SHAPE [PLACE] on a COLOR background`."""
    size = f"{spec.size} " if spec.size else ""
    place = f"{spec.place} " if spec.place else ""
    return f"a {size}{spec.color} {spec.shape} {place}on a {spec.background} background"


def sample_caption(rng: random.Random) -> tuple[str, Spec]:
    """Draws a caption, evenly from all of them, and what it says."""
    color = rng.choice(list(COLORS))
    background = rng.choice([name for name in COLORS if name != color])
    shape = rng.choice(list(SHAPES))
    size = rng.choice(list(SIZES))
    place = rng.choice(list(PLACES))
    spec = Spec(color, background, shape, size, place)
    caption = caption_of(spec)
    if rng.random() < BARE_CAPTION_SHARE:
        caption = caption.removeprefix("a ")
    return caption, spec


def draw(spec: Spec) -> Tensor:
    """Draws a caption's picture, (3, RESOLUTION, RESOLUTION): a lit shape and its shadow on a background."""
    axis = torch.linspace(-1, 1, RESOLUTION)
    grid_y, grid_x = torch.meshgrid(axis, axis, indexing="ij")
    r = SIZES[spec.size]
    center_x, center_y = PLACES[spec.place]
    x, y = grid_x - center_x, grid_y - center_y
    outline = SHAPES[spec.shape]

    coverage = torch.sigmoid(-outline(x, y, r) * RESOLUTION * 0.7)
    shadow = torch.sigmoid(-outline(x - 0.05, y - 0.07, r) * 16) * 0.25
    light_distance = ((x + r * 0.3) ** 2 + (y + r * 0.4) ** 2).sqrt()
    light = 1.08 - 0.34 * torch.clamp(light_distance / (r * 1.7), 0, 1)

    color = torch.tensor(COLORS[spec.color]).view(3, 1, 1)
    background = torch.tensor(COLORS[spec.background]).view(3, 1, 1)
    background = background * (1 - 0.18 * (grid_y + 1) / 2)
    picture = background * (1 - shadow) * (1 - coverage) + (color * light).clamp(0, 1) * coverage
    return picture * 2 - 1


def sample_batch(count: int, rng: random.Random) -> tuple[Tensor, list[str]]:
    """Draws count pictures, (count, 3, RESOLUTION, RESOLUTION), and their captions."""
    samples = [sample_caption(rng) for _ in range(count)]
    return torch.stack([draw(spec) for _, spec in samples]), [caption for caption, _ in samples]


def save_grid(pictures: Tensor, path: Path, columns: int = 8) -> None:
    """Writes pictures, (count, 3, RESOLUTION, RESOLUTION), as one image, row by row."""
    rows = math.ceil(len(pictures) / columns)
    grid = np.zeros((rows * RESOLUTION, columns * RESOLUTION, 3), np.uint8)
    for index, picture in enumerate(pictures):
        top = index // columns * RESOLUTION
        left = index % columns * RESOLUTION
        pixels = ((picture.permute(1, 2, 0) + 1) * 127.5).clamp(0, 255).byte().numpy()
        grid[top : top + RESOLUTION, left : left + RESOLUTION] = pixels
    Image.fromarray(grid).save(path)
