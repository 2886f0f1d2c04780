"""Language probe: a projector and a language model, trained to answer questions."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from keras_pe.arrays import NonFiniteError, check_finite, check_sizes, check_switches
from keras_pe.language.decoder import check_length
from keras_pe.language.prompts import Prompt
from keras_pe.layers.projector import Merge
from keras_pe.probing.feature_store import Samples
from keras_pe.probing.language_batches import (
    TrainingRows,
    check_answers_end,
    prompts_of,
    row_length,
    targets_digest,
)
from keras_pe.probing.language_controls import (
    IMAGES,
    OtherImages,
    image_digests,
    warn_of_shared_images,
)
from keras_pe.probing.language_data import (
    ImageQuestion,
    asked_of,
    kinds_of,
    questions_of_samples,
)
from keras_pe.probing.language_head import AnswerTrainer, put
from keras_pe.probing.language_metrics import KindMetrics, Metric, MetricName, name_of
from keras_pe.probing.language_parts import LanguageParts
from keras_pe.probing.layer_outputs import Reading
from keras_pe.probing.probe import FittedProbe, Probe
from keras_pe.probing.training_settings import check_weight_decay, checked_rates


class LanguageProbe(Probe):
    """Trains a projector and a fresh language model on a layer; scored by its answers.

    The paper's protocol for frozen encoders: both are trained from the start for each
    layer and seed, with equal steps, and the learning rate is chosen on validation
    images. Targets are questions, as `question_targets` makes them; answers are greedy.
    Scores are means over questions, and intervals resample images with all of theirs.

    Args:
        decoder: None for a small one (3 blocks of 128 channels); a dictionary of other
            arguments of `SmallDecoder`; a function that returns a new decoder as it is
            to begin, each time that it is called, such as one that loads it; or a
            trained `Decoder`, which stays as it is: the projector alone is trained.
        prompt: from the number of an image's tokens to the `QuestionPrompt`; None for
            one with PE's tokenizer and 6,000 words, which fits decoders made here.
        pooling: side of the squares of patches that become one token.
        merge: how they do, "average" or "shuffle": letters want the latter.
        depth: matrices of the projector.
        steps: of each training. Few of them favour early layers: double them, and see
            whether the curve stays.
        batch_size: questions in a step, on average.
        learning_rates: peaks to choose from.
        max_tokens: most tokens of an answer.
        metric: "exact", "anls", "number", "box"; a function from answers and lists of
            right ones to `AnswerScores`; or a dictionary of them by kind of question.
        weight_decay: of AdamW.
        blind_control: whether a head is also trained without the right images, for the
            best layer: a layer that is no better than that is not called best.

    Raises:
        ValueError: naming the setting that makes no sense.

    Source: Perception Encoder, appendix B.2 (frozen encoders; a projector of two
        layers and the language model are trained). The norm before the projector, the
        small decoder and the learning rates are ours.

    Example:
        >>> probe = LanguageProbe({"hidden_dim": 32, "num_layers": 1}, steps=10)
        >>> probe.metric
        'exact match'
    """

    name: ClassVar[str] = "language"
    metric: ClassVar[str] = "exact match"
    bounds: ClassVar[tuple[float, float] | None] = (0.0, 1.0)
    readings: ClassVar[tuple[Reading, ...]] = ("map",)

    def __init__(
        self,
        decoder: Any = None,
        prompt: Callable[[int], Prompt] | None = None,
        pooling: int = 1,
        merge: Merge = "average",
        depth: int = 2,
        steps: int = 300,
        batch_size: int = 64,
        learning_rates: Sequence[float] = (1e-3, 3e-3),
        max_tokens: int = 16,
        metric: MetricName | Metric | Mapping[str, MetricName | Metric] = "exact",
        weight_decay: float = 0.01,
        blind_control: bool = True,
    ) -> None:
        check_sizes(steps=steps, batch_size=batch_size, max_tokens=max_tokens)
        check_weight_decay(weight_decay)
        check_switches(blind_control=blind_control)
        self._parts = LanguageParts(decoder, prompt, pooling, merge, depth)
        self.decoder = name_of(decoder)
        self.pooling, self.merge, self.depth = pooling, merge, depth
        self.steps, self.batch_size = steps, batch_size
        self.learning_rates = checked_rates(learning_rates)
        self.max_tokens = max_tokens
        self.weight_decay, self.blind_control = weight_decay, blind_control
        self._metrics = KindMetrics(metric)
        self.metrics = self._metrics.names
        if set(self.metrics.values()) != {"exact"}:
            shown = ", ".join(sorted(set(self.metrics.values())))
            self.metric = f"score of answers ({shown})"  # type: ignore[misc]
        if not self._metrics.bounded:
            self.bounds = None  # type: ignore[misc]
        self._trainer = AnswerTrainer(self._parts.head, steps, weight_decay)
        self._rows: dict[Any, TrainingRows] = {}
        self._kind: int | None = None

    # === Before anything is trained ===
    def image_columns(self, images: Any) -> dict[str, np.ndarray]:
        return {IMAGES: image_digests(images)}

    def check(self, train: Samples, validation: Samples, test: Samples) -> None:
        shape = train.store.shape(train.features)
        prompt, decoder = self._parts.prompt(shape), self._trainer.head(shape).decoder
        parts = {"training": train, "validation": validation, "test": test}
        for what, samples in parts.items():
            asked = asked_of(samples, what)
            if samples is train:
                longest = max(map(len, self._parts.documents(prompt)(asked)))
                check_length(decoder, longest, "of prompt and answer")
            else:
                documents = self._parts.documents(prompt)
                self.check_scored(documents.as_written(asked))
                check_answers_end(documents(asked), self.max_tokens, what)
                prompts = map(prompt.question, {row.question for row in asked})
                longest = max(map(len, prompts)) + self.max_tokens
                check_length(decoder, longest, "of prompt and answer")
            if samples is test or self.blind_control:
                OtherImages.of(samples, what)
        warn_of_shared_images(parts)

    def check_scored(self, asked: Iterable[ImageQuestion]) -> None:
        """Raises ValueError if a question can't be scored, without scoring any."""
        self._metrics.check(asked)

    # === Fitting ===
    def fit(
        self, train: Samples, validation: Samples, seed: int, blind: bool = False
    ) -> "FittedLanguage":
        """Trains at each learning rate and returns what validation likes best.

        Args:
            train: the training samples.
            validation: on which the learning rate is chosen.
            seed: of the first weights and the order of questions.
            blind: whether questions come with any other image, in training.

        Raises:
            ValueError: if the targets are no questions, or too long for the decoder.
            NonFiniteError: if training ends in NaN at every learning rate.
        """
        shape = train.store.shape(train.features)
        prompt = self._parts.prompt(shape)
        rows = self._training_rows(train, shape, seed)
        others = OtherImages.of(train) if blind else None
        best: FittedLanguage | None = None
        order: tuple[float, float] | None = None
        diverged: NonFiniteError | None = None
        for rate in self.learning_rates:
            try:
                weights, loss = self._trainer.fit(
                    shape, lambda step: rows.batch(train, step, others), rate, seed
                )
            except NonFiniteError as error:
                diverged = error
                continue
            setting = {"learning_rate": rate, "training_loss": loss}
            fitted = FittedLanguage(self, shape, prompt, weights, setting)
            chosen = self.shuffled(validation, seed) if blind else validation
            score = float(self.score(fitted.statistics(chosen).mean(axis=0)))
            # Of heads that answer nothing yet, the one that learned more.
            if order is None or (score, -loss) > order:
                best, order = fitted, (score, -loss)
        if best is None:
            assert diverged is not None
            raise diverged
        return best

    def shuffled(self, samples: Samples, seed: int) -> Samples:
        """Returns samples of which each has the features of another image.

        Raises:
            ValueError: if there are no two different images.
        """
        # Not another one's questions: guesses and answers are compared by question.
        rng = np.random.default_rng(seed)
        rows = samples.rows[OtherImages.of(samples).permuted(rng)]
        return Samples(samples.store, samples.features, rows, samples.target_rows)

    def blind(
        self, train: Samples, validation: Samples, test: Samples, seed: int
    ) -> np.ndarray | None:
        """Returns the test statistics of a head that never saw the right image.

        It is trained for as many steps, each question with any other image, and is
        asked so too: what it knows, it knows of questions and answers alone.
        """
        if not self.blind_control:
            return None
        fitted = self.fit(train, validation, seed, blind=True)
        return fitted.statistics(self.shuffled(test, seed))

    def _training_rows(
        self, train: Samples, shape: tuple[int, ...], seed: int
    ) -> TrainingRows:
        prompt = self._parts.prompt(shape)
        key = (prompt.image_tokens, seed, targets_digest(train))
        if key not in self._rows:
            asked = asked_of(train, "training")
            documents = self._parts.documents(prompt)(asked)
            decoder = self._trainer.head(shape).decoder
            packs = getattr(decoder, "packs", True)
            length = row_length(documents, decoder.max_length, packs)
            self._rows[key] = TrainingRows(
                documents, length, self.batch_size, self.steps, packs, seed
            )
        return self._rows[key]

    # === Scores ===
    def baseline(self, train: Samples, test: Samples) -> np.ndarray:
        """Returns the statistics of the most frequent answer to each question.

        To a question that training did not have, it is that to its kind.
        """
        counts: dict[Any, dict[str, int]] = {}
        for row in questions_of_samples(train):
            for key in (row.question, ("kind", row.kind), None):
                of_key = counts.setdefault(key, {})
                of_key[row.answer] = of_key.get(row.answer, 0) + 1
        asked, answers = list(questions_of_samples(test)), []
        for row in asked:
            keys = (row.question, ("kind", row.kind), None)
            known = next(counts[key] for key in keys if key in counts)
            answers.append(self._parts.written(max(known, key=lambda one: known[one])))
        return self.scored(test, asked, answers, np.zeros(len(asked), bool))

    def scored(
        self,
        samples: Samples,
        asked: Sequence[ImageQuestion],
        answers: Sequence[str],
        endless: np.ndarray,
    ) -> np.ndarray:
        """Returns statistics `(samples, 2 x kinds + 1)`.

        For each kind of the data the sum of scores and the number of questions; last
        the number of answers that could not be read. An answer without an end is none.
        Right answers are as the model's vocabulary can write them.
        """
        kinds = kinds_of(samples)
        found = np.zeros((len(samples), 2 * len(kinds) + 1))
        for place, kind in enumerate(kinds):
            ours = [number for number, row in enumerate(asked) if row.kind == kind]
            if not ours:
                continue
            right = [[self._parts.written(asked[k].answer)] for k in ours]
            said = [answers[number] for number in ours]
            scores = self._metrics.scores(kind, said, right)
            values = check_finite(scores.values, f"scores of {kind!r}", "answer")
            lost = endless[ours] | scores.unparsable
            images = [asked[number].image for number in ours]
            np.add.at(found[:, 2 * place], images, np.where(lost, 0.0, values))
            np.add.at(found[:, 2 * place + 1], images, 1.0)
            np.add.at(found[:, -1], images, lost.astype("float64"))
        return found

    def score(self, means: np.ndarray) -> np.ndarray:
        """Returns the mean over questions."""
        scores, counts = means[..., 0:-1:2], means[..., 1:-1:2]
        if self._kind is not None:
            scores, counts = (x[..., self._kind, None] for x in (scores, counts))
        total = counts.sum(axis=-1)
        return np.asarray(scores.sum(axis=-1) / np.where(total > 0, total, 1.0))

    def of_kind(self, place: int) -> "LanguageProbe":
        """Returns the same probe, scored by one kind of question alone."""
        found = copy.copy(self)
        found._kind = place
        return found


class FittedLanguage(FittedProbe):
    """A trained head: what it answers, and how it was trained."""

    def __init__(
        self,
        probe: LanguageProbe,
        shape: tuple[int, ...],
        prompt: Prompt,
        weights: list[np.ndarray],
        setting: dict[str, Any],
    ) -> None:
        self.probe, self.shape, self.prompt = probe, shape, prompt
        self.weights, self.setting = weights, setting
        self._known: tuple[Samples, np.ndarray] | None = None

    def statistics(self, samples: Samples) -> np.ndarray:
        # Validation's are asked for twice: to choose the rate, and then the layer.
        if self._known is None or self._known[0] is not samples:
            asked, answers, endless = self.answers(samples)
            found = self.probe.scored(samples, asked, answers, endless)
            self._known = samples, found
        return self._known[1]

    def answers(
        self, samples: Samples
    ) -> tuple[list[ImageQuestion], list[str], np.ndarray]:
        """Returns questions, answers, and which of these have no end."""
        head = self.probe._trainer.head(self.shape)
        put(head.trained, self.weights)
        asked, answers, endless = [], [], []
        for batch in prompts_of(samples, self.prompt, self.probe.batch_size):
            ids = head.answers(
                batch.features,
                batch.token_ids,
                batch.image_slots,
                batch.lengths,
                self.prompt.stop_id,
                self.probe.max_tokens,
            )[: len(batch.questions)]
            asked += batch.questions
            answers += [self.prompt.text(row) for row in ids]
            endless += [self.prompt.stop_id not in row for row in ids]
        return asked, answers, np.array(endless, bool)
