"""The campaigns by name."""

from tests.fuzz.campaign import Campaign
from tests.fuzz.checkpoints import Safetensors, TorchFiles
from tests.fuzz.command_line import CommandLine
from tests.fuzz.hub import Hub
from tests.fuzz.images import Images
from tests.fuzz.indexes import Indexes
from tests.fuzz.presets import Presets
from tests.fuzz.tars import Tars
from tests.fuzz.videos import Videos

CAMPAIGNS: dict[str, type[Campaign]] = {
    campaign.name: campaign
    for campaign in (
        Indexes,
        TorchFiles,
        Safetensors,
        Presets,
        Tars,
        Images,
        Videos,
        Hub,
        CommandLine,
    )
}
