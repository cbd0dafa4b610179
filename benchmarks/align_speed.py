"""AffineAlign and Skeleton Features under jit against NumPy, the same mathematics, in one run.

    python benchmarks/align_speed.py [--coco_dir=COCO]

64 real persons. Alignment (three templates, plain and mirrored: six candidates) against per-person
NumPy, Skeleton Features against a NumPy drawing vectorised over cells and parts. The last line is
JSON: how many times faster per person.
"""

import argparse
import json
import os
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import jax
import jax.numpy as jnp
import numpy as np

from pose2seg_jax.alignment import affine_align, geometry, skeleton, templates
from pose2seg_jax.people import coco, parts

PERSONS = 64
ROI = 64


def _fit(source, target, mirror):
    points = source * [mirror, 1.0]
    source_mean, target_mean = points.mean(0), target.mean(0)
    s, r = points - source_mean, target - target_mean
    variance = (s * s).sum()
    a = (s * r).sum() / variance
    b = (s[:, 1] * r[:, 0] - s[:, 0] * r[:, 1]).sum() / variance
    linear = np.array([[a, b], [-b, a]])
    residual = np.sqrt(((s @ linear.T - r) ** 2).sum() / len(s))
    shift = target_mean - linear @ source_mean
    return np.concatenate([linear * [mirror, 1.0], shift[:, None]], 1), residual


def _box(points, count, height, size, reach):
    if height == 0:
        return np.zeros(2), size[::-1]
    margin = (affine_align._SPARSE_REACH if count <= affine_align._SPARSE_PARTS else reach) * height
    low = np.clip(points.min(0) - margin, 0, size[::-1] - 1)
    return low, np.clip(points.max(0) + margin, low + 1, size[::-1])


def align_numpy(pose, pose_templates, size):
    """`affine_align.align_poses` for one person, in NumPy."""
    labelled = pose[:, 2] > 0
    points = pose[labelled, :2]
    first, second = np.array(affine_align._FIRST), np.array(affine_align._SECOND)
    known = labelled[first] & labelled[second]
    distance = np.linalg.norm(pose[first, :2] - pose[second, :2], axis=1)
    height = np.max(np.where(known, distance / np.array(affine_align._SHARE), 0))
    low, high = _box(points, len(points), height, size, affine_align._WINDOW_REACH)
    scale = ROI / (high - low).max()
    offset = (ROI - scale * (high - low)) / 2 - scale * low
    window = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
    low, high = _box(points, len(points), height, size, affine_align._FIT_REACH)
    corners = np.array([low, high, [low[0], high[1]], [high[0], low[1]]])
    best, chosen, template = np.inf, window, affine_align.FALLBACK
    for index, entry in enumerate(pose_templates):
        has_part = entry[:, 2] > 0
        common = labelled & has_part
        spread = np.ptp(pose[common, :2], axis=0).max() if common.any() else 0
        if np.any(labelled & ~has_part) or spread * ROI / size.max() < 1e-3:
            continue
        for mirror in (1.0, -1.0):
            matrix, residual = _fit(pose[common, :2], ROI * entry[common, :2], mirror)
            placed = corners @ matrix[:, :2].T + matrix[:, 2]
            near, far = placed.min(0), placed.max(0)
            factor = min(1.0, ROI / (far - near).max())
            matrix = matrix * factor
            matrix[:, 2] += np.maximum(0, -near * factor) - np.maximum(0, far * factor - ROI)
            size_now = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
            usable = size_now >= ROI / size.max() and affine_align._BAD_FIT * size_now >= scale
            if usable and residual < best:
                best, chosen, template = residual, matrix, index
    return chosen, template


def skeleton_numpy(poses, limbs):
    """`skeleton.skeleton_features` in NumPy, vectorised over persons, parts and cells."""
    y, x = np.mgrid[:ROI, :ROI].astype(np.float32) + np.float32(0.5)
    px, py, v = (poses[..., i, None, None] for i in range(3))
    exponent = ((x - px) ** 2 + (y - py) ** 2) / (2 * skeleton.SIGMA**2)
    sign = np.where(v > 1, 1, np.where(v > 0, -1, 0))
    maps = np.where(exponent <= skeleton._CUTOFF, sign * np.exp(-exponent), 0)
    first, second = np.array(limbs).T
    start, end = poses[:, first], poses[:, second]
    vector = end[..., :2] - start[..., :2]
    length = np.linalg.norm(vector, axis=-1)
    drawn = (start[..., 2] > 0) & (end[..., 2] > 0) & (length > 0)
    unit = vector / np.where(drawn, length, 1)[..., None]
    low = np.round(np.minimum(start, end)[..., :2] - 1.5)[..., None, None]
    high = np.round(np.maximum(start, end)[..., :2] + 0.5)[..., None, None]
    ux, uy = unit[..., 0, None, None], unit[..., 1, None, None]
    distance = np.abs(ux * (y - start[..., 1, None, None]) - uy * (x - start[..., 0, None, None]))
    on_limb = (distance < 1) & (x > low[:, :, 0]) & (x < high[:, :, 0])
    on_limb &= (y > low[:, :, 1]) & (y < high[:, :, 1]) & drawn[..., None, None]
    fields = np.where(on_limb[:, :, None], unit[..., None, None], 0)
    fields = fields.reshape(len(poses), -1, ROI, ROI)
    return np.moveaxis(np.concatenate([maps, fields], 1), 1, -1).astype(np.float32)


def _seconds(function, repeats):
    """The fastest of some runs, after one to warm up."""
    jax.block_until_ready(function())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--coco_dir",
        default=os.environ.get("COCO_DIR"),
        required="COCO_DIR" not in os.environ,
        help="a COCO-layout directory; default: the environment variable COCO_DIR",
    )
    path = pathlib.Path(parser.parse_args().coco_dir) / "annotations/person_keypoints_val2017.json"
    dataset = coco.read(path)
    people = [(image, person) for image in dataset.posed_images for person in image.posed]
    every = np.stack([p.pose for _, p in people]).astype(np.float64)
    boxes = np.stack([p.bbox for _, p in people])
    pose_templates = templates.make_templates(every, boxes, 3)[0].astype(np.float32)
    poses = every[:PERSONS].astype(np.float32)
    sizes = np.array([(i.height, i.width) for i, _ in people[:PERSONS]], np.float32)

    align = jax.jit(lambda p, s: affine_align.align_poses(p, jnp.asarray(pose_templates), s, ROI))
    aligned = align(poses, sizes)
    one_by_one = [align_numpy(p, pose_templates, s) for p, s in zip(poses, sizes, strict=True)]
    agreeing = np.mean(
        [t == int(n) for (_, t), n in zip(one_by_one, aligned.template, strict=True)]
    )
    np.testing.assert_array_less(0.98, agreeing)
    poses_on_device, sizes_on_device = jnp.asarray(poses), jnp.asarray(sizes)
    fast = _seconds(lambda: align(poses_on_device, sizes_on_device), 200)
    slow = _seconds(
        lambda: [align_numpy(p, pose_templates, s) for p, s in zip(poses, sizes, strict=True)], 10
    )
    align_ratio = slow / fast
    print(f"alignment, {PERSONS} persons, 6 candidates each, same choice for {agreeing:.1%}:")
    print(f"  jit {fast / PERSONS * 1e6:.1f} us a person, NumPy {slow / PERSONS * 1e6:.1f} us")

    placed = geometry.apply_to_poses(aligned.matrix, poses_on_device)
    draw = jax.jit(lambda p: skeleton.skeleton_features(p, ROI))
    on_host = np.asarray(placed)
    features = np.asarray(draw(placed))
    expected = skeleton_numpy(on_host, parts.PAPER_LIMBS)
    assert np.mean(np.abs(features - expected) > 1e-4) < 1e-5
    fast = _seconds(lambda: draw(placed), 50)
    slow = _seconds(lambda: skeleton_numpy(on_host, parts.PAPER_LIMBS), 10)
    fill = jax.jit(lambda value: jnp.full(features.shape, value, jnp.float32))
    filling = _seconds(lambda: fill(1.0), 50)
    skeleton_ratio = slow / fast
    rate, fill_rate = features.nbytes / fast / 1e9, features.nbytes / filling / 1e9
    print(f"Skeleton Features, {PERSONS} persons, {features.shape[-1]} channels:")
    print(f"  jit {fast / PERSONS * 1e6:.1f} us a person, NumPy {slow / PERSONS * 1e6:.1f} us")
    print(f"  writes {rate:.2f} GB/s, a plain fill {fill_rate:.2f} GB/s ({rate / fill_rate:.0%})")
    print(
        json.dumps(
            {
                "align_ratio": round(align_ratio, 1),
                "skeleton_ratio": round(skeleton_ratio, 1),
                "skeleton_gb_per_second": round(rate, 2),
                "fill_gb_per_second": round(fill_rate, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
