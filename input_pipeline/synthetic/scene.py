"""Arranges people and things in front of a camera and annotates them as COCO does."""

import dataclasses
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils
from scipy.spatial.transform import Rotation

from input_pipeline.synthetic import render
from input_pipeline.synthetic.body import Body, Capsule, sample_body
from input_pipeline.synthetic.render import NOBODY, SUPERSAMPLING, Camera, Canvas, Texture

# Ranges of skin, from very light to very dark, and of hair.
_SKIN = np.array([[0.96, 0.82, 0.73], [0.87, 0.68, 0.55], [0.70, 0.50, 0.37], [0.48, 0.32, 0.23], [0.30, 0.20, 0.15]])  # fmt: skip
_HAIR = np.array([[0.08, 0.06, 0.05], [0.25, 0.16, 0.10], [0.50, 0.35, 0.20], [0.80, 0.68, 0.45], [0.60, 0.60, 0.60], [0.45, 0.20, 0.10]])  # fmt: skip
_KINDS = ("rings", "stripes", "checks", "spots")
_MIN_PIXELS = 40  # persons with fewer visible pixels are not annotated (and hardly seen)
_CROWD_SIZE = (5, 9)
_PAIR_IOU = 0.55  # of the boxes of a pair; a little above .5, since others may stand in front
_CANDIDATES = 16
_COARSE_SIDE = 32  # pixels of the silhouettes that pairs are chosen by


@dataclasses.dataclass(frozen=True)
class Scene:
    """A picture and its annotations.

    Attributes:
        image: (H, W, 3) uint8.
        annotations: COCO annotations without "id" and "image_id".
    """

    image: np.ndarray
    annotations: list[dict[str, Any]]


def make_scene(
    rng: np.random.Generator,
    height: int,
    width: int,
    *,
    overlap: bool,
    crowd: bool,
    plain: bool = False,
) -> Scene:
    """A random scene of one to five people; of one or two where it is plain.

    Args:
        rng: the only source of chance.
        height: of the image.
        width: of the image.
        overlap: two of the people share one box and hide parts of each other.
        crowd: a group in the distance is one crowd annotation.
        plain: everybody stands or walks, faces the camera and is all in view, with nothing in front.
    """
    camera = _camera(rng, height, width)
    if plain:
        people = _arrange_plainly(rng, camera)
        while not all(_is_in_view(camera, body) for body in people):
            camera = _camera(rng, height, width)
            people = _arrange_plainly(rng, camera)
    else:
        people = _arrange(rng, camera, overlap)
    light = _light(rng)
    canvas = _background(rng, camera, height, width)
    for body in people:
        _shadow(canvas, camera, body)
    for owner, body in enumerate(people, 1):
        _dress_and_draw(rng, canvas, camera, light, body, owner)
    crowd_owner = len(people) + 1
    if crowd:
        for body in _distant_group(rng, camera):
            _dress_and_draw(rng, canvas, camera, light, body, crowd_owner)
    depths = [camera.to_camera(body.parts).mean(0)[2] for body in people]
    if not plain:
        _clutter(rng, canvas, camera, light, min(depths), max(depths))
    annotations = [
        annotation
        for owner, body in enumerate(people, 1)
        if (annotation := _annotate(canvas, camera, body, owner)) is not None
    ]
    if crowd and (mask := canvas.mask(crowd_owner)).sum() >= _MIN_PIXELS:
        annotations.append(_annotation(mask, np.zeros((17, 3), int), iscrowd=1))
    return Scene(_develop(rng, canvas.image()), annotations)


def _camera(rng, height, width):
    side = max(height, width)
    level = rng.uniform(0.7, 2.3)
    pitch = np.rad2deg(np.arctan2(level - rng.uniform(0.75, 1.1), 4.0)) + rng.normal(0, 3)
    rotation = Rotation.from_euler("zx", [rng.normal(0, 4), -pitch], degrees=True).as_matrix()
    # World (x right, y up, z towards the camera) to camera (x right, y down, z away).
    return Camera(
        np.diag([1.0, -1, -1]) @ rotation.T,
        np.asarray([0.0, level, 0.0]),
        float(side * rng.uniform(0.95, 1.5)),
        (width / 2, height / 2),
    )


def _arrange(rng, camera, overlap):
    """People on the ground, most of them facing the camera."""
    count = int(rng.choice([2, 3, 4], p=[0.5, 0.35, 0.15]) if overlap else rng.choice([1, 2, 3, 4, 5], p=[0.3, 0.3, 0.2, 0.12, 0.08]))  # fmt: skip
    nearest = rng.uniform(2.0, 3.6) if overlap else rng.uniform(2.0, 4.8)
    people: list[Body] = []
    spots: list[np.ndarray] = []
    for index in range(count):
        if overlap and index == 1:
            body, spot = _partner(rng, camera, people[0], spots[0])
        else:
            depth = -nearest - (0 if index == 0 else rng.uniform(0, 3.0))
            half = -depth * camera.center[0] / camera.focal
            x = rng.uniform(-0.85, 0.85) * half if index else rng.uniform(-0.5, 0.5) * half
            for _ in range(8):  # nobody stands in somebody else
                if all(np.hypot(*(spot - (x, depth))) > 0.45 for spot in spots):
                    break
                x = rng.uniform(-0.9, 0.9) * half
            spot = np.asarray([x, depth])
            body = _place(rng, sample_body(rng), spot)
        people.append(body)
        spots.append(spot)
    return people


def _arrange_plainly(rng, camera):
    """One or two people side by side, as near as they can be and yet all in view."""
    count = int(rng.integers(1, 3))
    x, y = camera.center
    people: list[Body] = []
    depth = -rng.uniform(0.9, 1.2) * camera.focal * max(2.1 / (2 * y), 1.1 * count / (2 * x))
    for index in range(count):
        body = sample_body(rng, str(rng.choice(["standing", "walking"])))
        side = (index - (count - 1) / 2) * rng.uniform(0.9, 1.1)
        spot = np.asarray([side, depth + rng.uniform(0, 0.3)])
        people.append(_place(rng, body, spot, rng.normal(0, 25)))
    return people


def _is_in_view(camera, body):
    points = camera.project(body.parts)
    return np.all((points >= 0) & (points <= 2 * np.asarray(camera.center)))


def _place(rng, body, spot, yaw=None):
    if yaw is None:
        yaw = rng.normal(0, 45) if rng.random() < 0.7 else rng.uniform(0, 360)
    turn = Rotation.from_euler("y", yaw, degrees=True).as_matrix()
    return body.placed(turn, np.asarray([spot[0], 0.0, spot[1]]))


def _partner(rng, camera, body, spot):
    """Somebody so close to `body` that one box holds both, and yet both can be told apart.

    Of a few candidates the one nearest to a box IoU above COCOHUMAN-OC's .5 with a share of each
    person in view, which is drawn anew for each pair.
    """
    least = rng.uniform(0.4, 0.8)
    front = _silhouette(camera, body)
    candidates = []
    for _ in range(_CANDIDATES):
        depth = spot[1] - rng.uniform(0.2, 0.7)
        place = np.asarray([spot[0] * depth / spot[1] + rng.normal(0, 0.25), depth])
        other = _place(rng, sample_body(rng), place)
        behind = _silhouette(camera, other)
        seen = front < behind, behind < front
        whole = np.isfinite(front), np.isfinite(behind)
        shares = [s.sum() / max(w.sum(), 1) for s, w in zip(seen, whole, strict=True)]
        score = min(_box_iou(*seen) / _PAIR_IOU, min(shares) / least)
        candidates.append((score, other, place))
        if score >= 1:
            break
    return max(candidates, key=lambda candidate: candidate[0])[1:]


def _silhouette(camera, body):
    """A coarse depth map of one person alone; inf where there is nothing."""
    scale = _COARSE_SIDE / (2 * max(camera.center))
    x, y = (scale * c for c in camera.center)
    small = dataclasses.replace(camera, focal=scale * camera.focal, center=(x, y))
    shape = (round(2 * y) * SUPERSAMPLING, round(2 * x) * SUPERSAMPLING)
    canvas = Canvas(np.zeros((*shape, 3)), np.full(shape, np.inf))
    gray = render.plain(np.full(3, 0.5))
    for capsule in body.capsules:
        canvas.draw_capsule(capsule, small, gray, np.asarray([0.0, 0, -1]), 1)
    return canvas.depth


def _box_iou(first, second):
    boxes = [mask_utils.toBbox(mask_utils.encode(np.asfortranarray(m, np.uint8))) for m in (first, second)]  # fmt: skip
    return float(mask_utils.iou(boxes[0][None], boxes[1][None], [0])[0, 0])


def _distant_group(rng, camera):
    depth = -rng.uniform(9, 13)
    half = -depth * camera.center[0] / camera.focal
    middle = rng.uniform(-0.7, 0.7) * half
    group = []
    for _ in range(rng.integers(*_CROWD_SIZE)):
        place = np.asarray([middle + rng.normal(0, 0.7), 0.0, depth + rng.normal(0, 0.5)])
        turn = Rotation.from_euler("y", rng.normal(0, 50), degrees=True).as_matrix()
        group.append(sample_body(rng, "standing").placed(turn, place))
    return group


def _light(rng):
    """Unit vector from a surface to the lamp, in camera coordinates: from above, mostly in front."""
    light = np.asarray([rng.normal(0, 0.7), -rng.uniform(0.4, 1.2), -rng.uniform(0.1, 1.0)])
    return light / np.linalg.norm(light)


def _background(rng, camera, height, width):
    """Ground and wall (or sky), both textured."""
    world = _rays(camera, height, width)
    wall = -rng.uniform(8, 16)
    fall = world[..., 1]
    to_ground = np.where(
        fall < -1e-4, -camera.position[1] / np.where(fall < -1e-4, fall, -1), np.inf
    )
    to_wall = wall / np.minimum(world[..., 2], -1e-3)
    is_ground = to_ground < to_wall
    depth = np.minimum(to_ground, to_wall)
    place = world * depth[..., None]
    color = np.empty((height, width, 3), np.float32)
    for part, (u, v) in (
        (is_ground, (place[..., 0], place[..., 2])),
        (~is_ground, (place[..., 0], place[..., 1])),
    ):
        first, second = rng.uniform(0.1, 0.95, (2, 3))
        second = 0.55 * first + 0.45 * second
        kind, size = rng.integers(4), rng.uniform(0.25, 1.2)
        if kind == 0:
            share = render.noise(rng, height, width, 6)
        elif kind == 1:
            share = ((np.floor(u / size) + np.floor(v / size)) % 2) * 0.7
        elif kind == 2:
            share = (np.sin(2 * np.pi * u / size) > 0.3) * 0.8
        else:
            share = np.clip((v - v[part].min()) / max(float(np.ptp(v[part])), 1e-6), 0, 1) if part.any() else 0 * u  # fmt: skip
        share = 0.75 * share + 0.25 * render.noise(rng, height, width, 7)
        color = np.where(part[..., None], first + (second - first) * share[..., None], color)
    # One ray a pixel is enough here.
    color, depth = (
        layer.repeat(SUPERSAMPLING, axis=0).repeat(SUPERSAMPLING, axis=1)
        for layer in (color, depth)
    )
    return Canvas(color, depth)


def _rays(camera, height, width):
    """(H, W, 3): world directions of the pixels, at depth 1."""
    x = np.arange(width) + 0.5 - camera.center[0]
    y = np.arange(height) + 0.5 - camera.center[1]
    rays = np.stack(np.broadcast_arrays(x[None, :], y[:, None], camera.focal), -1) / camera.focal
    return rays @ camera.rotation


def _shadow(canvas, camera, body):
    """A soft dark patch on the ground under a person."""
    feet = body.parts[:, [0, 2]]
    middle, spread = feet.mean(0), feet.std(0) + 0.18
    rows, columns = canvas.depth.shape
    rays = _rays(camera, rows // SUPERSAMPLING, columns // SUPERSAMPLING)
    depth = canvas.depth[::SUPERSAMPLING, ::SUPERSAMPLING]
    place = camera.position + rays * depth[..., None]
    offset = (place[..., [0, 2]] - middle) / (1.6 * spread)
    dark = 0.5 * np.exp(-2 * np.sum(offset**2, -1)) * (np.abs(place[..., 1]) < 0.02)
    dark = dark.repeat(SUPERSAMPLING, axis=0).repeat(SUPERSAMPLING, axis=1)
    canvas.color *= (1 - dark[..., None]).astype(np.float32)


def _clothes(rng) -> Texture:
    color, other = rng.uniform(0.05, 0.95, (2, 3)) ** rng.uniform(0.6, 1.8)
    if rng.random() < 0.5:
        return render.plain(color)
    return render.patterned(rng, color, other, str(rng.choice(_KINDS)), rng.uniform(0.04, 0.25))


def _between(rng, palette):
    index = rng.integers(len(palette) - 1)
    share = rng.random()
    return np.clip(palette[index] * (1 - share) + palette[index + 1] * share + rng.normal(0, 0.02, 3), 0, 1)  # fmt: skip


def _dress_and_draw(rng, canvas, camera, light, body: Body, owner: int) -> None:
    skin, hair = render.plain(_between(rng, _SKIN)), render.plain(_HAIR[rng.integers(len(_HAIR))])
    shirt, trousers = _clothes(rng), _clothes(rng)
    materials = {
        "skin": skin,
        "shirt": shirt,
        "sleeve": shirt if rng.random() < 0.85 else skin,
        "forearm": shirt if rng.random() < 0.45 else skin,
        "trousers": trousers,
        "shank": trousers if rng.random() < 0.65 else skin,
        "skirt": trousers,
        "shoe": _clothes(rng),
        "hair": hair,
    }
    bald = rng.random() < 0.08
    face = camera.rotation @ body.face
    for capsule in body.capsules:
        if capsule.material != "head":
            canvas.draw_capsule(capsule, camera, materials[capsule.material], light, owner)
            continue
        canvas.draw_capsule(capsule, camera, skin, light, owner)
        if not bald:  # a cap that is a little larger and set back
            size = capsule.end_radius
            back = capsule.end - 0.28 * size * body.face
            up = capsule.end - capsule.start
            up = up / np.linalg.norm(up)
            cap = Capsule(back + 0.12 * size * up, back - 0.15 * size * up, size * 1.02, size * 0.98, "hair")  # fmt: skip
            canvas.draw_capsule(cap, camera, hair, light, owner)
        if face[2] < 0.2:
            for part in (1, 2):  # eyes
                eye = body.parts[part] + 0.03 * capsule.end_radius * body.face
                dot = Capsule(eye, eye, 0.10 * capsule.end_radius, 0.10 * capsule.end_radius, "eye")
                canvas.draw_capsule(dot, camera, render.plain(np.full(3, 0.1)), light, owner)


def _clutter(rng, canvas, camera, light, nearest, farthest):
    """Things that hide people and are nobody: boxes, poles, balls, bushes, stray limbs."""
    for _ in range(rng.integers(3, 11)):
        in_front = rng.random() < 0.3
        depth = rng.uniform(max(nearest * 0.55, 1.0), nearest * 0.95) if in_front else rng.uniform(nearest, farthest + 4)  # fmt: skip
        half = depth * camera.center[0] / camera.focal
        x = rng.uniform(-1.1, 1.1) * half
        size = rng.uniform(0.12, 0.5) * (0.6 if in_front else 1.0)
        texture = _clothes(rng)
        kind = rng.integers(5)
        base = np.asarray([x, 0.0, -depth])
        if kind == 0:  # a box
            corner = base + np.asarray([-size, rng.choice([0.0, rng.uniform(0, 1.2)]), 0])
            angle = rng.uniform(-0.6, 0.6)
            side = 2 * size * np.asarray([np.cos(angle), 0, np.sin(angle)])
            tall = np.asarray([0, rng.uniform(0.3, 1.2) * (0.6 if in_front else 1), 0])
            canvas.draw_panel(np.stack([corner, corner + side, corner + tall]), camera, texture, rng.uniform(0.6, 1), NOBODY)  # fmt: skip
        elif kind == 1:  # a pole
            radius = rng.uniform(0.015, 0.07)
            lean = rng.normal(0, 0.15, 3) * [1, 0, 1]
            canvas.draw_capsule(Capsule(base, base + np.asarray([0, rng.uniform(0.8, 3.5), 0]) + lean, radius, radius, ""), camera, texture, light, NOBODY)  # fmt: skip
        elif kind == 2:  # a ball
            place = base + np.asarray([0, rng.uniform(0.1, 1.8), 0])
            radius = size * rng.uniform(0.3, 0.8)
            canvas.draw_capsule(Capsule(place, place, radius, radius, ""), camera, texture, light, NOBODY)  # fmt: skip
        elif kind == 3:  # a bush
            green = np.clip(np.asarray([0.25, 0.42, 0.15]) + rng.normal(0, 0.12, 3), 0, 1)
            for _ in range(rng.integers(5, 16)):
                place = base + rng.normal(0, size * 0.6, 3) * [1, 0.6, 0.5] + [0, size * 0.6, 0]
                tone = render.plain(np.clip(green * rng.uniform(0.6, 1.3), 0, 1))
                radius = size * rng.uniform(0.15, 0.4)
                canvas.draw_capsule(Capsule(place, place, radius, radius, ""), camera, tone, light, NOBODY)  # fmt: skip
        else:  # limbs in the colours of people that belong to nobody: rolled clothes, dolls, branches
            tone = render.plain(_between(rng, _SKIN)) if rng.random() < 0.5 else texture
            place = base + np.asarray([0, rng.uniform(0, 1.5), 0])
            for _ in range(rng.integers(1, 5)):
                end = place + rng.normal(0, 0.25, 3)
                radius = rng.uniform(0.02, 0.09, 2)
                canvas.draw_capsule(
                    Capsule(place, end, radius[0], radius[1], ""), camera, tone, light, NOBODY
                )
                place = end


def _annotate(canvas, camera, body, owner):
    mask = canvas.mask(owner)
    if mask.sum() < _MIN_PIXELS:
        return None
    height, width = mask.shape
    points = camera.project(body.parts)
    depths = camera.to_camera(body.parts)[:, 2]
    keypoints = np.zeros((17, 3), int)
    for part, ((x, y), depth, under) in enumerate(zip(points, depths, body.depths, strict=True)):
        if not (0 <= x < width and 0 <= y < height):  # also nan
            continue
        row, column = int(y * SUPERSAMPLING), int(x * SUPERSAMPLING)
        # Seen where the surface in front of it is the person's own and no more than its limb deep.
        seen = (
            canvas.owner[row, column] == owner
            and mask[int(y), int(x)]
            and canvas.depth[row, column] > depth - 1.5 * under - 0.02
        )
        keypoints[part] = int(x), int(y), 2 if seen else 1
    return _annotation(mask, keypoints, iscrowd=0)


def _annotation(mask, keypoints, iscrowd):
    rle = mask_utils.encode(np.asfortranarray(mask))
    return {
        "category_id": 1,
        "iscrowd": iscrowd,
        "keypoints": keypoints.ravel().tolist(),
        "num_keypoints": int(np.sum(keypoints[:, 2] > 0)),
        "bbox": [float(v) for v in mask_utils.toBbox(rle)],
        "area": int(mask.sum()),
        "segmentation": {"size": list(mask.shape), "counts": rle["counts"].decode()},
    }


def _develop(rng, image):
    """What a camera adds: exposure, colour cast, grain."""
    values = image.astype(np.float32) / 255
    values = np.clip(values * rng.uniform(0.75, 1.15) * rng.uniform(0.93, 1.07, 3), 0, 1)
    values = values ** rng.uniform(0.8, 1.25) + rng.normal(
        0, rng.uniform(0.005, 0.03), values.shape
    )
    return np.clip(np.round(values * 255), 0, 255).astype(np.uint8)
