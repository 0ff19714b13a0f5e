"""rosbag2 captures: real files of both formats, and everything that goes wrong with them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from data.layouts import write_image
from data.recorder import START, STORE, H, Recorder, W, pose, write_bag

from lift_ros.camera import Camera
from lift_ros.data import open_capture
from lift_ros.data.bag_topics import BagOptions
from lift_ros.data.bag_writer import BagWriter
from lift_ros.errors import ConfigError, DatasetError, FrameRejected
from lift_ros.frame import Frame
from lift_ros.ros.bag_parameters import replay_parameters

CAMERA = Camera(W, H, 35.0, 36.0, 20.5, 14.5)
FORMATS = ("mcap", "sqlite3")


def make_frames(count: int = 6, camera: Camera = CAMERA) -> list[Frame]:
    """Smooth gradients, which JPEG keeps well, under noise-free depth with a hole."""
    y, x = np.mgrid[0 : camera.height, 0 : camera.width]
    frames = []
    for index in range(count):
        red, green = 255 * x // camera.width, 255 * y // camera.height
        image = np.stack([red, green, np.full_like(x, 40 * index % 256)], axis=-1).astype(np.uint8)
        depth = (1.0 + 0.001 * x + 0.1 * index).astype(np.float32)
        depth[:3] = 0
        frames.append(Frame(image, camera, pose(index), START + 0.1 * index, depth))
    return frames


@pytest.mark.parametrize("storage", FORMATS)
@pytest.mark.parametrize("compressed", [True, False])
def test_round_trip(tmp_path, storage, compressed):
    frames = make_frames()
    labels = [np.full((H, W), 60_000 + index) for index in range(len(frames))]
    with BagWriter(tmp_path / "bag", compressed=compressed, storage=storage) as writer:
        for frame, masks in zip(frames, labels, strict=True):
            writer.write(frame, {"/masks": masks})
    with open_capture(tmp_path / "bag") as capture:
        assert len(capture.frames) == len(frames) and capture.has_depth
        assert capture.world_frame == "map" and capture.recorded_names == ("/masks",) and not capture.problems
        assert set(capture.files) == set((tmp_path / "bag").iterdir())
        for expected, masks, frame in zip(frames, labels, capture.frames, strict=True):
            assert frame.camera == expected.camera
            assert frame.stamp == pytest.approx(expected.stamp, abs=1e-6)
            np.testing.assert_allclose(frame.T_world_camera, expected.T_world_camera, atol=1e-9)
            assert np.abs(frame.depth - expected.depth).max() <= 0.0005 + 1e-6
            assert np.abs(frame.image.astype(int) - expected.image).mean() < (3 if compressed else 1e-9)
            np.testing.assert_array_equal(capture.recorded_labels("/masks", frame), masks)
        assert frame.name == f"{START}_500000000"
        assert not capture.skipped


@pytest.mark.parametrize("suffix", ["mcap", "db3"])
def test_a_storage_file_may_be_named(tmp_path, suffix):
    write_bag(tmp_path / "bag", make_frames(2), storage="mcap" if suffix == "mcap" else "sqlite3")
    assert len(list(open_capture(tmp_path / "bag" / f"bag.{suffix}").frames)) == 2


def test_pose_is_interpolated_at_the_stamp_of_the_image(tmp_path):
    with Recorder(tmp_path / "bag") as bag:
        T_link_optical = np.eye(4)
        T_link_optical[:3, 3] = 0.0, 0.0, 0.25
        bag.tf(0.0, "link", "optical", T_link_optical, topic="/tf_static")
        bag.info(0.0)
        bag.tf(0.0, "odom", "link", pose(0))
        bag.tf(0.2, "odom", "link", pose(4))
        for seconds in (0.05, 0.3):  # the second one is later than the last pose
            bag.image(seconds)
    capture = open_capture(tmp_path / "bag")
    (frame,) = capture.frames
    assert capture.world_frame == "odom"
    np.testing.assert_allclose(frame.T_world_camera, pose(1) @ T_link_optical, atol=1e-9)
    assert capture.skipped == {"pose_missing": 1}


@pytest.mark.parametrize("kind", ["odometry", "odometry_of_nobody", "pose", "pose_of_a_frame"])
def test_pose_from_a_topic(tmp_path, kind):
    T_link_optical = np.eye(4)
    T_link_optical[:3, 3] = 0.1, 0.0, 0.25
    expected = pose(1) if kind == "pose" else pose(1) @ T_link_optical
    with Recorder(tmp_path / "bag") as bag:
        bag.info(0.0)
        if kind != "pose":
            bag.tf(0.0, "link", "optical", T_link_optical, topic="/tf_static")
        for seconds, index in ((0.0, 0), (0.2, 2)):
            header = bag.header(seconds, "world")
            if kind.startswith("odometry"):
                twist = STORE.types["geometry_msgs/msg/Twist"]
                vector = STORE.types["geometry_msgs/msg/Vector3"](0.0, 0.0, 0.0)
                bag.write(
                    "/odom", "nav_msgs/msg/Odometry", seconds, header=header,
                    child_frame_id="link" if kind == "odometry" else "",
                    pose=STORE.types["geometry_msgs/msg/PoseWithCovariance"](bag.pose(pose(index)), np.zeros(36)),
                    twist=STORE.types["geometry_msgs/msg/TwistWithCovariance"](twist(vector, vector), np.zeros(36)),
                )  # fmt: skip
            else:
                bag.write(
                    "/pose", "geometry_msgs/msg/PoseStamped", seconds, header=header, pose=bag.pose(pose(index))
                )  # fmt: skip
        bag.image(0.1)
    # with a frame's pose both could be meant: the topic is asked for
    options = {
        "odometry": BagOptions(pose_topic="/odom"),
        "odometry_of_nobody": BagOptions(pose_topic="/odom", pose_frame="link"),
        "pose": BagOptions(),
        "pose_of_a_frame": BagOptions(pose_topic="/pose", pose_frame="link"),
    }[kind]
    if kind == "odometry_of_nobody":
        with pytest.raises(DatasetError, match="/odom .* empty child_frame_id, .* with pose_frame"):
            open_capture(tmp_path / "bag", bag=BagOptions(pose_topic="/odom"))
        with pytest.raises(DatasetError, match="empty child_frame_id"):
            replay_parameters(tmp_path / "bag", BagOptions(pose_topic="/odom"))
        assert replay_parameters(tmp_path / "bag", options)["pose_frame"] == "link"
    capture = open_capture(tmp_path / "bag", bag=options)
    (frame,) = capture.frames
    assert capture.world_frame == "world"
    np.testing.assert_allclose(frame.T_world_camera, expected, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "topic", "world"),
    [
        (BagOptions(), None, "odom"),
        (BagOptions(world_frame="odom"), None, "odom"),
        (BagOptions(world_frame="earth"), None, "earth"),
        (BagOptions(world_frame="/map"), "/pose", "map"),
        (BagOptions(pose_topic="/pose"), "/pose", "map"),
        (BagOptions(world_frame="moon"), "/pose gives poses in 'map', not in 'moon'", None),
    ],
)
def test_reader_and_node_take_the_same_poses(tmp_path, options, topic, world):
    with Recorder(tmp_path / "bag") as bag:
        bag.info(0.0)
        for index in range(2501):  # longer than a glance would last
            bag.tf(0.1 * index / 2500, "odom", "optical", pose(0))
        bag.tf(0.1, "earth", "odom", np.eye(4))
        header = bag.header(0.1, "map")
        bag.write("/pose", "geometry_msgs/msg/PoseStamped", 0.1, header=header, pose=bag.pose(pose(1)))
        bag.image(0.1)
    if world is None:
        with pytest.raises(DatasetError, match=topic):
            open_capture(tmp_path / "bag", bag=options)
        return
    capture = open_capture(tmp_path / "bag", bag=options)
    (frame,) = capture.frames
    np.testing.assert_allclose(frame.T_world_camera, pose(1 if topic else 0), atol=1e-9)
    found = replay_parameters(tmp_path / "bag", options)
    assert capture.world_frame == found["world_frame"] == world
    assert found.get("pose_topic") == topic and found["pose_source"] == ("pose" if topic else "tf")


def test_the_frame_of_the_camera_where_images_name_another(tmp_path):
    with Recorder(tmp_path / "bag") as bag:
        bag.info(0.0)
        bag.tf(0.1, "map", "lens", pose(1))
        bag.image(0.1)
    with pytest.raises(DatasetError, match="does not connect 'optical'"):
        open_capture(tmp_path / "bag")
    (frame,) = open_capture(tmp_path / "bag", bag=BagOptions(camera_frame="lens")).frames
    np.testing.assert_allclose(frame.T_world_camera, pose(1), atol=1e-9)


def test_a_bag_without_poses_says_so(tmp_path):
    with Recorder(tmp_path / "bag") as bag:
        bag.info(0.0)
        bag.image(0.0)
    with pytest.raises(DatasetError, match="no pose of the camera.*does not connect 'optical'"):
        open_capture(tmp_path / "bag")


def test_several_candidates_are_an_error_that_names_the_option(tmp_path):
    with Recorder(tmp_path / "bag") as bag:
        bag.posed_images()
        for index in range(3):
            bag.image(0.1 * index, topic="/rear/image_raw", value=90)
            bag.image(0.1 * index, topic="/depth_a", encoding="16UC1", value=1)
            bag.image(0.1 * index, topic="/depth_b", encoding="32FC1", value=1)
    with pytest.raises(DatasetError, match="/cam/image_raw, /rear/image_raw; choose with image_topic"):
        open_capture(tmp_path / "bag")
    with pytest.raises(DatasetError, match="/depth_a, /depth_b; choose with depth_topic"):
        open_capture(tmp_path / "bag", bag=BagOptions(image_topic="/cam/image_raw"))
    with pytest.raises(DatasetError, match="image_topic '/front' is not recorded; candidates: /cam/image_raw"):
        open_capture(tmp_path / "bag", bag=BagOptions(image_topic="/front"))
    with pytest.raises(DatasetError, match="'/cam/camera_info' is sensor_msgs/msg/CameraInfo with 3 messages"):
        open_capture(tmp_path / "bag", bag=BagOptions(image_topic="/cam/camera_info"))
    options = BagOptions(image_topic="/rear/image_raw", depth_topic="none")
    frame = open_capture(tmp_path / "bag", bag=options).frames[0]
    assert frame.image[0, 0, 0] == 90 and frame.depth is None


def test_depth_is_paired_by_stamp_within_the_slop_and_clipped(tmp_path):
    with Recorder(tmp_path / "bag") as bag:
        bag.posed_images(4)
        for seconds, value in ((0.01, 1), (0.1, 2), (0.25, 3), (0.31, 4)):
            bag.image(seconds, topic="/depth", encoding="16UC1", value=value)  # value 1 is 0x0101 mm
    capture = open_capture(tmp_path / "bag", max_depth=1.0)
    frames = list(capture.frames)
    assert capture.has_depth
    assert capture.problems == [f"1 of 4 frames have no depth within 0.02 s: {START}_200000000"]
    depths = [None if f.depth is None else round(float(f.depth[0, 0]), 3) for f in frames]
    assert depths == [0.257, 0.514, None, 0.0]
    with open_capture(tmp_path / "bag", bag=BagOptions(depth_slop=0.0)) as capture:
        assert capture.problems == [f"3 of 4 frames have no depth within 0 s: {START}_000000000, ..."]


def test_a_bag_whose_depth_is_of_another_time_is_told(tmp_path):
    with Recorder(tmp_path / "bag") as bag:
        bag.posed_images(3)
        bag.image(5.0, topic="/depth", encoding="16UC1", value=1)
    with open_capture(tmp_path / "bag") as capture:
        assert not capture.has_depth
        assert capture.problems == ["no frame has depth: /depth has none within 0.02 s of an image"]


@pytest.mark.parametrize("size", [(W // 2, H // 2), (W // 4, H // 4 + 1), (2 * W, 2 * H), (W // 2, H)])
def test_depth_of_a_coarser_sensor_is_enlarged_and_other_sizes_are_rejected(tmp_path, size):
    with Recorder(tmp_path / "bag") as bag:
        bag.posed_images()
        for index in range(3):
            bag.image(0.1 * index, topic="/depth", encoding="16UC1", size=size, value=1)
    capture = open_capture(tmp_path / "bag")
    if size == (W // 2, H // 2):
        for frame in capture.frames:
            np.testing.assert_allclose(frame.depth, np.full((H, W), 0.257))
        assert not capture.skipped
    else:
        with pytest.raises(DatasetError, match=rf"3 x depth_size.*depth is {size[0]}x{size[1]} but"):
            list(capture.frames)


def with_depth_in(frame, tmp_path):
    with Recorder(tmp_path / "bag") as bag:
        bag.posed_images()
        for index in range(3):
            bag.image(0.1 * index, topic="/depth", encoding="16UC1", frame=frame, value=1)
    return open_capture(tmp_path / "bag")


def test_depth_of_another_frame_is_not_used(tmp_path):
    capture = with_depth_in("depth_optical", tmp_path)
    assert not capture.has_depth and capture.frames[0].depth is None
    assert "not registered" in capture.problems[0]


def test_depth_without_a_frame_is_used_as_by_the_node(tmp_path):
    capture = with_depth_in("", tmp_path)
    assert not capture.problems and all(frame.depth.all() for frame in capture.frames)


def test_calibration_in_force_at_the_stamp(tmp_path):
    with Recorder(tmp_path / "bag") as bag:
        for index, f in enumerate((35.0, 35.0, 60.0)):
            bag.tf(0.1 * index, "map", "optical", pose(index))
            bag.info(0.1 * index, f=f)
            bag.image(0.1 * index)
    assert [f.camera.fx for f in open_capture(tmp_path / "bag").frames] == [35.0, 35.0, 60.0]


def test_frames_that_cannot_be_used_are_counted_by_reason(tmp_path):
    with Recorder(tmp_path / "bag") as bag:
        bag.posed_images(2)
        bag.tf(0.5, "map", "optical", pose(5))
        bag.image(0.2, encoding="hsv8")
        bag.image(0.3, size=(W + 2, H))
        bag.image(0.9)
    capture = open_capture(tmp_path / "bag")
    assert len(list(capture.frames)) == 2
    assert capture.skipped == {"image_encoding": 1, "image_size": 1, "pose_missing": 1}


def test_image_and_camera_info_of_different_size(tmp_path):
    with Recorder(tmp_path / "bag") as bag:
        bag.tf(0.0, "map", "optical", pose(0))
        bag.info(0.0, size=(2 * W, 2 * H))
        bag.image(0.0)
    with pytest.raises(DatasetError, match="1 x image_size.*40x30 but the camera is 80x60"):
        list(open_capture(tmp_path / "bag").frames)


def test_poses_that_are_no_poses_are_dropped(tmp_path):
    with Recorder(tmp_path / "bag") as bag:
        bag.posed_images(3)
        for seconds in (0.05, 0.15):
            T = pose(50)
            T[0, 3] = np.nan
            bag.tf(seconds, "map", "optical", T)
        bag.image(0.05)
    capture = open_capture(tmp_path / "bag")
    assert capture.problems == ["2 recorded poses were dropped: pose_not_finite"]
    frames = list(capture.frames)
    np.testing.assert_allclose(frames[1].T_world_camera, pose(0.5), atol=1e-9)


def test_uncalibrated_camera(tmp_path):
    with Recorder(tmp_path / "bag") as bag:
        bag.tf(0.0, "map", "optical", pose(0))
        bag.info(0.0, f=0.0)
        bag.image(0.0)
    capture = open_capture(tmp_path / "bag")
    with pytest.raises(FrameRejected, match="uncalibrated") as error:
        capture.load(0)
    assert error.value.reason == "camera_info"


def test_time_that_jumps_back_is_put_in_order(tmp_path):
    with Recorder(tmp_path / "bag") as bag:
        bag.info(0.0)
        for index in (0, 3, 1, 2, 2):
            bag.tf(0.1 * index, "map", "optical", pose(index))
            bag.image(0.1 * index, value=10 * index)
    capture = open_capture(tmp_path / "bag")
    assert [int(f.image[0, 0, 0]) for f in capture.frames] == [0, 10, 20, 30]
    assert capture.problems == ["1 messages of /cam/image_raw repeat the stamp of an earlier one and are not used"]


@pytest.mark.parametrize("storage", FORMATS)
@pytest.mark.parametrize("metadata", [True, False])
def test_a_cut_bag_is_read_as_far_as_it_goes(tmp_path, storage, metadata):
    frames = make_frames(40, CAMERA.resized(120, 90))  # 2 MB: more than one chunk of MCAP
    write_bag(tmp_path / "bag", frames, compressed=False, storage=storage)
    file = next(f for f in (tmp_path / "bag").iterdir() if f.suffix in (".mcap", ".db3"))
    data = file.read_bytes()
    file.write_bytes(data[: int(0.7 * len(data))])
    if not metadata:
        (tmp_path / "bag" / "metadata.yaml").unlink()
    capture = open_capture(tmp_path / "bag")
    read = list(capture.frames)
    assert 10 < len(read) < 30
    assert "damaged or cut off" in capture.problems[0]
    for expected, frame in zip(frames, read, strict=False):
        np.testing.assert_array_equal(frame.image, expected.image)


def test_damage_in_the_middle_ends_the_recording_there(tmp_path):
    frames = make_frames(40, CAMERA.resized(120, 90))
    write_bag(tmp_path / "bag", frames, compressed=False)
    file = tmp_path / "bag" / "bag.mcap"
    with file.open("r+b") as target:
        target.seek(1_400_000)  # in the second chunk
        target.write(b"\xde\xad\xbe\xef" * 30_000)
    capture = open_capture(tmp_path / "bag")
    assert 10 < len(list(capture.frames)) < 30
    assert any("end early" in problem for problem in capture.problems)


def test_raw_images_are_preferred_to_the_same_compressed(tmp_path):
    with Recorder(tmp_path / "bag") as bag:
        bag.posed_images()
        for index in range(3):
            bag.write(
                "/cam/image_raw/compressed", "sensor_msgs/msg/CompressedImage", 0.1 * index,
                header=bag.header(0.1 * index, "optical"), format="jpeg", data=np.zeros(10, np.uint8),
            )  # fmt: skip
    capture = open_capture(tmp_path / "bag")
    assert capture.topics.image == "/cam/image_raw" and len(list(capture.frames)) == 3


def test_missing_metadata_alone_loses_nothing(tmp_path):
    write_bag(tmp_path / "bag", make_frames())
    (tmp_path / "bag" / "metadata.yaml").unlink()
    capture = open_capture(tmp_path / "bag")
    assert len(list(capture.frames)) == 6
    assert "metadata.yaml" in capture.problems[0]


@pytest.mark.parametrize(("storage", "name"), [("mcap", "bag.mcap"), ("sqlite3", "bag.db3")])
def test_a_missing_storage_file_is_an_error_that_names_it(tmp_path, storage, name):
    write_bag(tmp_path / "bag", make_frames(1), storage=storage)
    (tmp_path / "bag" / name).unlink()
    with pytest.raises(DatasetError, match=f"cannot read .*bag as a rosbag2 recording.*missing.*{name}"):
        open_capture(tmp_path / "bag")


@pytest.mark.parametrize("name", ["bag.mcap", "bag.db3"])
@pytest.mark.parametrize("content", [b"", b"this is no bag at all" * 50])
def test_garbage_is_an_error_that_names_the_file(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=f"cannot read .*{name} as a rosbag2 recording"):
        open_capture(tmp_path / name)


def test_a_message_that_is_damaged_since_the_bag_was_opened_costs_its_frame_alone(tmp_path):
    frames = make_frames(3)
    write_bag(tmp_path / "bag", frames, compressed=False)
    with open_capture(tmp_path / "bag") as capture:
        (file,) = (tmp_path / "bag").glob("*.mcap")
        content, pixels = file.read_bytes(), frames[1].image.tobytes()
        place = content.index(pixels)
        assert int.from_bytes(content[place - 4 : place], "little") == len(pixels)
        with file.open("r+b") as damaged:  # more pixels than there are bytes
            damaged.seek(place - 4)
            damaged.write(b"\xff\xff\xff\x7f")
        stamps = [frame.stamp for frame in capture.frames]
        assert stamps == pytest.approx([frames[0].stamp, frames[2].stamp], abs=1e-6)
        assert capture.skipped == {"bag_unreadable": 1} and "end early" in capture.problems[0]


def test_a_bag_is_not_overwritten(tmp_path):
    write_bag(tmp_path / "bag", make_frames(1))
    with pytest.raises(DatasetError, match="cannot create the bag"):
        BagWriter(tmp_path / "bag")


@pytest.mark.parametrize(
    ("bag", "count", "labels"),
    [("kitchen_100_mcap", 100, ()), ("tabletop25_60_sqlite3", 60, ("/ground_truth/instance",))],
)
def test_real_bags(captured, tmp_path, bag, count, labels):
    folder = captured(f"bags/{bag}")
    capture = open_capture(folder)
    assert len(capture) == count and capture.recorded_names == labels and capture.has_depth
    frame = capture.frames[count // 2]
    assert frame.image.shape == (480, 640, 3) and 0.3 < np.median(frame.depth[frame.depth > 0]) < 5
    # depth and poses agree: points of one view fall onto the surfaces of the next
    other = capture.frames[count // 2 + 2]
    points = frame.camera.unproject(frame.depth)[frame.depth > 0]
    T = np.linalg.inv(other.T_world_camera) @ frame.T_world_camera
    pixels, z = other.camera.project(points @ T[:3, :3].T + T[:3, 3])
    inside = (pixels >= 0).all(1) & (pixels < (640, 480)).all(1) & (z > 0)
    column, row = pixels[inside].astype(int).T
    measured = other.depth[row, column]
    assert np.median(np.abs(measured - z[inside])[measured > 0]) < 0.02
    for name in labels:
        assert len(np.unique(capture.recorded_labels(name, frame))) > 5

    # and cut in the middle, as by a recorder that lost power
    file = next(f for f in folder.iterdir() if f.suffix in (".mcap", ".db3"))
    cut = tmp_path / file.name
    shutil.copyfile(file, cut)
    with cut.open("r+b") as target:
        target.truncate(file.stat().st_size // 2)
    assert count * 0.3 < len(open_capture(cut)) < count * 0.7


def test_what_the_camera_sees_of_the_robot_is_ignored(tmp_path):
    write_bag(tmp_path / "bag", make_frames(2))
    mask = np.full((H, W), 255, np.uint8)
    mask[:9] = 0
    write_image(tmp_path / "mask.png", mask)
    with open_capture(tmp_path / "bag", bag=BagOptions(camera_mask=str(tmp_path / "mask.png"))) as capture:
        for frame in capture.frames:
            np.testing.assert_array_equal(frame.ignored, mask == 0)
            assert not frame.depth[:9].any() and frame.depth[9:].all()
    write_image(tmp_path / "black.png", 0 * mask)
    for name, message in (("none.png", "camera_mask: .*none.png is no file"), ("black.png", "black all over")):
        with pytest.raises(ConfigError, match=message):
            open_capture(tmp_path / "bag", bag=BagOptions(camera_mask=str(tmp_path / name)))
