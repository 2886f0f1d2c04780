"""The probes by name."""

from keras_pe.probing.attentive import Attentive
from keras_pe.probing.correspondence import Correspondence
from keras_pe.probing.depth import Depth, DPTDepth
from keras_pe.probing.logistic import Logistic
from keras_pe.probing.nearest_neighbours import NearestNeighbours
from keras_pe.probing.probe import Probe, TrainingFreeProbe
from keras_pe.probing.ridge import Ridge, RidgeRegression
from keras_pe.probing.segmentation import Segmentation
from keras_pe.probing.tracking import Tracking

PROBES: dict[str, type[Probe] | type[TrainingFreeProbe]] = {
    kind.name: kind
    for kind in (
        NearestNeighbours,
        Ridge,
        Logistic,
        RidgeRegression,
        Attentive,
        Segmentation,
        Depth,
        DPTDepth,
        Tracking,
        Correspondence,
    )
}


def find_probe(
    probe: str | Probe | TrainingFreeProbe,
) -> Probe | TrainingFreeProbe:
    """Returns a probe, or the one of a name with its defaults.

    Raises:
        ValueError: if there is no such probe.
    """
    if isinstance(probe, Probe | TrainingFreeProbe):
        return probe
    if probe not in PROBES:
        raise ValueError(
            f"There is no probe {probe!r}. Known: {', '.join(PROBES)}; or give a "
            f"Probe object with settings of its own."
        )
    return PROBES[probe]()
