"""Which attention kernel ran: names from PyTorch's profiler and from XLA's program."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

ATTENTION = re.compile(r"flash|fmha|attention|sdpa|cudnn|softmax|triton", re.IGNORECASE)
MOST = 12  # names kept


def torch_kernels(run: Callable[[], Any]) -> dict[str, Any]:
    """Runs once under the profiler; returns kernels by what the name says.

    On a GPU names are the kernels', with their share of the device's time; on CPU
    those of the operators.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile

    cuda = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as recorded:
        run()
        if cuda:
            torch.cuda.synchronize()
    times: Counter[str] = Counter()
    for event in recorded.events():
        if cuda and event.device_type == torch.autograd.DeviceType.CUDA:  # type: ignore[attr-defined]
            times[event.name] += event.self_device_time_total
        elif not cuda:
            times[event.name] += event.self_cpu_time_total
    total = sum(times.values()) or 1
    shares = {name: round(t / total, 3) for name, t in times.most_common()}
    chosen = [name for name in shares if ATTENTION.search(name)][:MOST]
    return {
        "attention kernels, share of time": {n[:120]: shares[n] for n in chosen},
        "largest kernels, share of time": {
            name[:120]: share for name, share in list(shares.items())[:5]
        },
        "attention by": attention_by(chosen),
    }


def attention_by(names: list[str]) -> str:
    """Returns the family of kernels that the names belong to."""
    joined = " ".join(names).lower()
    for family, pattern in (
        ("cuDNN", r"cudnn.*(attention|sdpa|fmha|mha)|fmha.*cudnn"),
        ("flash", r"flash"),
        ("memory efficient", r"fmha|efficient_attention|attention_kernel"),
        ("products and softmax", r"softmax"),
    ):
        if re.search(pattern, joined):
            return family
    return "not told by names"


def xla_kernels(program: str) -> dict[str, Any]:
    """Returns the custom calls of a compiled program, and what attention became."""
    calls = Counter(re.findall(r'custom_call_target="([^"]+)"', program))
    fused = [name for name in calls if "fmha" in name.lower()]
    return {
        "custom calls": dict(calls.most_common(MOST)),
        "attention by": "cuDNN" if fused else "XLA's own fusions",
    }
