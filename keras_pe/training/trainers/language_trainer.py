"""Language alignment: an encoder, a projector and a language model learn to answer."""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
from keras import ops

from keras_pe.arrays import check_switches
from keras_pe.language.answers import answer_cost
from keras_pe.layers.projector import VisionProjector, check_widths
from keras_pe.models.vision_forward import VisionForward
from keras_pe.training.devices.distribution import cross_replica_gather, num_replicas
from keras_pe.training.trainers.base import BaseTrainer, Latest, Term, take_drop_path
from keras_pe.training.trainers.batch_checks import FurtherCheck
from keras_pe.training.trainers.image_places import ImagePlaces


@keras.saving.register_keras_serializable("keras_pe")
class LanguageAlignmentTrainer(BaseTrainer):
    """Trains an encoder through a language model that answers what it is asked.

    Images become tokens (encoder, projector) that stand among those of the words; the
    language model is causal over all of them; the loss is on the tokens of answers
    alone, and the mean over them in the whole batch, however they are spread over rows,
    chunks and devices.

    Batches are dictionaries of packed rows, as `keras_pe.data.packing.packed_row` makes
    them, and `images` `(batch, most_images, height, width, 3)` in [-1, 1], those of
    each row in their order; a row with fewer has zeros, which nothing reads.

    Args:
        encoder: that is trained, in place: `PELang.from_core(...)`, or any vision
            encoder of PE's.
        projector: from its channels to the decoder's.
        decoder: a `keras_pe.language.Decoder` that is a Keras model.
        train_encoder: whether the encoder is trained; else it is frozen by this, as in
            the paper's first phase, and as it is.
        train_decoder: likewise of the language model.
        image_chunk_size: rows whose activations are held at once, over all devices;
            None for all.

    Raises:
        ValueError: if widths do not fit, nothing is trained, or chunks are asked for
            with a decoder that has dropout or stochastic depth.

    Source: Perception Encoder, section 5.1; upstream `apps/plm`.

    Example:
        >>> import numpy as np
        >>> from keras_pe import PELang, PETokenizer, PEVisionEncoder
        >>> from keras_pe.data.packing import packed_row
        >>> from keras_pe.language import QuestionPrompt, SmallDecoder
        >>> core = PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...     num_layers=2, num_heads=2, intermediate_dim=32)
        >>> trainer = LanguageAlignmentTrainer(PELang.from_core(core),
        ...     VisionProjector(16, 16),
        ...     SmallDecoder(600, hidden_dim=16, num_layers=1, num_heads=2))
        >>> trainer.compile(keras.optimizers.AdamW(1e-3))
        >>> prompt = QuestionPrompt(PETokenizer(16, 600), image_tokens=4)
        >>> row = packed_row([prompt.document("What is this?", "a cat")], 32, slots=8)
        >>> batch = {name: np.asarray(array)[None] for name, array in row.items()}
        >>> batch["images"] = np.zeros((1, 1, 16, 16, 3), "float32")
        >>> batches = ((batch,) for batch in [batch])
        >>> history = trainer.fit(batches, steps_per_epoch=1, verbose=0)
        >>> sorted(history.history)
        ['answer_accuracy', 'answer_loss', 'loss']
    """

    known_arrays = (
        "images",
        "token_ids",
        "positions",
        "documents",
        "image_slots",
        "answer_places",
        "answer_ids",
        "answer_weights",
    )
    needed_arrays = known_arrays
    logged_terms = ("answer_loss", "answer_accuracy")

    def __init__(
        self,
        encoder: VisionForward,
        projector: VisionProjector,
        decoder: Any,
        train_encoder: bool = True,
        train_decoder: bool = True,
        image_chunk_size: int | None = None,
        name: str | None = None,
    ) -> None:
        check_widths(projector, encoder, decoder)
        check_switches(train_encoder=train_encoder, train_decoder=train_decoder)
        super().__init__(
            encoder,
            name or "language_alignment_trainer",
            image_chunk_size=image_chunk_size,
        )
        inner = getattr(decoder, "backbone", decoder)
        drawn = max(getattr(inner, name, 0.0) or 0 for name in ("drop_path", "dropout"))
        if image_chunk_size is not None and train_decoder and drawn:
            raise ValueError(
                f"{decoder.name} leaves out {drawn} at random, and what is computed in "
                f"chunks is computed again, with others left out. Build it without "
                f"(drop_path=0, dropout=0), or give no image_chunk_size."
            )
        self.projector, self.decoder = projector, decoder
        self.train_encoder, self.train_decoder = train_encoder, train_decoder
        encoder.trainable, decoder.trainable = train_encoder, train_decoder
        if not self.trainable_variables:
            raise ValueError("Nothing is trained: all three parts are frozen.")
        self.loss_metric = Latest("answer_loss")
        self.accuracy_metric = Latest("answer_accuracy")
        self.built = True

    @property
    def teachers(self) -> tuple[keras.Model, ...]:
        """The frozen parts, which a run's checkpoint leaves out."""
        frozen = []
        if not self.train_encoder:
            frozen.append(self.model)
        if not self.train_decoder:
            frozen.append(self.decoder)
        return tuple(frozen)

    def vocabularies(self) -> dict[str, int]:
        """Returns for each array of token ids how many ids there are."""
        size = self.decoder.vocabulary_size
        return {"token_ids": size, "answer_ids": size}

    def further_check(self) -> FurtherCheck | None:
        """Returns what refuses rows that were made for images of another size."""
        branches = getattr(self.decoder, "reads_positions", True)
        return ImagePlaces(self.model.patch_size, self.projector.pooling, branches)

    # === Forward ===
    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        """Returns `answer_loss` and `answer_accuracy`, scalars."""
        self.check_inputs(inputs)
        found = self.in_chunks(
            lambda chunk: self._of_chunk(chunk, training),
            dict(inputs),
            self.image_chunk_size,
            training,
            self.model if self.train_encoder else None,
            inputs["images"].shape[1],
        )
        total = self._total(inputs["answer_weights"])
        return {
            "answer_loss": ops.sum(found["cost"]) / total,
            "answer_accuracy": ops.sum(found["right"]) / total,
        }

    def _total(self, weights: Any) -> Any:
        """Returns by what a sum is divided: the mean over replicas is then exact."""
        total = ops.reshape(ops.sum(ops.cast(weights, "float32")), (1,))
        gather = cross_replica_gather()
        if gather is not None:
            total = ops.stop_gradient(gather(total)) / num_replicas()
        return ops.maximum(ops.sum(total), 1.0 / num_replicas())

    def _of_chunk(self, chunk: dict[str, Any], training: bool | None) -> dict[str, Any]:
        """Returns the summed cost of some rows' answers, and how many are right."""
        factors = take_drop_path(chunk)
        patches = self.image_tokens(chunk["images"], training, factors)
        found = answer_cost(
            self.decoder, patches, chunk, bool(training) and self.train_decoder
        )
        return {name: ops.reshape(x, (1,)) for name, x in found._asdict().items()}

    def image_tokens(
        self, images: Any, training: bool | None = None, drop_path_factors: Any = None
    ) -> Any:
        """Returns what the decoder reads of images, `(rows, tokens, hidden_dim)`.

        Args:
            images: `(rows, most_images, height, width, 3)`.
            training: whether stochastic depth is active.
            drop_path_factors: as of `encoder.layer_tokens`, of all images.
        """
        encoder, most = self.model, images.shape[1]
        flat = ops.reshape(images, (-1, *images.shape[2:]))
        (tokens,) = encoder.layer_tokens(
            flat,
            [-1],
            drop_path_factors=drop_path_factors,
            training=bool(training) and self.train_encoder,
        )
        if not self.train_encoder:
            tokens = ops.stop_gradient(tokens)
        tokens = tokens[:, encoder.prefix_tokens :]
        found = self.projector(tokens, grid=encoder.grid(flat.shape))
        return ops.reshape(found, (-1, most * found.shape[1], found.shape[2]))

    # === Loss ===
    @property
    def loss_weights(self) -> dict[str, float]:
        """The factors of the terms that a step minimises, by their metrics' names."""
        return {"answer_loss": 1.0}

    def terms(self, x: Mapping[str, Any], y_pred: Any) -> Iterator[Term]:
        yield Term(self.loss_metric, y_pred["answer_loss"], 1.0)
        yield Term(self.accuracy_metric, y_pred["answer_accuracy"], None)

    # === Saving ===
    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {
            "encoder": config.pop("model"),
            **config,
            "projector": keras.saving.serialize_keras_object(self.projector),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
            "train_encoder": self.train_encoder,
            "train_decoder": self.train_decoder,
        }
