"""How services wait for the mapper. What they answer is asked of the running node in test_mapping_node.py."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rclpy
import rclpy.task
from rclpy.executors import SingleThreadedExecutor
from ros.rig import Rig, transform
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from lift_ros.errors import LiftError
from lift_ros.ros import mapper_worker, services
from lift_ros.ros.conversions import to_point
from lift_ros.ros.services import Services
from lift_ros.srv import FindObject, ListObjects, SaveMap, SelectSimilar


@pytest.fixture
def executor() -> Iterator[SingleThreadedExecutor]:
    context = rclpy.Context()
    rclpy.init(context=context)
    executor = SingleThreadedExecutor(context=context)
    yield executor
    executor.shutdown()
    rclpy.try_shutdown(context=context)


def waiting(executor: SingleThreadedExecutor, future: Future[Any]) -> Any:
    """The coroutine that waits for ``future`` of the mapper."""
    worker = SimpleNamespace(submit=lambda function: future)
    service = object.__new__(Services)
    service._pipeline, service._awaited = SimpleNamespace(node=SimpleNamespace(executor=executor), worker=worker), set()
    return service._by_mapper(lambda: None)


def spin(executor: SingleThreadedExecutor, task: rclpy.task.Task) -> None:
    """Until the task is done, or seconds have passed."""
    deadline = time.monotonic() + 10
    while not task.done() and time.monotonic() < deadline:
        executor.spin_once(timeout_sec=20.0)  # longer than the whole: something has to wake it


def test_what_it_awaits_tells_the_executor_when_to_go_on(executor, monkeypatch):
    """Later releases of rclpy resume a coroutine when what it awaits is done, and at once if that is nothing."""

    def later(self: rclpy.task.Future) -> Generator[rclpy.task.Future, None, Any]:
        while not self.done():
            yield self
        return self.result()

    monkeypatch.setattr(rclpy.task.Future, "__await__", later)
    future: Future[int] = Future()
    coroutine = waiting(executor, future)
    awaited = coroutine.send(None)
    assert isinstance(awaited, rclpy.task.Future) and not awaited.done()
    future.set_result(7)
    assert awaited.done()
    with pytest.raises(StopIteration) as end:
        coroutine.send(None)
    assert end.value.value == 7


def test_an_executor_that_sleeps_goes_on_once_the_mapper_has_answered(executor):
    future: Future[int] = Future()
    task = executor.create_task(waiting(executor, future))
    executor.spin_once(timeout_sec=0.1)
    assert not task.done()
    threading.Timer(0.3, future.set_result, (7,)).start()
    spin(executor, task)
    assert task.result() == 7


def test_a_request_that_the_mapper_never_comes_to_is_given_up(executor, monkeypatch):
    monkeypatch.setattr(services, "MAPPER_TIMEOUT", 0.2)
    future: Future[int] = Future()
    task = executor.create_task(waiting(executor, future))
    with pytest.raises(LiftError, match="try again"):
        spin(executor, task)  # some executors raise what a task raises
        task.result()
    assert future.cancelled()


def test_a_request_of_a_node_that_is_deactivated_is_told_so(executor):
    future: Future[int] = Future()
    task = executor.create_task(waiting(executor, future))
    executor.spin_once(timeout_sec=0.1)
    assert not task.done() and future.cancel()
    with pytest.raises(LiftError, match="deactivated"):
        spin(executor, task)
        task.result()


def test_a_request_that_the_mapper_has_begun_is_awaited(executor, monkeypatch):
    monkeypatch.setattr(services, "MAPPER_TIMEOUT", 0.2)
    future: Future[int] = Future()
    assert future.set_running_or_notify_cancel()
    task = executor.create_task(waiting(executor, future))
    begin = time.monotonic()
    while time.monotonic() - begin < 0.5:
        executor.spin_once(timeout_sec=0.1)
    assert not task.done()
    future.set_exception(LiftError("no room"))
    with pytest.raises(LiftError, match="no room"):
        spin(executor, task)
        task.result()


def test_a_query_waits_for_tf_that_comes_a_little_later_than_the_time_it_is_of():
    """As where a client asks for something in its own frame, now."""
    with closing(Rig(pose_timeout=10.0)) as rig:
        rig.map_the_wall()
        item, now = rig.objects[0], rig.header(100)
        place = np.array([0.3, -0.2, 0.5])

        def send_tf(header: Header) -> None:
            there = transform(header, tuple(place.tolist()), parent="map", child="gripper")
            rig.tf.publish(TFMessage(transforms=[there]))

        send_tf(rig.header(99))
        now.frame_id = "gripper"
        c = item.centroid
        point = to_point(np.array([c.x, c.y, c.z]) - place)
        queries = (
            (FindObject, "find_object", {"kind": FindObject.Request.POINT, "point": point}),
            (SelectSimilar, "select_similar", {"points": [point], "threshold": 0.3}),
        )
        clients = [rig.node.create_client(kind, f"lift_ros/{name}") for kind, name, _ in queries]
        assert all(client.wait_for_service(10.0) for client in clients)
        answers = [
            client.call_async(kind.Request(header=now, **fields))
            for client, (kind, _, fields) in zip(clients, queries, strict=True)
        ]
        time.sleep(0.1)
        assert rig.call(ListObjects, "list_objects").objects.objects  # others are answered meanwhile
        assert not any(answer.done() for answer in answers)
        send_tf(now)
        rig.wait_until(lambda: all(answer.done() for answer in answers), "both answers")
        found, selected = (answer.result() for answer in answers)
        assert found.success and found.ids[0] == item.id
        assert selected.success and selected.cloud.width > 20
        for client in clients:
            rig.node.destroy_client(client)


def test_a_query_in_a_frame_of_which_tf_tells_nothing_is_told_so():
    with closing(Rig(pose_timeout=0.1)) as rig:
        answer = rig.call(FindObject, "find_object", kind=FindObject.Request.POINT, header=Header(frame_id="nowhere"))
        assert not answer.success and "no pose of 'nowhere' in 'map'" in answer.message


def test_who_waits_for_tf_when_the_node_is_cleaned_up_is_answered():
    """And the executor, which an answer of a service that is gone would end, goes on."""
    with closing(Rig(pose_timeout=10.0)) as rig:
        client = rig.node.create_client(FindObject, "lift_ros/find_object")
        assert client.wait_for_service(10.0)
        header = Header(frame_id="nowhere")
        answer = client.call_async(FindObject.Request(kind=FindObject.Request.POINT, header=header))
        period_ns = round(1e9 * services.POLL)
        rig.wait_until(lambda: any(t.timer_period_ns == period_ns for t in rig.mapping.timers), "it to wait")
        rig.mapping.trigger_deactivate()
        rig.mapping.trigger_cleanup()
        rig.wait_until(answer.done, "the answer")
        assert not answer.result().success and "nowhere" in answer.result().message
        rig.wait_until(lambda: not any("find_object" in s.srv_name for s in rig.mapping.services), "its end")
        rig.node.destroy_client(client)


def test_who_waits_for_a_mapper_that_hangs_when_the_node_is_cleaned_up_is_answered(tmp_path, monkeypatch):
    """And the services of the next life are alone under their names."""
    monkeypatch.setattr(mapper_worker, "STOP_TIMEOUT", 0.2)
    begun, release = threading.Event(), threading.Event()
    with closing(Rig(map_directory=str(tmp_path))) as rig:
        client = rig.node.create_client(SaveMap, "lift_ros/save_map")
        try:
            assert client.wait_for_service(10.0)
            monkeypatch.setattr(rig.mapping._pipeline, "save_map", lambda path: begun.set() or release.wait())
            answer = client.call_async(SaveMap.Request(name="late"))
            assert begun.wait(10.0)
            rig.mapping.trigger_deactivate()
            rig.mapping.trigger_cleanup()
            rig.wait_until(answer.done, "the answer")
            assert not answer.result().success and "cleaned up" in answer.result().message
            rig.wait_until(lambda: not any("save_map" in s.srv_name for s in rig.mapping.services), "their end")
        finally:
            release.set()
            rig.node.destroy_client(client)


def test_every_request_is_answered_however_many_come_at_once():
    """As of a planner that asks for each object of a list; beyond the depth of a queue they would be lost silently."""
    with closing(Rig()) as rig:
        client = rig.node.create_client(ListObjects, "lift_ros/list_objects")
        assert client.wait_for_service(10.0)
        answers = [client.call_async(ListObjects.Request()) for _ in range(200)]
        rig.wait_until(lambda: all(answer.done() for answer in answers), "all answers")
        rig.node.destroy_client(client)
