"""A data engine: clips become pairs of a clip and a caption, to train on."""

from keras_pe.data_engine.apply import apply_stage
from keras_pe.data_engine.captioners import (
    Captioner,
    FunctionCaptioner,
    ModelCaptioner,
)
from keras_pe.data_engine.captions import (
    FrameCaptions,
    RefinedCaption,
    VideoCaption,
)
from keras_pe.data_engine.choice import Choose, Embed
from keras_pe.data_engine.clips import clips, clips_of_folder
from keras_pe.data_engine.edits import append_edit, read_edits, undo_edit
from keras_pe.data_engine.endpoint import ChatEndpoint, EndpointCaptioner
from keras_pe.data_engine.engine import Engine, run_engine
from keras_pe.data_engine.language_models import (
    DecoderLanguageModel,
    FunctionLanguageModel,
    LanguageModel,
)
from keras_pe.data_engine.ledger import FolderLedger, Ledger
from keras_pe.data_engine.mappers import InProcesses, in_this_process
from keras_pe.data_engine.probe import Keep, Probe
from keras_pe.data_engine.receipts import (
    Limits,
    ReceiptError,
    check_receipt,
    receipt,
)
from keras_pe.data_engine.stage import Row as Row  # an alias of a dictionary
from keras_pe.data_engine.stage import Stage, StageFailure
from keras_pe.data_engine.summary import JoinedCaption, Summary

__all__ = [
    "Captioner",
    "ChatEndpoint",
    "Choose",
    "DecoderLanguageModel",
    "Embed",
    "EndpointCaptioner",
    "Engine",
    "FolderLedger",
    "FrameCaptions",
    "FunctionCaptioner",
    "FunctionLanguageModel",
    "InProcesses",
    "JoinedCaption",
    "Keep",
    "LanguageModel",
    "Ledger",
    "Limits",
    "ModelCaptioner",
    "Probe",
    "ReceiptError",
    "RefinedCaption",
    "Stage",
    "StageFailure",
    "Summary",
    "VideoCaption",
    "append_edit",
    "apply_stage",
    "check_receipt",
    "clips",
    "clips_of_folder",
    "in_this_process",
    "read_edits",
    "receipt",
    "run_engine",
    "undo_edit",
]
