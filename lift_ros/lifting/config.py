"""Parameters of lifting: what is sampled of a keyframe, and what each method trains."""

from __future__ import annotations

from dataclasses import dataclass, field

from lift_ros.options import option


@dataclass(frozen=True)
class UnicLiftConfig:
    """UniC-Lift (arXiv 2512.24763)."""

    embedding_dim: int = option(12, "Bits of an embedding: 2^n codes can be told apart.", min=4, max=30)
    learning_rate: float = option(0.05, "Adam's step on the embeddings.", min=0.0)
    push_weight: float = option(
        0.3, "Weight of the repulsion of the masks of one view against their cohesion.", min=0.0
    )
    push_margin: float = option(
        4.0, "Masks whose mean embeddings are this far apart (squared; one per differing bit) no longer repel.", min=0.0
    )
    triplet_weight: float = option(0.1, "Weight of the triplets mined at mask borders.", min=0.0)
    triplet_margin: float = option(1.0, "Margin of the triplets' hinge, on squared distances.", min=0.0)
    max_triplets: int = option(3000, "Triplets of one step.", min=1)
    neighbourhood_weight: float = option(1.0, "Weight of the smoothness over touching Gaussians.", min=0.0)
    neighbourhood_after: int = option(
        200, "Step from which smoothness counts: before, it would freeze the first guess.", unit="steps", min=0
    )


@dataclass(frozen=True)
class LiftingConfig:
    """How masks reach the Gaussians."""

    method: str = option("unic_lift", "Lifting method.", choices=("unic_lift",))
    pixels: int = option(
        8192,
        "Pixels of a keyframe whose blend weights are kept, about 0.15 KiB each; trained on all at once.",
        min=256,
    )
    mask_smoothing: float = option(
        2.0, "Masks are cleaned of speckle and frayed borders by a majority vote over this radius.", unit="px", min=0.0
    )
    unic_lift: UnicLiftConfig = field(default_factory=UnicLiftConfig)
