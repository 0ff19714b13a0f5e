"""Graph segmentation: regions, surfaces and, on captures, objects."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from masks.models import frame_of, random_image

from lift_ros.camera import Camera
from lift_ros.frame import Frame
from lift_ros.masks.graph import GraphSegmenter, label_ious, masks_of_scales, segment_colours
from lift_ros.masks.region_graph import boundary_pairs, merge_regions, segment_pixels
from lift_ros.masks.surfaces import bounding_planes, estimate_normals
from lift_ros.resampling import labels_at

HEIGHT, WIDTH = 240, 320
CAMERA = Camera(WIDTH, HEIGHT, 280.0, 280.0, 160.0, 120.0)


def ray_traced_room(noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) depth of a floor, a wall and two boxes on the floor; (H, W) labels: 1 and 2 the boxes, else 0."""
    v, u = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    rays = np.stack([(u - 160) / 280, (v - 120) / 280, np.ones_like(u)], -1)
    tilt = np.deg2rad(30)  # the camera looks down; world: y down, floor at y = 1, wall at z = 3
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), np.sin(tilt)], [0, -np.sin(tilt), np.cos(tilt)]])
    rays = rays @ turn.T
    with np.errstate(divide="ignore"):
        depth = np.minimum(np.where(rays[..., 1] > 0, 1 / rays[..., 1], np.inf), 3 / rays[..., 2])
        labels = np.zeros((HEIGHT, WIDTH), int)
        for number, (low, high) in enumerate(
            [((-0.5, 0.7, 1.3), (-0.1, 1, 1.6)), ((0.15, 0.75, 1.3), (0.55, 1, 1.6))], start=1
        ):
            near, far = np.array(low) / rays, np.array(high) / rays
            enter, leave = np.minimum(near, far).max(-1), np.maximum(near, far).min(-1)
            hit = (enter < leave) & (enter < depth) & (enter > 0)
            depth, labels = np.where(hit, enter, depth), np.where(hit, number, labels)
    depth = depth + np.random.default_rng(0).normal(0, 1, depth.shape) * noise * depth**2
    return depth.astype(np.float32), labels


def best_ious(masks: np.ndarray, truth: np.ndarray) -> list[float]:
    """The best IoU of any mask with each non-zero label of ``truth``."""
    return [
        max(((m & (truth == k)).sum() / (m | (truth == k)).sum() for m in masks), default=0.0)
        for k in np.unique(truth[truth > 0])
    ]


def test_normals_of_a_tilted_plane():
    depth = ray_traced_room()[0]
    normals = estimate_normals(CAMERA.unproject(depth))
    floor = normals[200:230, 10:60]
    np.testing.assert_allclose(floor, np.broadcast_to((0, -np.cos(np.pi / 6), -0.5), floor.shape), atol=0.02)


def test_floor_and_wall_bound_the_room_and_a_table_top_does_not():
    depth, _ = ray_traced_room()
    points = CAMERA.unproject(depth)
    planes = bounding_planes(points, estimate_normals(points))
    assert len(planes) == 2
    np.testing.assert_allclose(planes[0].normal, (0, -np.cos(np.pi / 6), -0.5), atol=0.01)
    assert planes[0].offset == pytest.approx(-1.0, abs=0.01)

    table = depth.copy()  # 30 cm above the floor, over the left half of the near floor
    rays = CAMERA.unproject(np.ones_like(depth))
    height = rays @ np.array([0, np.cos(np.pi / 6), 0.5], np.float32)
    over = (0.6 / np.maximum(height, 1e-6) < 1.2) & (height > 0) & (np.arange(WIDTH) < 180)
    table[over] = (0.6 / height)[over]
    points = CAMERA.unproject(table)
    assert over.mean() > 0.1
    assert not any(p.holds(points[over]).mean() > 0.5 for p in bounding_planes(points, estimate_normals(points)))


@pytest.mark.parametrize("noise", [0.0, 0.0015])
def test_boxes_on_a_floor_are_masks_whatever_their_colour(noise):
    depth, labels = ray_traced_room(noise)
    image = random_image(HEIGHT, WIDTH)
    masks = GraphSegmenter().segment(Frame(image, CAMERA, np.eye(4), 0.0, depth))
    assert min(best_ious(masks.masks, labels)) > 0.75
    assert masks.masks.sum(0).max() == 1, "masks of surfaces are disjoint"
    assert (masks.masks.any(0) & (labels == 0)).mean() < 0.05, "floor and wall are background"
    assert masks.prompts_used == 0


def test_colour_tells_where_the_shape_leaves_it_open():
    """The pages of an open book, half a metre before a wall, turn inwards by no more than some things do that are one.

    Of one colour they are one object, of two they are two.
    """
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    pages = (np.abs(column - 160) < 70) & (np.abs(row - 120) < 50)
    turned = 1.5 / (1 + np.tan(np.deg2rad(9)) * np.abs(column + 0.5 - 160) / 280)
    depth = np.where(pages, turned, 2.0).astype(np.float32)
    image = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    for color, found in ((120, 1), ((150, 40, 40), 2)):
        image[:, :160] = color
        masks = GraphSegmenter().segment(Frame(image, CAMERA, np.eye(4), 0.0, depth)).masks
        assert len(masks) == found and masks.any(0)[pages].mean() > 0.8


def test_patches_of_colour_without_depth():
    image = np.full((HEIGHT, WIDTH, 3), (200, 190, 180), np.uint8)
    image[20:60, 30:80] = (180, 40, 30)
    image[70:100, 90:150] = (30, 60, 170)
    truth = np.zeros((HEIGHT, WIDTH), int)
    truth[20:60, 30:80], truth[70:100, 90:150] = 1, 2
    masks = GraphSegmenter().segment(frame_of(image))
    assert min(best_ious(masks.masks, truth)) > 0.9
    assert len(masks) == 3, "what every scale finds is one mask"


@pytest.mark.parametrize("depth", [None, 0.0, 2.0])
def test_black_image(depth):
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    depth = None if depth is None else np.full((HEIGHT, WIDTH), depth, np.float32)
    masks = GraphSegmenter().segment(frame_of(image, depth))
    assert masks.masks.shape == (0, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("size", "masks"),
    [((1, 1), 0), ((7, 300), 0), ((15, 40), 0), ((20, 8000), 0), ((16, 40), 2), ((17, 16), 2), ((16, 4000), 2)],
)
def test_tiny_and_narrow_images_have_masks_where_they_are_16_pixels_high(size, masks):
    """At the resolution that is worked at. Half of each is red, half is blue; where depth shows a wall, none has."""
    image = np.full((*size, 3), (200, 60, 40), np.uint8)
    image[:, size[1] // 2 :] = (40, 80, 200)
    halves = [np.arange(size[1]) < size[1] // 2, np.arange(size[1]) >= size[1] // 2][:masks]
    found = GraphSegmenter().segment(frame_of(image)).masks
    assert len(found) == masks and (not masks or found.shape[1:] == size)
    for half in halves:
        assert any(np.array_equal(mask, np.broadcast_to(half, size)) for mask in found)
    assert len(GraphSegmenter().segment(frame_of(image, np.ones(size, np.float32)))) == 0


@pytest.mark.parametrize(("column", "used"), [(2, True), (3, False)])
def test_depth_in_a_few_pixels_only_makes_no_surfaces_and_in_fewer_is_ignored(column, used):
    depth = np.zeros((HEIGHT, WIDTH), np.float32)
    known = depth[::4, ::column]  # one pixel in 8, or in 12
    known[:] = np.random.default_rng(0).uniform(0.5, 50, known.shape)
    image = random_image(HEIGHT, WIDTH)
    masks, of_colours = (GraphSegmenter().segment(frame_of(image, given)).masks for given in (depth, None))
    assert len(of_colours) > 10
    np.testing.assert_array_equal(masks, of_colours[: 0 if used else None])


def test_same_input_same_masks():
    depth, _ = ray_traced_room(0.002)
    frame = Frame(random_image(HEIGHT, WIDTH), CAMERA, np.eye(4), 0.0, depth)
    np.testing.assert_array_equal(GraphSegmenter().segment(frame).masks, GraphSegmenter().segment(frame).masks)


def test_merging_takes_the_mean_over_the_whole_boundary():
    # 0 - 1 is hardly separated; joined, their boundary with 2 has a mean of 0.5: one side says 0.9, the other 0.1.
    a, b, separation = np.array([0, 0, 1]), np.array([1, 2, 2]), np.array([0.0, 0.9, 0.1])
    assert merge_regions(4, a, b, separation, 0.45).tolist() == [0, 0, 1, 2]
    assert merge_regions(4, a, b, separation, 0.55).tolist() == [0, 0, 0, 1]
    assert merge_regions(2, a[:0], b[:0], separation[:0], 0.5).tolist() == [0, 1]


def test_label_ious_and_one_mask_of_equal_scales():
    fine = np.array([[1, 1, 2, 2, 0]])
    coarse = np.array([[5, 5, 5, 5, 0]])
    iou = label_ious(fine, coarse)
    assert iou.shape == (3, 6)
    assert iou[1, 5] == 0.5
    assert iou[0].max() == 0
    masks = masks_of_scales([fine, fine, coarse])
    assert masks.masks.sum((1, 2)).tolist() == [2, 2, 4]


def test_three_scales_grow():
    lab = cv2.cvtColor(random_image(HEIGHT, WIDTH).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    counts = [labels.max() for labels in segment_colours(lab)]
    assert counts[0] > counts[1] >= counts[2] >= 1


def test_pixels_on_both_sides_of_a_boundary_lie_as_far_from_it_as_asked_and_in_the_image():
    regions = np.zeros((5, 8), np.int32)
    regions[:, 1:4], regions[:3, 4:7], regions[3:, 4:7] = 1, 2, 3  # column 0 and 7 belong to none
    for reach in (0, 2, 9):
        a, b, pixel_a, pixel_b = boundary_pairs(regions, reach)
        pairs = {(1, 2): 3, (1, 3): 2, (2, 3): 3}  # and how long their boundaries are
        assert {pair: int(((a == pair[0]) & (b == pair[1])).sum()) for pair in pairs} == pairs and len(a) == 8
        sideways = a == 1
        assert (pixel_a[sideways, 1] == max(3 - reach, 0)).all() and (pixel_b[sideways, 1] == min(4 + reach, 7)).all()
        assert (pixel_a[sideways, 0] == pixel_b[sideways, 0]).all()
        assert (pixel_a[~sideways, 0] == max(2 - reach, 0)).all() and (pixel_b[~sideways, 0] == min(3 + reach, 4)).all()


def test_a_boundary_is_one_whichever_side_its_pixels_are_told_from():
    a, b, separation = np.array([0, 1, 1]), np.array([1, 0, 0]), np.array([0.9, 0.1, 0.2])  # 0.4 in the mean
    assert merge_regions(2, a, b, separation, 0.3).tolist() == [0, 1]
    assert merge_regions(2, a, b, separation, 0.5).tolist() == [0, 0]


def test_regions_of_pixels_are_no_smaller_than_asked_and_noise_makes_none():
    rng = np.random.default_rng(0)
    features = np.zeros((60, 80, 3), np.float32)
    features[:, 40:] = 100
    features[20:23, 10:13] = 200  # a speck of 9 pixels
    for smallest, expected in ((1, 3), (20, 2)):
        assert len(np.unique(segment_pixels(features, k=10, sigma=0.1, min_size=smallest))) == expected
    noisy = features + rng.normal(0, 10, features.shape).astype(np.float32)
    rough, smooth = (segment_pixels(noisy, k=60, sigma=sigma, min_size=1) for sigma in (0.1, 2.0))
    assert len(np.unique(smooth)) < 0.5 * len(np.unique(rough))


@pytest.mark.parametrize("depth, share", [(True, 0.8), (False, 0.7)])
def test_finds_the_objects_of_a_room(captured, depth, share):
    room = captured("room12")
    info = json.loads((room / "transforms.json").read_text())
    ious = []
    for index in range(0, 60, 20):
        image = cv2.cvtColor(cv2.imread(str(room / "rgb" / f"{index:04d}.jpg")), cv2.COLOR_BGR2RGB)
        z = cv2.imread(str(room / "depth" / f"{index:04d}.png"), cv2.IMREAD_UNCHANGED).astype(np.float32) / 1000
        truth = cv2.imread(str(room / "inst" / f"{index:04d}.png"), cv2.IMREAD_UNCHANGED).astype(int)
        for k in np.unique(truth):
            if (truth == k).mean() < 0.001:
                truth[truth == k] = 0
        camera = Camera(info["w"], info["h"], info["fl_x"], info["fl_y"], info["cx"], info["cy"])
        masks = GraphSegmenter().segment(Frame(image, camera, np.eye(4), 0.0, z if depth else None)).masks
        assert masks.shape[1:] == (HEIGHT, WIDTH)  # no larger than they were found: the image has four times as many
        ious += best_ious(masks, labels_at(truth, HEIGHT, WIDTH))
    assert np.mean(np.array(ious) > 0.5) >= share
