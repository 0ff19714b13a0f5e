"""The node's services."""

from __future__ import annotations

import inspect
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import rclpy.task
from numpy.typing import NDArray
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from lift_ros.errors import FrameRejected, LiftError
from lift_ros.mapping.selection import Clicks
from lift_ros.objects import queries
from lift_ros.objects.description import MapObject, parts
from lift_ros.ros.autosave import check_name
from lift_ros.ros.conversions import (
    cloud_message,
    frame_name,
    mask_message,
    matrix_from_pose,
    nanoseconds,
    object_message,
)
from lift_ros.ros.labeller import LabelledView
from lift_ros.ros.pose_source import lookup_tf
from lift_ros.srv import FindObject, GetObject, ListObjects, LoadMap, RemoveObject, SaveMap, SelectSimilar

if TYPE_CHECKING:
    from lift_ros.ros.pipeline import Pipeline

DEFAULT_RADIUS = 0.05
MAPPER_TIMEOUT = 60.0  # s, for the mapper to come to a request; one that it has begun is awaited, however long it takes
POLL = 0.02  # s, between two looks whether TF covers the time of a request
# a request beyond the depth is lost, and whoever sent it waits for ever; the default are 10
WAITING = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)

Result = TypeVar("Result")


class Services:
    """Answers requests in the executor's thread; only the map itself is touched by the mapper's.

    Requests that wait for the mapper's thread or for TF are coroutines: the executor goes on with its other callbacks.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        """Create the services on the pipeline's node."""
        self._pipeline = pipeline
        node = pipeline.node
        self._group = ReentrantCallbackGroup()
        self._open = 0  # requests that are not answered yet
        self._ending = False
        self._awaited: set[rclpy.task.Future] = set()  # answers of the mapper
        self._later: rclpy.task.Future | None = None  # done when it is time to look at TF again
        self._services = [
            node.create_service(
                kind, f"~/{name}", self._guarded(callback), qos_profile=WAITING, callback_group=self._group
            )
            for kind, name, callback in (
                (ListObjects, "list_objects", self._list_objects),
                (GetObject, "get_object", self._get_object),
                (FindObject, "find_object", self._find_object),
                (SelectSimilar, "select_similar", self._select_similar),
                (RemoveObject, "remove_object", self._remove_object),
                (SaveMap, "save_map", self._save_map),
                (LoadMap, "load_map", self._load_map),
                (Trigger, "reset", self._reset),
                (SetBool, "pause", self._pause),
            )
        ]

    def destroy(self) -> None:
        """Remove the services from the node; where requests wait, once the executor has answered them. An answer of a
        service that is gone would end the executor.
        """
        self._ending = True
        if not self._open:
            self._remove()
        for answered in self._awaited.copy():  # the mapper may hang
            answered.set_result(None)

    def _remove(self) -> None:
        for service in self._services:
            self._pipeline.node.destroy_service(service)

    def _guarded(self, callback: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """An unexpected error in one request must not end the executor, and the node with it."""

        async def answer(request: Any, response: Any) -> Any:
            self._open += 1
            try:
                result = callback(request, response)
                return await result if inspect.isawaitable(result) else result
            except Exception as error:
                self._pipeline.node.get_logger().error(traceback.format_exc())
                response = type(response)()
                if hasattr(response, "message"):
                    response.message = f"internal error: {type(error).__name__}: {error}"
                return response
            finally:
                self._open -= 1
                executor = self._pipeline.node.executor
                if executor and self._ending and not self._open:
                    executor.create_task(self._remove)  # this answer is sent before

        return answer

    async def _by_mapper(self, function: Callable[[], Result]) -> Result:
        """The result of ``function``, run in the mapper's thread between two of its steps, or its error.

        Raises:
            LiftError: the node is not active, the mapper did not come to it in time, or the node does not wait for it.
        """
        future: Future[Result] = self._pipeline.worker.submit(function)
        executor = self._pipeline.node.executor
        answered = rclpy.task.Future(executor=executor)

        def resume(_: Future[Result]) -> None:
            answered.set_result(None)
            executor.wake()  # rclpy up to 7.1.8 and 9.1.3 looks at what it awaits after a wake-up only

        future.add_done_callback(resume)
        too_late = threading.Event()

        def give_up() -> None:
            too_late.set()
            future.cancel()

        timer = threading.Timer(MAPPER_TIMEOUT, give_up)
        timer.daemon = True
        timer.start()
        self._awaited.add(answered)
        await answered
        self._awaited.remove(answered)
        timer.cancel()
        if not future.done():
            raise LiftError("the node was cleaned up while the mapper was at it")
        if not future.cancelled():
            return future.result()
        if too_late.is_set():
            raise LiftError(f"the mapper was busy for {MAPPER_TIMEOUT:.0f} s; try again")
        raise LiftError("the node was deactivated before the mapper came to it")

    def _list_objects(self, request: ListObjects.Request, response: ListObjects.Response) -> ListObjects.Response:
        # "not below", so that NaN, which this answer cannot refuse, leaves nothing out
        map_id, objects = self._pipeline.known
        objects = [o for o in objects if not o.confidence < request.min_confidence]
        response.objects = self._pipeline.outputs.object_array(self._pipeline.stamp, map_id, objects)
        return response

    def _get_object(self, request: GetObject.Request, response: GetObject.Response) -> GetObject.Response:
        map_id, objects = self._pipeline.known
        try:
            _check_map(request.map_id, map_id)
        except LiftError as error:
            response.message = str(error)
            return response
        item = next((o for o in objects if o.id == request.id), None)
        if item is None:
            response.message = f"there is no object {request.id}"
            return response
        response.success, response.map_id = True, map_id
        response.header = self._pipeline.outputs.header(self._pipeline.stamp)
        response.object = object_message(item, self._pipeline.outputs.stamps.of)
        response.cloud = cloud_message(response.header, item.points, item.colors, item.id)
        return response

    async def _find_object(self, request: FindObject.Request, response: FindObject.Response) -> FindObject.Response:
        try:
            map_id, found = await self._find(request)
        except (LiftError, ValueError) as error:
            response.message = str(error)
            return response
        response.success, response.map_id = True, map_id
        response.ids = [i for i, _ in found]
        response.distances = [float(distance) for _, distance in found]
        return response

    async def _find(self, request: FindObject.Request) -> tuple[str, list[tuple[int, float]]]:
        """The id of the map, and what was found in it, with distances."""
        if request.kind == FindObject.Request.PIXEL:
            return self._at_pixel(*request.pixel.tolist(), nanoseconds(request.header.stamp))
        T = await self._to_world(request.header)
        map_id, objects = self._pipeline.known
        return map_id, self._in_space(request, T, parts(objects))

    def _in_space(
        self, request: FindObject.Request, T: NDArray[np.float64], objects: list[MapObject]
    ) -> list[tuple[int, float]]:
        """Those of the ``objects`` that are asked for in a frame whose pose in the map's is ``T``."""
        radius = request.radius or DEFAULT_RADIUS
        p, d, b = request.point, request.direction, request.box.position
        if request.kind == FindObject.Request.POINT:
            point = queries.finite("point", (p.x, p.y, p.z))
            return queries.at_point(objects, T[:3, :3] @ point + T[:3, 3], radius)
        if request.kind == FindObject.Request.RAY:
            origin = queries.finite("point, the ray's origin,", (p.x, p.y, p.z))
            direction = queries.finite("direction", (d.x, d.y, d.z))
            return queries.along_ray(objects, T[:3, :3] @ origin + T[:3, 3], T[:3, :3] @ direction, radius)
        if request.kind == FindObject.Request.BOX:
            size = request.box_size
            queries.finite("box.position", (b.x, b.y, b.z))
            try:
                T_box = matrix_from_pose(request.box)
            except FrameRejected as error:
                raise LiftError(f"box.orientation must be a quaternion of length 1: {error}") from None
            return queries.in_box(objects, T @ T_box, np.array([size.x, size.y, size.z]))
        raise LiftError(f"kind {request.kind} is none of PIXEL 0, POINT 1, BOX 2, RAY 3")

    def _at_pixel(self, column: int, row: int, stamp_ns: int) -> tuple[str, list[tuple[int, float]]]:
        # of the map of the moment: boxes take their time, and labels show new objects before the list has them
        mapper = self._pipeline.worker.mapper
        label = self._pipeline.labeller.id_at(column, row, stamp_ns)
        if mapper is not self._pipeline.worker.mapper:
            raise LiftError("another map has just taken the place of this one; try again")
        return mapper.map_id, [(label, 0.0)] if any(track.id == label for track in mapper.snapshot.tracks) else []

    async def _to_world(self, header: Header) -> NDArray[np.float64]:
        """The transform from the frame of a request to the map's. TF comes a little later than the time that it is of,
        and is waited for as long as for an image's.

        Raises:
            LiftError: it did not come.
        """
        frame, config = frame_name(header.frame_id), self._pipeline.config
        if frame in ("", config.world_frame):
            return np.eye(4)
        deadline = time.monotonic() + config.pose_timeout
        while True:
            try:
                return lookup_tf(self._pipeline.tf_buffer, config.world_frame, frame, nanoseconds(header.stamp))
            except FrameRejected as error:
                if self._ending or time.monotonic() >= deadline:
                    raise LiftError(str(error)) from None
            await self._a_moment()

    async def _a_moment(self) -> None:
        """Let the executor go on for ``POLL``; all that wait do so together. A node that is destroyed ends it."""
        if self._later is None:
            node, later = self._pipeline.node, rclpy.task.Future(executor=self._pipeline.node.executor)

            def over() -> None:
                self._later = None
                node.destroy_timer(timer)
                later.set_result(None)

            steady = Clock(clock_type=ClockType.STEADY_TIME)  # simulated time may stand still
            timer = node.create_timer(POLL, over, self._group, steady)
            self._later = later
        await self._later

    async def _select_similar(
        self, request: SelectSimilar.Request, response: SelectSimilar.Response
    ) -> SelectSimilar.Response:
        worker = self._pipeline.worker
        try:
            view = self._view(request)
            clicks = await self._clicks(request, view)
            map_id, found = await self._by_mapper(lambda: (worker.mapper.map_id, worker.mapper.select(clicks)))
        except LiftError as error:
            response.message = str(error)
            return response
        response.success, response.map_id = True, map_id
        header = self._pipeline.outputs.header(self._pipeline.stamp)
        response.cloud = cloud_message(header, found.points, found.colors, found.ids)
        if view is not None and found.mask is not None:
            response.mask = mask_message(view.header, found.mask)
        return response

    def _view(self, request: SelectSimilar.Request) -> LabelledView | None:
        """What the mask of the answer is seen from; clicks in space alone need none."""
        if request.pixels:
            return self._pipeline.labeller.view(nanoseconds(request.header.stamp))
        try:
            return self._pipeline.labeller.view()
        except LiftError:
            return None

    async def _clicks(self, request: SelectSimilar.Request, view: LabelledView | None) -> Clicks:
        T = await self._to_world(request.header) if request.points else np.eye(4)
        points = [T[:3, :3] @ (p.x, p.y, p.z) + T[:3, 3] for p in request.points]
        if len(request.pixels) % 2:
            raise LiftError(f"pixels are pairs of column and row, got {len(request.pixels)} numbers")
        pixels = list(zip(request.pixels[::2], request.pixels[1::2], strict=True))
        if hidden := [pixel for pixel in pixels if not view.shows(*pixel)]:
            raise LiftError(f"pixel {hidden[0]} shows nothing of the scene, as camera_mask has it")
        pixels = [view.at_camera(column, row) for column, row in pixels]
        return Clicks(points, pixels, view.camera if view else None, request.threshold, request.connected)

    async def _remove_object(
        self, request: RemoveObject.Request, response: RemoveObject.Response
    ) -> RemoveObject.Response:
        worker = self._pipeline.worker

        def remove() -> None:
            _check_map(request.map_id, worker.mapper.map_id)
            worker.remove(request.id)

        try:
            await self._by_mapper(remove)
        except LiftError as error:
            response.message = f"object not removed: {error}"
            return response
        response.success = True
        return response

    async def _save_map(self, request: SaveMap.Request, response: SaveMap.Response) -> SaveMap.Response:
        try:
            path = self._pipeline.map_path(request.name)
            check_name(path.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            await self._by_mapper(lambda: self._pipeline.save_map(path))
        except (LiftError, OSError) as error:
            response.message = f"map not saved: {error}"
            self._pipeline.node.get_logger().error(response.message)
            return response
        response.success, response.path = True, str(path)
        return response

    async def _load_map(self, request: LoadMap.Request, response: LoadMap.Response) -> LoadMap.Response:
        try:
            path = self._pipeline.map_path(request.name)
            await self._by_mapper(lambda: self._pipeline.replace_map(self._pipeline.loaded_mapper(path)))
        except LiftError as error:
            response.message = f"map not loaded: {error}"
            self._pipeline.node.get_logger().error(response.message)
            return response
        response.success = True
        return response

    async def _reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            await self._by_mapper(self._pipeline.reset)
        except LiftError as error:
            response.message = str(error)
            return response
        response.success, response.message = True, "the map is empty"
        return response

    def _pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        worker = self._pipeline.worker
        try:
            worker.check_running()
        except LiftError as error:
            response.message = str(error)
            return response
        paused = worker.paused
        (paused.set if request.data else paused.clear)()
        response.success, response.message = True, "paused" if request.data else "mapping"
        return response


def _check_map(asked: str, present: str) -> None:
    """Raises LiftError: an id is of another map than the ``present`` one, so that it names something else there."""
    if asked not in ("", present):
        raise LiftError(f"the id is of the map {asked}, but the present map is {present}")
