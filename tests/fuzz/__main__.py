"""Long fuzzing: `python -m tests.fuzz --minutes 10 --seed 1`.

Runs all campaigns or those named, in turn; prints what came of each, keeps one input
for each kind of failure, and exits with 1 if there was any.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")  # a forked JAX may hang
os.environ.setdefault("OMP_NUM_THREADS", "1")  # nor do forked OpenMP threads work
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import argparse
import ast
import json
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from tests.fuzz.campaign import Campaign
from tests.fuzz.campaigns import CAMPAIGNS
from tests.fuzz.engine import Child, Failure, Tally, run_campaign

EVERY_SECONDS = 15.0  # a progress line, where nobody watches


class Progress:
    """One line that changes on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def __call__(self, campaign: Campaign, tally: Tally) -> None:
        watched = sys.stderr.isatty()
        if time.monotonic() - self.last < (0.2 if watched else EVERY_SECONDS):
            return
        self.last = time.monotonic()
        line = f"{campaign.name}: {tally.cases} cases, {len(tally.failures)} failures"
        print(line, end="\r" if watched else "\n", file=sys.stderr, flush=True)


def by_kind(failures: list[Failure]) -> dict[str, list[Failure]]:
    """Returns failures alike together, the smallest case first."""
    kinds: dict[str, list[Failure]] = defaultdict(list)
    for failure in failures:
        kinds[failure.kind].append(failure)
    return {
        kind: sorted(found, key=lambda failure: len(repr(failure.case)))
        for kind, found in kinds.items()
    }


def keep(campaign: Campaign, failures: list[Failure], folder: Path) -> None:
    """Writes one case of each kind, its spoiled file and what it did."""
    for number, found in enumerate(by_kind(failures).values(), 1):
        first = found[0]
        stem = f"{campaign.name}-{first.seed}-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{stem}.case").write_text(f"{first.case!r}\n", errors="replace")
        text = f"{len(found)} times, first with seed {first.seed}\n{first.what}\n"
        (folder / f"{stem}.txt").write_text(text, errors="replace")
        material = campaign.material(first.case)
        if material is not None:
            (folder / f"{stem}.input").write_bytes(material)


def report(campaign: Campaign, tally: Tally) -> dict[str, object]:
    """Prints what came of a campaign; returns it for a file."""
    kinds = {kind: len(found) for kind, found in by_kind(tally.failures).items()}
    counts = ", ".join(f"{n} {name}" for name, n in tally.outcomes.most_common())
    seeds = f"{tally.seeds[0]} to {tally.seeds[-1]}" if tally.seeds else "none"
    print(
        f"{campaign.name}: {tally.cases} cases in {tally.seconds:.0f} s, seeds {seeds}"
    )
    print(f"    {counts}", flush=True)
    for kind, times in kinds.items():
        print(f"    {times:5d} x {kind}", flush=True)
    return {
        "cases": tally.cases,
        "seconds": round(tally.seconds, 1),
        "seeds": tally.seeds,
        "outcomes": dict(tally.outcomes),
        "failures": kinds,
    }


def replay(campaign: Campaign, path: Path) -> int:
    """Runs a kept case again; prints what it does."""
    outcome, broken = Child(campaign).judge(ast.literal_eval(path.read_text()))
    print(broken or outcome)
    return int(broken is not None)


def main() -> int:
    """Runs what the command line asks for; returns 1 if a contract was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, help="for all campaigns together")
    parser.add_argument("--count", type=int, help="cases of each campaign")
    parser.add_argument("--short", action="store_true", help="as the test suite does")
    parser.add_argument("--campaign", choices=list(CAMPAIGNS), action="append")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, default=Path("fuzz-failures"))
    parser.add_argument("--json", type=Path, help="write the counts here")
    parser.add_argument("--replay", type=Path, help="a kept .case file")
    options = parser.parse_args()
    if not (options.minutes or options.count or options.short or options.replay):
        parser.error("say how long: --minutes, --count or --short")
    names = options.campaign or list(CAMPAIGNS)
    if options.replay:
        names = [options.replay.name.split("-")[0]]
    results, failed = {}, False
    for name in names:
        campaign = CAMPAIGNS[name]()
        with tempfile.TemporaryDirectory() as folder:
            campaign.prepare(Path(folder))
            if options.replay:
                return replay(campaign, options.replay)
            tally = run_campaign(
                campaign,
                options.seed,
                campaign.short if options.short else options.count,
                60 * options.minutes / len(names) if options.minutes else None,
                Progress(),
            )
            keep(campaign, tally.failures, options.save)
        results[name] = report(campaign, tally)
        failed = failed or bool(tally.failures)
        if options.json:
            options.json.write_text(json.dumps(results, indent=2) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
