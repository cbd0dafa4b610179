"""A small z-buffer renderer: tapered capsules and flat panels with shading and texture.

Twice as many pixels as the image in each direction; the image is their mean, so edges are smooth.
Camera coordinates are metres: x to the right, y down, z away from the camera.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import PIL.Image

from input_pipeline.synthetic.body import Capsule

SUPERSAMPLING = 2
NOBODY = 0  # owner of what belongs to no person
_NEAR = 0.15

# Colour in [0, 1] (..., 3) of a surface: metres along it, angle around it in [-1, 1].
Texture = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera.

    Attributes:
        rotation: (3, 3), world to camera.
        position: (3,) in the world.
        focal: in pixels of the image.
        center: (x, y) of the optical axis in the image.
    """

    rotation: np.ndarray
    position: np.ndarray
    focal: float
    center: tuple[float, float]

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """World (N, 3) to camera coordinates (N, 3)."""
        return (points - self.position) @ self.rotation.T

    def project(self, points: np.ndarray) -> np.ndarray:
        """World (N, 3) to continuous image coordinates (N, 2); nan behind the camera."""
        seen = self.to_camera(points)
        depth = np.where(seen[:, 2:] > _NEAR, seen[:, 2:], np.nan)
        return seen[:, :2] / depth * self.focal + self.center


class Canvas:
    """The picture so far.

    Attributes:
        color: (H', W', 3) float32 in [0, 1], H' = SUPERSAMPLING * height.
        depth: (H', W') metres from the camera.
        owner: (H', W') of each pixel, NOBODY or the number of a person.
    """

    def __init__(self, background: np.ndarray, depth: np.ndarray):
        """Starts from a background (H', W', 3) and its depth (H', W')."""
        self.color = background.astype(np.float32)
        self.depth = depth.astype(np.float32)
        self.owner = np.full(depth.shape, NOBODY, np.int32)

    def draw_capsule(
        self, capsule: Capsule, camera: Camera, texture: Texture, light: np.ndarray, owner: int
    ) -> None:
        """Draws a tapered capsule given in world coordinates."""
        ends = camera.to_camera(np.stack([capsule.start, capsule.end]))
        if np.any(ends[:, 2] <= _NEAR):
            return
        scale = SUPERSAMPLING * camera.focal / ends[:, 2]
        points = ends[:, :2] * scale[:, None] + SUPERSAMPLING * np.asarray(camera.center)
        radii = np.asarray([capsule.start_radius, capsule.end_radius]) * scale
        window = self._window(points.min(0) - radii.max(), points.max(0) + radii.max())
        if window is None:
            return
        rows, columns, x, y = window
        along = points[1] - points[0]
        length = float(np.hypot(*along))
        unit = along / length if length > 1e-6 else np.asarray([0.0, 1.0])
        dx, dy = x - points[0, 0], y - points[0, 1]
        forward = dx * unit[0] + dy * unit[1]
        t = np.clip(forward / max(length, 1e-6), 0, 1)
        radius = radii[0] + t * (radii[1] - radii[0])
        ox, oy = (dx - t * along[0]) / radius, (dy - t * along[1]) / radius
        square = ox**2 + oy**2
        inside = square < 1
        if not inside.any():
            return
        bulge = np.sqrt(np.maximum(1 - square, 0))
        metres = capsule.start_radius + t * (capsule.end_radius - capsule.start_radius)
        depth = ends[0, 2] + t * (ends[1, 2] - ends[0, 2]) - metres * bulge
        visible = inside & (depth < self.depth[rows, columns])
        shade = _shade(ox, oy, bulge, light)
        span = float(np.linalg.norm(ends[1] - ends[0]))
        around = np.clip(ox * -unit[1] + oy * unit[0], -1, 1)
        color = texture(t * span, around) * shade[..., None]
        self._put(rows, columns, visible, color, depth, owner)

    def draw_panel(
        self, corners: np.ndarray, camera: Camera, texture: Texture, brightness: float, owner: int
    ) -> None:
        """Draws a parallelogram: corners (3, 3) are its origin and the ends of its two sides."""
        seen = camera.to_camera(corners)
        fourth = seen[1] + seen[2] - seen[0]
        every = np.concatenate([seen, fourth[None]])
        if np.any(every[:, 2] <= _NEAR):
            return
        center = SUPERSAMPLING * np.asarray(camera.center)
        focal = SUPERSAMPLING * camera.focal
        points = every[:, :2] / every[:, 2:] * focal + center
        window = self._window(points.min(0), points.max(0))
        if window is None:
            return
        rows, columns, x, y = window
        first, second = seen[1] - seen[0], seen[2] - seen[0]
        normal = np.cross(first, second)
        rays = np.stack(
            np.broadcast_arrays((x - center[0]) / focal, (y - center[1]) / focal, 1.0), -1
        )
        slope = rays @ normal
        depth = np.where(
            np.abs(slope) > 1e-6, seen[0] @ normal / np.where(slope == 0, 1, slope), -1
        )
        offset = rays * depth[..., None] - seen[0]
        gram = np.linalg.inv(
            np.stack([[first @ first, first @ second], [first @ second, second @ second]])
        )
        uv = np.stack([offset @ first, offset @ second], -1) @ gram
        inside = (depth > _NEAR) & np.all((uv >= 0) & (uv <= 1), axis=-1)
        visible = inside & (depth < self.depth[rows, columns])
        color = texture(uv[..., 0] * np.linalg.norm(first), 2 * uv[..., 1] - 1) * brightness
        self._put(rows, columns, visible, color, depth, owner)

    def image(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        height, width = self.depth.shape
        blocks = self.color.reshape(height // 2, 2, width // 2, 2, 3)
        return np.clip(np.round(blocks.mean((1, 3)) * 255), 0, 255).astype(np.uint8)

    def mask(self, owner: int) -> np.ndarray:
        """(H, W) uint8: pixels that belong to `owner` by more than a half."""
        height, width = self.depth.shape
        blocks = (self.owner == owner).reshape(height // 2, 2, width // 2, 2)
        return (blocks.sum((1, 3)) > 2).astype(np.uint8)

    def _window(self, low, high):
        height, width = self.depth.shape
        x0, y0 = np.maximum(np.floor(low), 0).astype(int)
        x1, y1 = np.minimum(np.ceil(high) + 1, (width, height)).astype(int)
        if x0 >= x1 or y0 >= y1:
            return None
        x = np.arange(x0, x1)[None, :] + 0.5
        y = np.arange(y0, y1)[:, None] + 0.5
        return slice(y0, y1), slice(x0, x1), x, y

    def _put(self, rows, columns, visible, color, depth, owner):
        self.color[rows, columns][visible] = color[visible]
        self.depth[rows, columns][visible] = depth[visible]
        self.owner[rows, columns][visible] = owner


def _shade(ox, oy, bulge, light):
    """Lambert with a strong ambient part; `light` points from the surface to the lamp."""
    return 0.55 + 0.5 * np.maximum(ox * light[0] + oy * light[1] - bulge * light[2], 0)


def noise(rng: np.random.Generator, height: int, width: int, octaves: int = 4) -> np.ndarray:
    """Smooth random values (H, W) in [0, 1]: coarse ones plus ever finer ones of half the weight."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        cells = 3 * 2**octave
        grid = PIL.Image.fromarray(rng.random((cells, cells), np.float32))
        total += np.asarray(grid.resize((width, height), PIL.Image.Resampling.BILINEAR)) / 2**octave
    low, high = total.min(), total.max()
    return (total - low) / (high - low)


def plain(color: np.ndarray) -> Texture:
    """One colour."""
    return lambda along, around: np.broadcast_to(color, (*np.shape(along), 3))


def patterned(
    rng: np.random.Generator, color: np.ndarray, other: np.ndarray, kind: str, size: float
) -> Texture:
    """Two colours as "rings", "stripes" (lengthwise), "checks" or "spots"; `size` in metres."""
    phase = rng.uniform(0, 2 * np.pi, 2)
    grid = rng.random((64, 64))

    def texture(along, around):
        turns = 2 * np.pi * along / size + phase[0]
        angle = 6 * around + phase[1]
        if kind == "rings":
            share = np.sin(turns) > 0
        elif kind == "stripes":
            share = np.sin(angle) > 0
        elif kind == "checks":
            share = (np.sin(turns) > 0) ^ (np.sin(angle) > 0)
        else:
            i = np.floor(along / size * 4 + 32).astype(int) % 64
            share = grid[i, np.floor(8 * around + 32).astype(int) % 64] > 0.7
        return np.where(share[..., None], other, color)

    return texture
