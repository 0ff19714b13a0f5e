"""The node: a lifecycle node that, unless told otherwise, configures and activates itself."""

from __future__ import annotations

import logging
import signal
import sys
import traceback
from collections.abc import Callable

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from lift_ros.config import Config
from lift_ros.errors import ConfigError, LiftError
from lift_ros.mapping.prepare import make_mapper_segmenter
from lift_ros.ros import parameters
from lift_ros.ros.compat import TRANSFORMS_BY
from lift_ros.ros.node_config import NodeConfig
from lift_ros.ros.pipeline import Pipeline

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class RosLogHandler(logging.Handler):
    """Sends what the core logs through the node's logger, to the console and /rosout."""

    def __init__(self, node: LifecycleNode) -> None:
        """Log as ``node``."""
        super().__init__(logging.INFO)
        self._logger = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler. One line a severity: rclpy tells call sites apart by their line."""
        if record.levelno >= logging.ERROR:
            self._logger.error(record.getMessage())
        elif record.levelno >= logging.WARNING:
            self._logger.warning(record.getMessage())
        else:
            self._logger.info(record.getMessage())


class MappingNode(LifecycleNode):
    """configure: read parameters, load the segmenter; activate: map; deactivate: rest, map kept; cleanup: forget.

    Attributes:
        save_error: why the latest map that is gone was not saved where ``autosave`` says, "" if all is well.
    """

    def __init__(self, **node_options: object) -> None:
        """Declare the parameters. ``node_options``: as of rclpy.node.Node.

        Raises:
            ConfigError: a parameter is unknown or out of range.
        """
        self._pipeline: Pipeline | None = None  # first: rclpy destroys a node whose parameters are refused, too
        self.save_error = ""
        super().__init__("lift_ros", automatically_declare_parameters_from_overrides=True, **node_options)
        parameters.declare(self, NodeConfig(), Config())
        self.add_on_set_parameters_callback(self._on_set)

    def _on_set(self, changed: list[Parameter]) -> SetParametersResult:
        """Parameters shape what is built when the node is configured. Later they would change nothing, and say they
        had.
        """
        try:
            own = parameters.check(changed, NodeConfig(), Config())
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if own and self._pipeline:
            reason = f"{', '.join(own)}: read when the node is configured; clean the node up first"
            return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Build everything."""
        try:
            config, mapping = parameters.read(self, NodeConfig()), parameters.read(self, Config())
            segmenter = make_mapper_segmenter(mapping)
            self._pipeline = Pipeline(self, config, mapping, segmenter)
        except LiftError as error:
            self.get_logger().error(str(error))
            return FAILURE
        except Exception:  # rclpy turns it into a failed transition and says nothing
            self.get_logger().error(f"cannot configure: {traceback.format_exc()}")
            return FAILURE
        self.get_logger().info(
            f"masks by '{segmenter.name}', poses from {config.pose_source} in '{config.world_frame}', "
            f"transforms by {TRANSFORMS_BY}"
        )
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the workers."""
        return self._carefully("activate", self._pipeline.start) or super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the workers."""
        return self._carefully("deactivate", self._pipeline.stop) or super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget the map."""
        return self._carefully("clean up", self._dismantle) or SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the workers. The rest goes with the node: a request that waits for the mapper is to be answered yet."""
        return (self._pipeline and self._carefully("shut down", self._pipeline.stop)) or SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take down what an unexpected error left, so that the node can be configured anew."""
        self._carefully("take down what was built", self._dismantle)
        return SUCCESS

    def destroy_node(self) -> None:
        """Stop the workers before the middleware goes."""
        self._dismantle()
        super().destroy_node()

    def _carefully(self, what: str, action: Callable[[], None]) -> TransitionCallbackReturn | None:
        """Do it; FAILURE where it cannot be done, ERROR where something unexpected happens, with the reason in the log:
        rclpy says nothing of it.
        """
        try:
            action()
        except LiftError as error:
            self.get_logger().error(f"cannot {what}: {error}")
            return FAILURE
        except Exception:
            self.get_logger().error(f"cannot {what}: {traceback.format_exc()}")
            return TransitionCallbackReturn.ERROR
        return None

    def _dismantle(self) -> None:
        pipeline, self._pipeline = self._pipeline, None
        if pipeline:
            try:
                pipeline.destroy()
            finally:
                self.save_error = pipeline.save_error


def main() -> int:
    """Run the node until it is told to stop. Exit status 1: it could not start, or its map not be saved at the end."""
    rclpy.init()
    node = None
    try:
        node = MappingNode()
        core = logging.getLogger("lift_ros")
        core.setLevel(logging.INFO)
        core.addHandler(RosLogHandler(node))
        if node.get_parameter("autostart").value and not (
            node.trigger_configure() is SUCCESS and node.trigger_activate() is SUCCESS
        ):
            return 1
        # no callback waits, and rclpy's executor of several threads needs ten times as long for each
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin()
    except LiftError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        if rclpy.ok():  # else a signal ended the middleware in the middle of a callback
            raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not tear the workers' end apart
        if node:
            node.destroy_node()
        rclpy.try_shutdown()
    return 1 if node and node.save_error else 0


if __name__ == "__main__":
    sys.exit(main())
