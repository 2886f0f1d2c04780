"""Makes torchvision importable beside a PyTorch that it has no build for.

torchvision registers shape rules for two operators of its C++ extension as it is
imported. Where the extension does not load (a CPU build of PyTorch beside the wheel
made for CUDA) the operators do not exist and the import fails. Declared by name here,
without an implementation, they let it through; none of them is called by a transform.
"""

import torch

_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")


def declare_missing_operators() -> None:
    """Declares the operators; call it once, before anything imports torchvision."""
    for name in ("nms", "qnms"):
        _LIBRARY.define(
            f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
