"""The pipeline, frame by frame: keyframe, masks, seeds, training, objects.

The same mapper runs live and offline. Live, ``process`` and ``step`` are called from one thread, and readers in other
threads use ``snapshot`` and ``objects``. Nothing depends on time: the same frames, configuration and seed give the
same map but for its ``map_id``, on CUDA up to the rounding of sums.
"""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from lift_ros.camera import PosedCamera
from lift_ros.config import Config
from lift_ros.errors import FrameRejected, LiftError, MapFileError
from lift_ros.evidence.counts import masked
from lift_ros.evidence.mask_evidence import MaskEvidence
from lift_ros.frame import Frame, check_near
from lift_ros.lifting.base import Clickable, HasUnitFeatures
from lift_ros.lifting.methods import METHODS, make_method
from lift_ros.lifting.sampling import view_of_objects
from lift_ros.mapping.departures import Departures
from lift_ros.mapping.keyframes import RECENT, Keyframe, Keyframes
from lift_ros.mapping.keyframing import MIN_MEASURED, is_keyframe, viewing_distance
from lift_ros.mapping.map_files import MapContents, load_map, save_map
from lift_ros.mapping.prepare import training_device
from lift_ros.mapping.schedule import STEPS_AT_ONCE, Schedule
from lift_ros.mapping.selection import Clicks, Selection, select, similarity_image
from lift_ros.mapping.snapshot import MapSnapshot
from lift_ros.masks.base import Patches, Segmenter
from lift_ros.masks.prompting import make_prompts
from lift_ros.objects.description import MapObject, as_json
from lift_ros.objects.registry import CONFIRMED, ObjectEvent, ObjectRegistry
from lift_ros.options import walk
from lift_ros.render import Rendering, rasterize
from lift_ros.scene.alignment import CorrectionTrack, align
from lift_ros.scene.gaussians import GaussianScene, Seeds, follow
from lift_ros.scene.neighbours import Neighbours
from lift_ros.scene.seeder import Seeder
from lift_ros.scene.seeding import too_coarse
from lift_ros.scene.ssim import WINDOW
from lift_ros.scene.thinning import thinned
from lift_ros.scene.trainer import PhotometricTrainer, TrainingView

log = logging.getLogger(__name__)

SETTLED = 0.3  # learning-rate factor for steps on older keyframes
ALIGN_STEPS = 5  # that align a new keyframe with the scene, if poses are refined
FINER = 2  # resolution of the masks that are kept, as a multiple of that of the view
MASK_GAUSSIANS = 40  # that a mask should show to become an object of its own
RESEED_AFTER = 3  # keyframes after which one without depth is seeded again, now with neighbours on both sides
SPARED = (3, 1, 0)  # multiples of objects.min_gaussians no object is thinned below; tried in order until enough can go
NEW_GROUND = 0.1  # share of a view; for less, nothing is thinned: borders are never explained to the last pixel
SHOWN_AGAIN = 4.0  # pixels of a thinned Gaussian in a new keyframe, from which masks decide its object again


@dataclass
class MapperStats:
    """Figures of the map and its training.

    Attributes:
        frames: accepted so far, without those that were rejected.
        keyframes: kept at present.
        gaussians: in the scene.
        steps: of training, of the scene and of the lifting method.
        photometric_loss, lifting_loss: latest sums of losses, NaN before the first.
        prompts: prompt points decoded for the latest keyframe; all_prompts: for all of them.
        stamp: of the latest frame, seconds.
        skipped_steps: training steps skipped because the computer could not keep up.
        evicted_keyframes: keyframes evicted so far; see ``max_keyframes``.
        full: whether the scene has no room for new ground and nothing left to thin.
        removed: objects that were taken out so far.
    """

    frames: int = 0
    keyframes: int = 0
    gaussians: int = 0
    steps: int = 0
    photometric_loss: float = math.nan
    lifting_loss: float = math.nan
    prompts: int = 0
    all_prompts: int = 0
    stamp: float = 0.0
    skipped_steps: int = 0
    evicted_keyframes: int = 0
    full: bool = False
    removed: int = 0

    @property
    def taken(self) -> int:
        """Keyframes taken so far, including those evicted since."""
        return self.keyframes + self.evicted_keyframes


class Mapper:
    """A growing scene with its objects.

    Call ``process`` for each frame; in between, ``step`` while there is time and it returns True, and now and then
    ``update_objects``. After the last frame, call ``finish`` and ``update_objects`` once more. Queries are answered by
    ``snapshot``.

    Attributes:
        segmenter: makes the masks.
        map_id: a UUID, which tells the ids of this map from those of others; saved with it.
        snapshot: the map as of the last keyframe, ``update_objects`` or removal, safe to read from any thread.
        stats: figures; the object is replaced, never changed.
        damaged: whether an edit of the scene was interrupted by an error; see ``recovered``.
    """

    def __init__(self, config: Config, segmenter: Segmenter, world_frame: str = "map") -> None:
        self.config = config
        self.segmenter = segmenter
        self.world_frame = world_frame
        self.map_id = str(uuid.uuid4())
        self.stats = MapperStats()
        self.damaged = False
        device = training_device(config)
        self._rng = np.random.default_rng(config.mapping.seed)
        self._scene = GaussianScene.empty(config.scene.sh_degree, device)
        self._trainer = PhotometricTrainer(self._scene, config.scene)
        self._seeder = Seeder(config.scene, config.mapping.seed)
        self._method = make_method(config.lifting, config.mapping.seed, device)
        self._registry = ObjectRegistry(config.objects)
        pixels = config.lifting.pixels if self._method.trained else 0
        self._keyframes = Keyframes(config.mapping, pixels, self._rng, self._camera)
        self._neighbours: Neighbours | None = None
        self._departures = Departures()
        self._events: list[ObjectEvent] = []  # since the last update
        self._measured = False  # whether any depth image so far held more than specks
        self._schedule = Schedule(config.mapping, self._method.trained)
        self._photometric_steps = 0
        self._cloud = Seeds.empty()  # of a sparse reconstruction that came with the data
        self._uncertainty = torch.zeros(0, device=device)
        self._coarse = torch.zeros(0, dtype=torch.bool, device=device)  # thinned: masks do not change their object
        self._publish()

    @property
    def objects(self) -> list[MapObject]:
        """The objects as of ``snapshot``."""
        return list(self.snapshot.objects)

    @property
    def enough_views(self) -> bool:
        """Whether as many views have masks as an object needs at least, so that ``update_objects`` may find some.

        What stands in for the keyframes of a loaded map counts as they would.
        """
        views = self._keyframes.loaded + sum(keyframe.patches.inside.shape[1] > 0 for keyframe in self._keyframes)
        return views >= min(CONFIRMED, self.config.objects.min_views)

    def add_sparse_cloud(self, points: NDArray, colors: NDArray) -> None:
        """Seed the scene with a sparse reconstruction: ``points`` (n, 3) world, ``colors`` (n, 3) uint8."""
        self._cloud = self._seeder.add_cloud(points, colors)
        self._edit(lambda: self._scene.append(self._cloud))

    def process(self, frame: Frame) -> bool:
        """Add a frame to the map; returns whether it became a keyframe.

        Objects that its depth shows to be gone are taken out of the map; the next ``update_objects`` tells of them.

        Raises:
            FrameRejected: ``image_size``, ``pose_far``, or the segmenter has no masks for it. It adds nothing.
        """
        small = self._small(frame)
        index = self._seeder.count
        camera = self._trainer.poses.apply(index, small.posed_camera(self._scene.device))
        rendering = self._trainer.render(camera)
        watched = self.config.mapping.drop_departed and small.depth is not None
        if watched and self._drop_departed(small, camera, rendering):
            rendering = self._trainer.render(camera)
        new = is_keyframe(small, self._keyframes, rendering, self.config.mapping)
        patches = self._segment(frame, small) if new else None
        self._measured |= small.depth is not None
        self.stats = replace(self.stats, frames=self.stats.frames + 1, stamp=frame.stamp)
        if patches is None:
            return False
        try:
            self._keyframes.append(self._taken(small, index, rendering, patches))
        except BaseException:  # a frame of no keyframe would never be forgotten
            self._forget(index)
            raise
        for gone in self._keyframes.evict():
            self._forget(gone.view.index)
            self.stats = replace(self.stats, evicted_keyframes=self.stats.evicted_keyframes + 1)
        skipped = self._schedule.add_keyframe()
        skipped = skipped if len(self._scene) else 0  # there is nothing to train in an empty one
        self.stats = replace(
            self.stats, keyframes=len(self._keyframes), skipped_steps=self.stats.skipped_steps + skipped
        )
        self._adopt(self._keyframes[-1])
        return True

    def step(self, at_most: int = STEPS_AT_ONCE) -> bool:
        """Do some of the pending training steps, 1 to ``at_most``; returns False if there are none."""
        if not self._keyframes or not len(self._scene):
            return False
        kind, count = self._schedule.next(at_most)
        if not count:
            return False
        if kind == "lifting":
            self._keyframes.refresh_new(self._scene, self._hidden)
        self._keyframes.refresh_stalest(self._scene, self._hidden)
        losses = self._train_scene(count) if kind == "photometric" else self._train_lifting(count)
        name = "photometric_loss" if kind == "photometric" else "lifting_loss"
        latest = {name: sum(losses.values())} if losses else {}  # there are none for a view that shows nothing
        self.stats = replace(self.stats, steps=self.stats.steps + count, **latest)
        return True

    def finish(
        self, photometric_steps: int, lifting_steps: int, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Train on all keyframes after the last frame; ``progress`` is called with (steps done, steps in total)."""
        guessed = [keyframe for keyframe in self._keyframes if not keyframe.view.measured]
        # no new start that would lose a loaded scene or places of evicted keyframes, or where poses have changed since
        settled = self._keyframes.loaded or self.stats.evicted_keyframes or self.config.scene.refine_poses
        if photometric_steps and not settled and len(guessed) == len(self._keyframes) > 0:
            self._replant()
        else:
            for keyframe in guessed:
                self._reseed(keyframe)
        if not self._method.trained:
            lifting_steps = 0
        before = 0
        for kind, steps in (("photometric", photometric_steps), ("lifting", lifting_steps)):
            if kind == "lifting":
                for keyframe in self._keyframes:
                    self._keyframes.refresh(keyframe, self._scene, self._hidden)
            self._schedule.end_with(kind, steps)
            while self.step():
                if progress:
                    done = steps - min(self._schedule.owed(kind), steps)
                    progress(before + done, photometric_steps + lifting_steps)
            before += steps
        self._schedule.go_on()

    def update_objects(self) -> list[ObjectEvent]:
        """Decode the present labels into persistent objects, and renew ``snapshot``.

        Returns what has changed since the last time.
        """
        self._keyframes.refresh_new(self._scene, self._hidden)
        views = self._keyframes.evidence
        stamps, evidence = [stamp for stamp, _ in views], [each for _, each in views]
        decoded = self._method.decode(self._keyframes.views, evidence, self._near())
        labels = torch.where(self._coarse, -1, decoded.labels).cpu().numpy()
        wholes = None if decoded.wholes is None else decoded.wholes.cpu().numpy()
        unsure = (1 - decoded.confidence).clamp(0, 1)
        self._uncertainty = torch.where(self._unasked(), self._uncertainty, unsure)
        update = self._registry.update(labels, self._near(), evidence, stamps, self._keyframes.loaded, wholes)
        events, self._events = self._events + update, []
        self._coarse &= torch.from_numpy(self._registry.ids > 0).to(self._coarse.device)
        self._publish()
        return events

    def _drop_departed(self, small: Frame, camera: PosedCamera, rendering: Rendering) -> bool:
        """Take out the objects that a frame with depth shows to be gone; returns whether there were any."""
        departed = self._departures.look(self.snapshot, camera, rendering, small.depth, small.stamp)
        known = [i for i in departed if i in self._registry.tracks]
        if known:
            log.info("gone, as depth looks through them: objects %s", ", ".join(map(str, known)))
            self._events += self._take_out(known, departed=True)
        return bool(known)

    def remove(self, object_id: int) -> list[ObjectEvent]:
        """Take an object out of the map, or a whole with its parts, and renew ``snapshot``.

        What keyframes show of it is ignored from now on. Where it is still there, keyframes from new viewpoints bring
        it back under another id.

        Raises:
            LiftError: the map has no object of this id.
        """
        return self._take_out([object_id])

    def _take_out(self, object_ids: list[int], departed: bool = False) -> list[ObjectEvent]:
        """``remove`` several. ``departed``: keyframes may have seen the place without them already, and keep that."""
        gone = np.any([self._registry.gaussians_of(i) for i in object_ids], axis=0)
        gone = torch.from_numpy(gone).to(self._scene.device)
        showing = self._keyframes.showing(self._scene, gone, departed)
        if len(self._cloud):
            self._cloud = self._cloud[~gone[_nearest(self._scene.means, self._cloud.means)].cpu()]
        self._edit(lambda: self._scene.prune(~gone))
        for keyframe, pixels in showing:
            keyframe.ignore(pixels)
            self._seeder.ignore(keyframe.view.index, pixels)
        events = [event for i in object_ids for event in self._registry.remove(i)]
        self.stats = replace(self.stats, removed=self.stats.removed + len(object_ids))
        self._publish()
        return events

    def _unasked(self) -> torch.Tensor:
        """(N,) True for Gaussians no current keyframe observes. The prior of a loaded map is ignored: it carries no
        uncertainty.
        """
        asked = [keyframe.evidence for keyframe in self._keyframes]
        return torch.from_numpy(masked(len(self._scene), asked) == 0).to(self._scene.device)

    def feature_image(self, camera: PosedCamera) -> NDArray[np.float32] | None:
        """(H, W, d) unit embeddings as seen by ``camera``, 0 where there is nothing; None if the method has none."""
        if not isinstance(self._method, HasUnitFeatures) or not len(self._scene):
            return None
        out = rasterize(self._scene.splats, self._method.unit_features, camera)
        return torch.nn.functional.normalize(out.image, dim=-1).cpu().numpy()

    @property
    def answers_clicks(self) -> bool:
        """Whether the lifting method can tell what is similar to a click."""
        return isinstance(self._method, Clickable)

    def similarity_image(self, camera: PosedCamera, pixel: tuple[int, int]) -> NDArray[np.float32]:
        """(H, W) similarity to ``pixel`` of what ``camera`` sees, if ``answers_clicks``; see the function."""
        return similarity_image(self._scene, self._method, camera, pixel)

    def select(self, clicks: Clicks) -> Selection:
        """What is similar to ``clicks`` in the present map.

        Raises:
            LiftError: the lifting method cannot tell what is similar, or a click meets nothing.
        """
        if not self.answers_clicks:
            able = ", ".join(name for name, method in METHODS.items() if hasattr(method, "similarity"))
            raise LiftError(
                f"the lifting method '{self._method.name}' cannot tell what is similar to a click; set lifting.method "
                f"to one of {able}"
            )
        ids = torch.from_numpy(self._registry.ids).to(self._scene.device)
        now = MapSnapshot(self._scene, ids, self._uncertainty)
        return select(now, self._method, self._near(), clicks)

    def save(self, directory: Path | str, keep: Path | None = None) -> None:
        """Write the map; see ``save_map``.

        Raises:
            MapFileError: it could not be written, or is ``damaged``. An earlier map at that place is untouched.
        """
        if self.damaged:
            raise MapFileError("an error in the midst of an edit has damaged the map: nothing is saved of it")
        tensors = {name: tensor.cpu() for name, tensor in self._method.state().items()}
        tensors |= {name: torch.from_numpy(row) for name, row in self._registry.rows().items()}
        tensors["gaussian.uncertainty"] = self._uncertainty.cpu()
        tensors["gaussian.coarse"] = self._coarse.cpu()
        contents = MapContents(
            scene={name: tensor.detach().cpu() for name, tensor in self._scene.tensors().items()},
            tensors=tensors,
            objects=[as_json(item) for item in self.snapshot.objects],
            meta={
                "map_id": self.map_id,
                "world_frame": self.world_frame,
                "method": self.config.lifting.method,
                "segmenter": self.segmenter.name,
                "stamp": self.stats.stamp,
                "registry": self._registry.state(),
                "parameters": {option.name: option.value for option in walk(self.config)},
            },
        )
        save_map(contents, directory, keep)

    @classmethod
    def load(cls, directory: Path | str, config: Config, segmenter: Segmenter, world_frame: str = "map") -> Mapper:
        """Continue a saved map: its scene, embeddings and objects are kept, and new keyframes add to them.

        Raises:
            MapFileError: it cannot be read, or belongs to another lifting method or world frame.
        """
        contents = load_map(directory)
        for key, wanted in (("method", config.lifting.method), ("world_frame", world_frame)):
            if contents.meta[key] != wanted:
                raise MapFileError(
                    f"{directory} was made with {key} '{contents.meta[key]}', but '{wanted}' is configured; "
                    f"set it to '{contents.meta[key]}', or start a new map"
                )
        size = len(contents.scene["means"])
        if size > config.scene.max_gaussians:
            log.warning(
                "%s holds %d Gaussians, more than scene.max_gaussians = %d; all stay, but new ground may thin them",
                directory, size, config.scene.max_gaussians,
            )  # fmt: skip
            config = replace(config, scene=replace(config.scene, max_gaussians=size))
        degree = math.isqrt(contents.scene["sh"].shape[1]) - 1
        if degree != config.scene.sh_degree:
            log.warning("%s has spherical harmonics of degree %d, and keeps them: scene.sh_degree = %d is for new maps",
                directory, degree, config.scene.sh_degree,
            )  # fmt: skip
            config = replace(config, scene=replace(config.scene, sh_degree=degree))
        mapper = cls(config, segmenter, world_frame)
        try:
            mapper._go_on_with(contents)
            mapper._method.load_state(contents.tensors)
        except KeyError as error:
            raise MapFileError(f"{directory} holds no {error}; another version saved it, or another program") from None
        return mapper

    def recovered(self) -> Mapper:
        """A mapper that continues from ``snapshot`` after an error left this one ``damaged``, as if that had been saved
        and loaded. What the lifting method had learned is lost, and is learned anew from the objects.

        The damaged mapper can only be used for another attempt.
        """
        self._scene = self._trainer = self._seeder = self._method = self._keyframes = None  # memory may be what ran out
        torch.cuda.empty_cache()  # does nothing without a CUDA device
        known, none = self.snapshot, torch.zeros(len(self.snapshot.scene), dtype=torch.int64)
        mapper = Mapper(self.config, self.segmenter, self.world_frame)
        mapper._go_on_with(
            MapContents(
                scene=known.scene.clone().tensors(),
                tensors=dict.fromkeys(self._registry.rows(), none)
                | {
                    "gaussian.object_id": known.ids.cpu(),
                    "gaussian.uncertainty": known.uncertainty,
                    "gaussian.coarse": none.bool(),
                },
                objects=[],
                meta={
                    "map_id": self.map_id,
                    "stamp": self.stats.stamp,
                    "registry": self._registry.state() | {"tracks": [vars(track) for track in known.tracks]},
                },
            )
        )
        mapper._measured, mapper._events = self._measured, self._events
        config = self.config.mapping
        if mapper._keyframes.views:
            for _ in range(config.max_backlog * config.lifting_steps):
                mapper._method.step(mapper._keyframes.views, mapper._near())
        mapper.stats = replace(self.stats, keyframes=0, gaussians=len(known.scene))
        return mapper

    def _go_on_with(self, contents: MapContents) -> None:
        """Take over a map except for what its lifting method learned. Raises KeyError: a part of it is missing."""
        self.map_id = str(contents.meta["map_id"])
        self._scene = GaussianScene(**contents.scene).to(self._scene.device)
        size, device = len(self._scene), self._scene.device
        self._trainer = PhotometricTrainer(self._scene, self.config.scene, anchored=size > 0)
        self._method.edit(torch.full((size,), -1, device=device), self._scene.means)
        self._uncertainty = contents.tensors["gaussian.uncertainty"].to(device)
        self._coarse = contents.tensors["gaussian.coarse"].to(device)
        rows = {name: contents.tensors[name].numpy() for name in self._registry.rows()}
        self._registry.load_state(rows, contents.meta["registry"])
        stamp = float(contents.meta["stamp"])
        ids, wholes = self._registry.ids, self._registry.wholes
        clear = ~self._coarse.cpu().numpy()
        prior = MaskEvidence.of_objects(ids * clear)
        if (wholes != ids).any():
            prior.wholes = MaskEvidence.of_objects(wholes * clear)
        views = []
        if self._method.trained and ids.any():
            on_device = contents.tensors["gaussian.object_id"].to(device)
            views = [view_of_objects(on_device, self.config.lifting.pixels, self._rng)]
        self._keyframes.stand_in(stamp, prior, self.config.objects.min_views, views)
        self.stats = replace(self.stats, stamp=stamp, gaussians=size)
        self._publish()

    def _taken(self, small: Frame, index: int, rendering: Rendering, patches: Patches) -> Keyframe:
        """A keyframe of ``small``, frame number ``index``, with what it adds to the scene, seen as ``rendering``."""
        if self.config.scene.refine_poses:
            given = small.posed_camera(self._scene.device)
            image = torch.from_numpy(small.image).float() / 255
            camera = self._trainer.poses.apply(index, given)
            self._trainer.poses.update(
                index, given, align(self._trainer.render, image, camera, ALIGN_STEPS, small.ignored)
            )
            rendering = self._trainer.render(self._trainer.poses.apply(index, given))
        pose = self._trainer.poses.pose(index, small.T_world_camera)
        self._seeder.add(replace(small, T_world_camera=pose, labels=None))  # its masks are kept as patches
        stereo = self._seeder.depth(index)
        view = TrainingView.from_frame(small, index, stereo.trusted_depth if stereo else None, str(self._scene.device))
        keyframe = Keyframe(small.stamp, small.T_world_camera, view, patches, viewing_distance(small, rendering))
        self._plant(index, rendering, patches)
        if len(self._keyframes) >= RESEED_AFTER and not self._keyframes[-RESEED_AFTER].view.measured:
            self._reseed(self._keyframes[-RESEED_AFTER])
        return keyframe

    def _forget(self, index: int) -> None:
        """Forget what is kept of frame ``index`` besides its keyframe."""
        self._seeder.forget(index)
        self._trainer.forget(index)

    def _small(self, frame: Frame) -> Frame:
        """The frame at the size that the scene is trained at, without a depth image that measures nothing."""
        small = frame.at_width(self.config.mapping.image_width)
        if min(small.image.shape[:2]) < WINDOW:
            raise FrameRejected(
                "image_size",
                f"the image has {frame.camera.width}x{frame.camera.height} pixels, {small.camera.width}x"
                f"{small.camera.height} for mapping, and {WINDOW} along each side are needed; mapping.image_width",
            )
        if small.depth is not None and not self._measured:
            # as long as depth images hold nothing but specks, there is no working sensor
            small = small if (small.depth > 0).mean() >= MIN_MEASURED else replace(small, depth=None)
        check_near(small)
        return small

    def _segment(self, frame: Frame, small: Frame) -> Patches:
        """Masks, at a higher resolution than ``small`` if ``frame`` has it."""
        prompts = None
        if self.segmenter.promptable and len(self.snapshot.scene):
            seen = frame.at_width(FINER * small.camera.width)
            prompts = make_prompts(*self.snapshot.label_image(self.snapshot.locate(seen)), seen.ignored)
            prompts = prompts.resized(frame.camera.height, frame.camera.width)
        masks = self.segmenter.segment(frame, prompts)
        spent = masks.prompts_used
        self.stats = replace(self.stats, prompts=spent, all_prompts=self.stats.all_prompts + spent)
        finer = FINER if frame.camera.height >= FINER * small.camera.height else 1
        height, width = finer * small.camera.height, finer * small.camera.width
        step = max(1, masks.masks.shape[1] // (2 * height))  # every nth pixel of a large image is enough
        sampled = masks.masks[:, step // 2 :: step, step // 2 :: step]
        patches = Patches.of(sampled).resized(height, width)
        return patches if frame.ignored is None else patches.outside(frame.ignored)

    def _plant(self, index: int, rendering: Rendering, patches: Patches) -> None:
        """Add seeds where the scene, seen by a keyframe as ``rendering``, lacks something or has too few Gaussians."""
        frame = self._seeder.frame(index)
        self._make_room(index, rendering)
        means = self._scene.means.cpu().numpy()
        labels = patches.resized(frame.camera.height, frame.camera.width).label_image()
        finer = too_coarse(frame, rendering, means, labels, MASK_GAUSSIANS)
        seeds = self._seeder.seeds(index, rendering, len(self._scene), finer)
        self._edit(lambda: self._scene.append(seeds))
        self._keyframes.planted(seeds.means.numpy())

    def _adopt(self, keyframe: Keyframe) -> None:
        """Publish what a keyframe added to the scene, assigned to objects as far as its masks show these already."""
        if self._registry.tracks:
            labels = keyframe.patches.label_image()
            evidence = MaskEvidence.seen_by(self._camera(keyframe), self._scene.splats, labels)
            clear = torch.from_numpy(evidence.gaussian[evidence.weight > SHOWN_AGAIN]).long()
            self._coarse[clear.to(self._coarse.device)] = False
            self._registry.adopt(evidence)
        self._publish()

    def _make_room(self, index: int, rendering: Rendering) -> None:
        """Thin what looks smallest from a frame with new ground, if the scene, seen as ``rendering``, is too full."""
        excess = self._seeder.excess(len(self._scene))
        if excess and self._seeder.new_ground(index, rendering).mean() <= NEW_GROUND:
            return
        if excess:
            ids = torch.from_numpy(self._registry.ids).to(self._scene.device)
            camera = self._seeder.frame(index).posed_camera(self._scene.device)
            for spared in SPARED:
                spare = spared * self.config.objects.min_gaussians
                gone, cover = thinned(self._scene, camera, excess, ids, spare)
                if gone.sum() >= excess:
                    break
            # the evidence is of finer Gaussians than there are now, so these keep their object
            self._coarse |= cover & (ids > 0)
            self._keyframes.forget(self._hidden)
            self._edit(lambda: self._scene.thin(gone, cover))
        self.stats = replace(self.stats, full=self._seeder.excess(len(self._scene)) > 0)

    def _reseed(self, keyframe: Keyframe) -> None:
        """Seed a keyframe without depth again, from the neighbours it has by now."""
        index = keyframe.view.index
        if self.config.scene.refine_poses:
            for each in self._keyframes:
                self._seeder.move(each.view.index, self._trainer.poses.pose(each.view.index, each.T_world_camera))
        rendering = self._trainer.render(self._camera(keyframe))
        distance = viewing_distance(self._seeder.frame(index), rendering)
        if math.isfinite(distance):  # it may have been unknown when the keyframe was new
            keyframe.distance = distance
        self._plant(index, rendering, keyframe.patches)
        stereo = self._seeder.depth(index)
        if stereo is not None:
            depth = torch.as_tensor(stereo.trusted_depth, device=self._scene.device)
            keyframe.view = keyframe.view._replace(depth=depth)

    def _replant(self) -> None:
        """Seed a scene of colour images from scratch: by now every keyframe has neighbours on both sides, so that its
        estimated depth is better.

        Seeds at the depths guessed for new keyframes float before the cameras, and training removes them slowly. Each
        new Gaussian takes object and embedding of the nearest old one.
        """
        old, learned = self._scene.means, self._method.state()
        known = self._registry.rows()
        none = torch.zeros(len(self._scene), dtype=torch.bool, device=self._scene.device)
        self._edit(lambda: self._scene.prune(none))
        self._keyframes.begin_anew()
        self._edit(lambda: self._scene.append(self._cloud))
        for keyframe in self._keyframes:
            self._reseed(keyframe)
        if len(old) and len(self._scene):
            nearest = _nearest(old, self._scene.means)
            self._registry.set_rows({name: row[nearest.cpu().numpy()] for name, row in known.items()})
            rows = {name: value[nearest] for name, value in learned.items() if name.startswith("gaussian.")}
            self._method.load_state(learned | rows)

    def _train_scene(self, count: int) -> dict[str, float]:
        losses: dict[str, float] = {}
        for _ in range(count):
            views, rate = self._keyframes, self._schedule.rate("photometric")
            if not self._schedule.ending:
                if self._rng.random() < 0.5:
                    views = views[-RECENT:]
                elif len(views) > RECENT:
                    rate = SETTLED
            losses = self._trainer.step(views[self._rng.integers(len(views))].view, rate)
            self._photometric_steps += 1
            if self._photometric_steps % self.config.mapping.densify_every == 0 and not self._schedule.settling:
                self._edit(self._trainer.densify, trainer_knows=True)
        return losses

    def _train_lifting(self, count: int) -> dict[str, float]:
        ready = [view for view in self._keyframes.sampled if view.mask_count]
        losses: dict[str, float] = {}
        rate = self._schedule.rate("lifting")
        for _ in range(count if ready else 0):
            losses = self._method.step(ready, self._near(), rate)
        return losses

    @property
    def _hidden(self) -> NDArray[np.bool_]:
        """(N,) bool, Gaussians about which the evidence of masks is ignored."""
        return self._coarse.cpu().numpy()

    def _camera(self, keyframe: Keyframe) -> PosedCamera:
        """The camera of a keyframe at its currently estimated pose."""
        return self._trainer.poses.apply(keyframe.view.index, keyframe.view.camera)

    def _edit(self, change: Callable[[], torch.Tensor], trainer_knows: bool = False) -> None:
        """Edit the scene by ``change``, which returns ``origin`` (see ``GaussianScene``), and all per-Gaussian state
        with it. If that fails halfway, as when memory runs out, the map is ``damaged``.
        """
        self.damaged = True
        origin = change()
        if not trainer_knows:
            self._trainer.edit(origin)
        self._method.edit(origin, self._scene.means)
        self._keyframes.edit(origin, len(self._uncertainty))
        self._registry.edit(origin.cpu().numpy())
        self._uncertainty = follow(self._uncertainty, origin, fill=1.0)
        self._coarse = follow(self._coarse, origin)
        self._neighbours = None
        self.stats = replace(self.stats, gaussians=len(self._scene))
        self.damaged = False

    def _near(self) -> Neighbours:
        if self._neighbours is None:
            self._neighbours = Neighbours.of(self._scene.means)
        return self._neighbours

    def _publish(self) -> None:
        self.snapshot = MapSnapshot(
            self._scene.clone(),
            torch.from_numpy(self._registry.ids.copy()).to(self._scene.device),  # adoption writes into them
            self._uncertainty,
            tuple(replace(track) for track in self._registry.tracks.values()),
            self.config.objects.up,
            self._corrections(),
        )

    def _corrections(self) -> CorrectionTrack | None:
        if not self.config.scene.refine_poses:
            return None
        twists = [self._trainer.poses.twist(keyframe.view.index) for keyframe in self._keyframes]
        return CorrectionTrack.of([keyframe.stamp for keyframe in self._keyframes], twists)


def _nearest(means: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """(n,) which of ``means`` (N, 3) is nearest to each of ``points`` (n, 3), on the device of ``means``."""
    return torch.from_numpy(cKDTree(means.cpu().numpy()).query(points.cpu().numpy())[1]).to(means.device)
