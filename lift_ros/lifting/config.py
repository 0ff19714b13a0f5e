"""Parameters of lifting: what is sampled of a keyframe, and what each method trains."""

from __future__ import annotations

from dataclasses import dataclass, field

from lift_ros.options import option

METHOD_NAMES = ("lift", "unic_lift", "unified_lift", "omniseg3d", "pcf_lift", "disco", "panoptic_lifting", "hdbscan")


@dataclass(frozen=True)
class LiftConfig:
    """The default method: view consensus."""

    same_object_rate: float = option(
        0.25,
        "Parts are one object if masks hold both in at least this share of the views that see both.",
        min=0.0,
        max=1.0,
    )
    hysteresis: float = option(
        0.03,
        "How much clearer the views must speak to change what was decided: to merge objects, or to split one.",
        min=0.0,
        max=1.0,
    )


@dataclass(frozen=True)
class UnicLiftConfig:
    """UniC-Lift (arXiv 2512.24763)."""

    embedding_dim: int = option(12, "Bits of an embedding: 2^n codes can be told apart.", min=4, max=30)
    learning_rate: float = option(0.1, "Adam's step on the embeddings.", min=0.0)
    push_weight: float = option(
        0.3, "Weight of the repulsion of the masks of one view against their cohesion.", min=0.0
    )
    push_margin: float = option(
        4.0, "Masks whose mean embeddings are this far apart (squared; one per differing bit) no longer repel.", min=0.0
    )
    triplet_weight: float = option(0.1, "Weight of the triplets mined at mask borders.", min=0.0)
    triplet_margin: float = option(1.0, "Margin of the triplets' hinge, on squared distances.", min=0.0)
    neighbourhood_weight: float = option(0.1, "Weight of the smoothness over touching Gaussians.", min=0.0)
    neighbourhood_after: int = option(
        200, "Step from which smoothness counts: before, it would freeze the first guess.", unit="steps", min=0
    )


@dataclass(frozen=True)
class PcfLiftConfig:
    """PCF-Lift (ECCV 2024)."""

    embedding_dim: int = option(3, "Dimensions of the distributions: as many means, as many variances.", min=1, max=32)
    learning_rate: float = option(0.04, "Adam's step on means and logarithms of variances.", min=0.0)
    pixels: int = option(
        128,
        "Pixels that a step compares with each other, at least; 8 for each mask of the view if that is more.",
        min=2,
    )
    variance_weight: float = option(0.001, "Weight of the regulariser that keeps variances small, w_reg.", min=0.0)
    cross_view_weight: float = option(0.05, "Weight of the constraint across two views, w_cross.", min=0.0)
    cross_view_after: int = option(
        500, "Step from which it counts: before, similar features need not be of one object.", unit="steps", min=0
    )
    cross_view_similarity: float = option(
        0.9, "Pixels of two views that are this similar are taken for one object, tau.", min=0.0, max=1.0
    )


@dataclass(frozen=True)
class DiscoConfig:
    """DiscoNeRF (Dumery et al.)."""

    slots_per_mask: float = option(
        2.0, "Object slots for each mask of the view that has most; more objects cannot be told apart.", min=1.0
    )
    learning_rate: float = option(0.15, "Adam's step on the logits of the slots.", min=0.0)
    false_positive_weight: float = option(0.01, "Weight of other slots' probability within a mask.", min=0.0)
    variation_weight: float = option(0.01, "Weight of the smoothness over touching Gaussians.", min=0.0)


@dataclass(frozen=True)
class PanopticLiftingConfig:
    """Panoptic Lifting (CVPR 2023)."""

    slots: int = option(128, "Most objects that can be told apart.", min=1)
    learning_rate: float = option(0.1, "Adam's step on the logits of the slots.", min=0.0)


@dataclass(frozen=True)
class UnifiedLiftConfig:
    """Unified-Lift (CVPR 2025)."""

    embedding_dim: int = option(16, "Dimensions of embeddings and codebook.", min=2)
    codebook_size: int = option(256, "Most objects that can be told apart.", min=1)
    levels: int = option(
        1,
        "Granularities: 1, the smallest mask over a pixel; 2, the largest as well, whose objects are parents; 3, the "
        "second largest too, for clicks.",
        min=1,
        max=3,
    )
    learning_rate: float = option(0.02, "Adam's step on the embeddings.", min=0.0)
    codebook_learning_rate: float = option(0.005, "Adam's step on the codebook.", min=0.0)
    norm_weight: float = option(1.0, "Weight of the loss that keeps embeddings at unit length.", min=0.0)
    class_weight: float = option(1e-3, "Weight of the cross-entropy to the matched objects.", min=0.0)
    concentration_weight: float = option(0.1, "Weight of the distance between objects and their pixels.", min=0.0)
    area_aware: bool = option(True, "Large masks decide which objects the masks of a view are; else all count alike.")
    max_uncertainty: float = option(
        0.8, "Pixels less certain of their mask than that teach the codebook nothing.", min=0.0, max=1.0
    )


@dataclass(frozen=True)
class OmniSeg3DConfig:
    """OmniSeg3D (CVPR 2024)."""

    embedding_dim: int = option(16, "Dimensions of an embedding.", min=2)
    learning_rate: float = option(0.04, "Adam's step on the embeddings.", min=0.0)
    decay: float = option(
        0.5,
        "Weight of each level of the hierarchy over the one below: 0 knows parts only, 1 weighs all levels alike.",
        min=0.0,
        max=1.0,
    )
    norm_weight: float = option(1.0, "Weight of the loss that keeps embeddings at unit length.", min=0.0)


@dataclass(frozen=True)
class HdbscanConfig:
    """Contrastive embeddings, clustered by HDBSCAN."""

    embedding_dim: int = option(16, "Dimensions of an embedding.", min=2)
    learning_rate: float = option(0.01, "Adam's step on the embeddings.", min=0.0)
    min_cluster_size: int = option(20, "Samples that make an object; fewer are noise, or part of one nearby.", min=2)
    samples: int = option(4000, "Pixels that are clustered, spread evenly over the masks of all keyframes.", min=100)


@dataclass(frozen=True)
class LiftingConfig:
    """How masks reach the Gaussians."""

    method: str = option(
        "lift",
        "Lifting method.",
        choices=METHOD_NAMES,
    )
    pixels: int = option(
        8192,
        "Pixels of a keyframe whose blend weights are kept, about 0.7 KiB each; a step trains on 512 of them, or on 32 "
        "for each mask, 2048 at most.",
        min=256,
    )
    lift: LiftConfig = field(default_factory=LiftConfig)
    unic_lift: UnicLiftConfig = field(default_factory=UnicLiftConfig)
    unified_lift: UnifiedLiftConfig = field(default_factory=UnifiedLiftConfig)
    omniseg3d: OmniSeg3DConfig = field(default_factory=OmniSeg3DConfig)
    pcf_lift: PcfLiftConfig = field(default_factory=PcfLiftConfig)
    disco: DiscoConfig = field(default_factory=DiscoConfig)
    panoptic_lifting: PanopticLiftingConfig = field(default_factory=PanopticLiftingConfig)
    hdbscan: HdbscanConfig = field(default_factory=HdbscanConfig)
