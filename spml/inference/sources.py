"""What each source of pseudo labels needs (METHOD.md, "Pseudo labels"). No torch in here, for the CRF workers' sake."""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Source:
    """What a source needs and whether CRF follows.

    Attributes:
        needs_classifier, needs_memory, needs_cam, needs_clusters: inputs beside the embedding and the weak labels.
        crf: whether DenseCRF sharpens the result.
        keeps_void: whether the weak label's void is written back as 255.
    """

    needs_classifier: bool = False
    needs_memory: bool = False
    needs_cam: bool = False
    needs_clusters: bool = False
    crf: bool = True
    keeps_void: bool = False


SOURCES = {
    'cam_random_walk': Source(needs_cam=True),
    'softmax': Source(needs_classifier=True, crf=False),
    'softmax_random_walk': Source(needs_classifier=True),
    'retrieval': Source(needs_memory=True, needs_clusters=True),
    'densepose_random_walk': Source(needs_clusters=True, keeps_void=True),
}
