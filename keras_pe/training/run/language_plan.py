"""What a language alignment needs, counted before anything is allocated, as tables."""

import dataclasses
import math
import re
from typing import Any

import keras

from keras_pe.training.devices.flops import TowerFlops, vision_flops
from keras_pe.training.devices.memory import (
    BYTES,
    DeviceMemory,
    tower_bytes,
)
from keras_pe.training.devices.sharded_step import Inputs
from keras_pe.training.devices.sharding import (
    NUMBERED,
    ParameterGroup,
    parameter_groups,
)
from keras_pe.training.resolution import plan_stages
from keras_pe.training.run.initial_weights import vision_of
from keras_pe.training.run.language_config import LanguageConfig, check_language
from keras_pe.training.run.language_parts import image_tokens_of, unallocated_trainer
from keras_pe.training.run.plan_parts import (
    RunPlan,
    planned_pieces,
    weight_bytes,
    weights_table,
)
from keras_pe.training.trainers.language_trainer import LanguageAlignmentTrainer

TEXT_TOKENS = 256  # of a sample, where no data tell
ANSWER_TOKENS = 128  # of these
OF_TOKENS = ("token_ids", "positions", "documents", "image_slots")


@dataclasses.dataclass(frozen=True)
class LanguageCost:
    """What a run takes. Operations are those of one sample: an image and its text.

    Attributes:
        image_size: side of the images, pixels.
        samples: seen in the run.
        steps: optimizer steps.
        tokens: of a sample, that the decoder reads.
        encoder_flops: of the encoder's forward pass.
        projector_flops: of the projector's.
        decoder_flops: of the decoder's, with the vocabulary at the answers alone.
        training_flops: of all in training.
        executed_flops: with those that are made again to save memory.
        memory: an estimate for one device.
    """

    image_size: int
    samples: int
    steps: int
    tokens: int
    encoder_flops: int
    projector_flops: int
    decoder_flops: int
    training_flops: int
    executed_flops: int
    memory: DeviceMemory


@dataclasses.dataclass(frozen=True)
class LanguagePlan(RunPlan):
    """A whole run of language alignment. `print(plan)` shows it as tables.

    Attributes:
        encoder_parameters: of the encoder, without the blocks that are cut.
        projector_parameters: of the projector.
        decoder_parameters: of the decoder.
        trained: names of the parts that are trained.
        text_tokens: of a sample, that are no image's.
        row_length: tokens of a packed row.
        batch_size: samples of a step, over all devices.
        num_devices: devices of the run.
        precision: Keras dtype policy.
        pieces: how many each large weight is cut into; 1 for none.
        groups: how the weights lie on the devices.
        stages: the one stage.
    """

    encoder_parameters: int
    projector_parameters: int
    decoder_parameters: int
    trained: tuple[str, ...]
    text_tokens: int
    row_length: int
    batch_size: int
    num_devices: int
    precision: str
    pieces: int
    groups: tuple[ParameterGroup, ...]
    stages: tuple[LanguageCost, ...]

    def __str__(self) -> str:
        parts = (
            ("encoder", self.encoder_parameters),
            ("projector", self.projector_parameters),
            ("decoder", self.decoder_parameters),
        )
        listed = ", ".join(f"{count / 1e6:,.2f} M {name}" for name, count in parts)
        tokens = self.stages[0].tokens
        summary = (
            f"parameters: {listed}; trained: {', '.join(self.trained)}\n"
            f"{self.samples / 1e6:,.1f} M {self._steps_line()}\n"
            f"{tokens:,} tokens a sample ({tokens - self.text_tokens:,} of its image; "
            f"{self.text_tokens} of text are an assumption), packed into rows of "
            f"{self.row_length:,}\n"
            f"{self._flops_line()}\n"
            f"{self._layout_line()}"
        )
        heading = "stage|samples|steps|tokens|GFLOP of an encoder|projector|decoder"
        heading += "|a trained sample|executed|ZFLOP|GB a device"
        names = ("encoder", "projector", "decoder", "training", "executed")
        table = self._stage_table(heading, False, [f"{name}_flops" for name in names])
        return "\n\n".join(
            [summary, table, self._memory_line(), weights_table(self.groups)]
        )


# === The count ===
def plan_language(
    config: LanguageConfig,
    num_devices: int = 1,
    *,
    pieces: int | None = None,
    fused_attention: bool = True,
    text_tokens: int = TEXT_TOKENS,
) -> LanguagePlan:
    """Counts what a language alignment needs; allocates nothing, on any backend.

    Args:
        config: the run.
        num_devices: devices of the run.
        pieces: as of `plan_training`.
        fused_attention: as of `plan_training`.
        text_tokens: of a sample, that are no image's; half of them are answers.

    Returns:
        `LanguagePlan`.

    Raises:
        ValueError: if the configuration can't run, or not on so many devices, or names
            a decoder whose size is not known.

    Source: Perception Encoder, section 5.1.

    Example:
        >>> from keras_pe.training.run.training_config import stages_of
        >>> config = LanguageConfig(encoder="pe_core_emoji_patch8_64", batch_size=64,
        ...     stages=stages_of(640, (64,), (1,)), warmup_steps=2, row_length=512)
        >>> plan = plan_language(config)
        >>> plan.steps, plan.stages[0].tokens
        (10, 320)
    """
    check_language(config)
    pieces = planned_pieces(config, num_devices, pieces)
    trainer = unallocated_trainer(config)
    groups = parameter_groups(weights_of(trainer.weights), pieces)
    trained = parameter_groups(weights_of(trainer.trainable_weights), pieces)
    cost = _Costs(config, trainer, num_devices, fused_attention, text_tokens)
    (stage,) = config.stages
    (planned,) = plan_stages(config.stages, config.batch_size)
    held = weight_bytes(groups, trained, pieces, cost.compute_bytes)
    memory = DeviceMemory(**held, **cost.memory())
    parts = {
        "encoder": config.train_encoder,
        "projector": True,
        "decoder": config.train_decoder,
    }
    return LanguagePlan(
        encoder_parameters=trainer.model.count_params(),
        projector_parameters=trainer.projector.count_params(),
        decoder_parameters=trainer.decoder.count_params(),
        trained=tuple(name for name, is_trained in parts.items() if is_trained),
        text_tokens=text_tokens,
        row_length=config.row_length,
        batch_size=config.batch_size,
        num_devices=num_devices,
        precision=config.precision,
        pieces=pieces,
        groups=groups,
        stages=(
            LanguageCost(
                image_size=stage.image_size,
                samples=stage.samples,
                steps=planned.num_steps,
                **cost.flops(),
                memory=memory,
            ),
        ),
    )


def weights_of(variables: Any) -> list[Any]:
    """Returns variables without the states of random numbers."""
    return [v for v in variables if "seed_generator" not in v.path]


def step_inputs(
    config: LanguageConfig,
    trainer: LanguageAlignmentTrainer,
    text_tokens: int = TEXT_TOKENS,
) -> Inputs:
    """Returns shape and dtype of each array of a batch of packed rows.

    Args:
        config: the run.
        trainer: made of it.
        text_tokens: as of `plan_language`.
    """
    size = config.stages[0].image_size
    images = samples_of_row(config, trainer.model.patch_size, text_tokens)
    rows = math.ceil(config.batch_size / images)
    slots = images * min(ANSWER_TOKENS, max(text_tokens // 2, 1))
    by_token, by_answer = (rows, config.row_length), (rows, slots)
    return {
        "images": ((rows, images, size, size, 3), "float32"),
        **dict.fromkeys(OF_TOKENS, (by_token, "int32")),
        **dict.fromkeys(("answer_places", "answer_ids"), (by_answer, "int32")),
        "answer_weights": (by_answer, "float32"),
    }


def samples_of_row(
    config: LanguageConfig,
    patch_size: int | None = None,
    text_tokens: int = TEXT_TOKENS,
) -> int:
    """Returns how many samples fit into a row, one at least.

    Args:
        config: the run.
        patch_size: of its encoder; None looks it up.
        text_tokens: as of `plan_language`.
    """
    if patch_size is None:
        patch_size = vision_of(config.encoder)["patch_size"]
    tokens = image_tokens_of(config, patch_size) + text_tokens
    return max(config.row_length // tokens, 1)


class _Costs:
    """Counts operations and memory of a trainer."""

    def __init__(
        self,
        config: LanguageConfig,
        trainer: LanguageAlignmentTrainer,
        num_devices: int,
        fused_attention: bool,
        text_tokens: int,
    ) -> None:
        self.config, self.trainer = config, trainer
        self.num_devices, self.fused_attention = num_devices, fused_attention
        policy = keras.dtype_policies.get(config.precision)
        self.compute_bytes = BYTES[policy.compute_dtype]
        self.image_tokens = image_tokens_of(config, trainer.model.patch_size)
        self.text_tokens = text_tokens
        self.tokens = self.image_tokens + text_tokens
        self.answers = min(ANSWER_TOKENS, max(text_tokens // 2, 1))
        rows = step_inputs(config, trainer, text_tokens)["images"][0][0]
        size = config.image_chunk_size
        self.chunked = size is not None and size < rows

    def encoder(self) -> TowerFlops:
        """Returns the operations of the encoder on one image."""
        return vision_flops(self.encoder_sizes(), self.config.stages[0].image_size)

    def encoder_sizes(self) -> dict[str, Any]:
        """Returns the encoder's sizes, as its towers' operations are counted by."""
        encoder = self.trainer.model
        names = ("image_size", "patch_size", "hidden_dim", "num_heads", "num_layers")
        sizes = {name: getattr(encoder, name) for name in names}
        sizes["intermediate_dim"] = encoder.intermediate_dim
        sizes["class_token"] = encoder.class_token
        return {**sizes, "pooling": None, "output_dim": None}

    def projector(self) -> list[int]:
        """Returns the operations of each of the projector's matrices on one image."""
        matrices = (w for w in self.trainer.projector.weights if len(w.shape) == 2)
        return [2 * self.image_tokens * math.prod(w.shape) for w in matrices]

    def decoder(self) -> tuple[int, int, int]:
        """Returns those of the decoder's blocks on one sample, and of the vocabulary.

        Returns:
            products with the blocks' matrices; attention, over the whole row, since
            kernels do not skip other documents; products with the vocabulary.
        """
        decoder = self.trainer.decoder
        inside = sum(
            math.prod(w.shape)
            for w in decoder.weights
            if len(w.shape) > 1 and re.search(NUMBERED, w.path)
        )
        sizes = self.decoder_sizes()
        scores = 2 * sizes["num_layers"] * sizes["query_dim"] * self.config.row_length
        words = self.answers * decoder.vocabulary_size * decoder.hidden_dim
        return 2 * self.tokens * inside, 2 * self.tokens * scores, 2 * words

    def decoder_sizes(self) -> dict[str, Any]:
        """Returns the decoder's sizes, by the names that towers have for them."""
        decoder = self.trainer.decoder
        inner = getattr(decoder, "backbone", decoder)
        heads = getattr(inner, "num_query_heads", getattr(inner, "num_heads", None))
        return {
            "hidden_dim": decoder.hidden_dim,
            "num_layers": inner.num_layers,
            "num_heads": heads or inner.num_attention_heads,
            "intermediate_dim": inner.intermediate_dim,
            "query_dim": decoder.head_dim * (heads or inner.num_attention_heads),
        }

    def flops(self) -> dict[str, Any]:
        """Returns the fields of `LanguageCost` that say operations."""
        config, encoder = self.config, self.encoder()
        matrices, (blocks, attention, words) = self.projector(), self.decoder()
        projector, decoder = sum(matrices), blocks + attention + words
        training = (1 + 2 * config.train_encoder) * encoder.forward + 3 * projector
        if not config.train_encoder:  # whose tokens have no gradient
            training -= matrices[0]
        # A frozen decoder has gradients of what it reads, and none of its weights.
        training += (2 + config.train_decoder) * (blocks + words) + 3 * attention
        again = int(self.chunked) * (encoder.forward + projector + decoder)
        if config.remat:
            again += config.train_encoder * encoder.blocks + blocks + attention
        return {
            "tokens": self.tokens,
            "encoder_flops": encoder.forward,
            "projector_flops": projector,
            "decoder_flops": decoder,
            "training_flops": training,
            "executed_flops": training + again,
        }

    def memory(self) -> dict[str, int]:
        """Returns the fields of `DeviceMemory` that depend on the batch."""
        config = self.config
        inputs = step_inputs(config, self.trainer, self.text_tokens)
        rows, images = inputs["images"][0][:2]
        here = math.ceil(rows / self.num_devices)
        if self.chunked:
            assert config.image_chunk_size is not None
            here = min(here, math.ceil(config.image_chunk_size / self.num_devices))
        options = self.compute_bytes, self.fused_attention
        sizes = self.encoder_sizes()
        if not config.train_encoder:  # one block at a time, and nothing is kept
            sizes["num_layers"] = 1
        kept = tower_bytes(sizes, self.encoder(), here * images, config.remat, *options)
        of_row = TowerFlops(0, 0, config.row_length)
        kept += tower_bytes(self.decoder_sizes(), of_row, here, config.remat, *options)
        slots = inputs["answer_ids"][0][1]
        logits = 2 * 4 * here * slots * self.trainer.decoder.vocabulary_size
        given = sum(
            math.prod(shape) * BYTES.get(dtype, 1) for shape, dtype in inputs.values()
        )
        return {
            "activations": kept,
            "loss": logits,
            "batch": given // self.num_devices,
        }
