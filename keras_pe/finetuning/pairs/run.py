"""The fine-tuning on pairs: training, the weights between, and what was forgotten."""

import dataclasses
import logging
import os
from pathlib import Path
from typing import Any, Literal

from keras_pe.arrays import is_number
from keras_pe.evaluation.datasets.types import Labelled
from keras_pe.finetuning.pairs.class_scores import (
    ClassEmbeddings,
    ClassScores,
    class_hits,
    templates_of,
)
from keras_pe.finetuning.pairs.interpolation import (
    assign_weights,
    interpolated,
    weights_of,
)
from keras_pe.finetuning.pairs.pair_config import (
    PairConfig,
    check_pair_config,
    make_trainable,
)
from keras_pe.finetuning.pairs.pair_scores import (
    change,
    mean_cosine,
    pair_hits,
    points,
)
from keras_pe.finetuning.pairs.wise_curve import Scores, chosen_alpha, wise_curve
from keras_pe.finetuning.pairs.wise_report import (
    Forgotten,
    write_forgotten,
    write_wise,
)
from keras_pe.models.core import PECore
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.training.devices.setup import check_layout, is_first_process
from keras_pe.training.optimizers.layer_decay import layer_decay_rates
from keras_pe.training.run.config import build_model, build_tokenizer, build_trainer
from keras_pe.training.run.initial_weights import load_initial_weights
from keras_pe.training.run.retrieval_scores import (
    PairEmbeddings,
    Pairs,
    RetrievalScores,
)
from keras_pe.training.run.shard_data import ShardData, caption_reader
from keras_pe.training.run.train import RunOptions, run_pairs
from keras_pe.training.trainers.contrastive_trainer import ContrastiveTrainer

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class WiseOptions:
    """Which weights the preset has, and by what they are judged.

    Attributes:
        wise: alpha, 0 for the weights before to 1 for the fine-tuned ones, or "auto",
            see `chosen_alpha`.
        forget: points of the remembered and of the zero-shot score that "auto" may
            lose.
        remember: pairs of what the model could do before; None for none.
        zero_shot: images of classes that it could name before, as of
            `read_image_folder`; None for none.

    Raises:
        ValueError: if alpha is not 0 to 1, or `forget` is negative.

    Example:
        >>> WiseOptions("auto", forget=0.5).forget    # at most half a point
        0.5
    """

    wise: float | Literal["auto"] = 1.0
    forget: float = 1.0
    remember: Pairs | None = None
    zero_shot: Labelled | None = None

    def __post_init__(self) -> None:
        number = is_number(self.wise) and 0 <= float(self.wise) <= 1
        if self.wise != "auto" and not number:
            raise ValueError(
                f"wise={self.wise!r}: expected auto, or 0 (the weights before) to 1 "
                "(fine-tuned)."
            )
        if not self.forget >= 0:
            raise ValueError(f"forget={self.forget}: expected 0 points or more.")


def finetune_pairs(
    config: PairConfig,
    data: ShardData,
    options: RunOptions,
    wise: WiseOptions | None = None,
) -> PECore:
    """Fine-tunes a dual encoder and leaves a preset, logs and reports in a folder.

    Beside what `pretrain` leaves: `wise_ft.json`, `.md` and `.png` with the scores of
    weights between before and after, `forgotten.json` and `.md`; both if there are
    validation or remembered pairs, or zero-shot classes.

    Args:
        config: the run, see `pair_config`.
        data: what it is trained on, and its validation pairs.
        options: where it goes, and the weights it begins with.
        wise: which weights the preset has; None for the fine-tuned ones.

    Returns:
        The model of the preset, with LoRA merged.

    Raises:
        ValueError: if the configuration can't run, the directory holds another run, or
            "auto" has no validation pairs to choose by.

    Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (WiSE-FT);
        Hu et al. 2021, "LoRA".

    Example:
        >>> from PIL import Image
        >>> from keras_pe.data import PairTable
        >>> from keras_pe.finetuning.pairs import pair_config
        >>> rows = ["path,caption"]
        >>> for colour in ("red", "green", "blue", "white"):
        ...     Image.new("RGB", (64, 64), colour).save(f"{colour}.png")
        ...     rows.append(f"{colour}.png,a {colour} wall")
        >>> _ = Path("pairs.csv").write_text("\\n".join(rows))
        >>> preset = "pe_core_emoji_small_patch8_64"
        >>> config = pair_config(preset, num_pairs=4, epochs=1, lora_rank=2)
        >>> options = RunOptions(Path("run"), initial_weights=preset, progress=False)
        >>> model = finetune_pairs(config, ShardData(PairTable("pairs.csv")), options)
        >>> type(model).__name__, Path("run/preset").is_dir()
        ('PECore', True)
    """
    wise = wise or WiseOptions()
    check_pair_config(config)
    source = options.initial_weights
    if source is None:
        raise ValueError("Fine-tuning starts from weights: give initial_weights.")
    if wise.wise == "auto" and data.validation_data is None:
        raise ValueError(
            'wise="auto" chooses by scores of new pairs: give some '
            "(--validation-pairs), or an alpha (--wise 0.5)."
        )

    def make_trainer() -> ContrastiveTrainer:
        model = build_model(config)
        load_initial_weights(model, source)
        make_trainable(model, config)
        rates = layer_decay_rates(model, config.layer_decay)
        trainer = build_trainer(config, model, rates)
        check_layout(trainer)
        return trainer

    trained = run_pairs(config, make_trainer, data, options)
    # Anew from the files: these weights are whole, and merged, and of one device.
    return _finish(config, data, options, wise) if is_first_process() else trained


def _finish(
    config: PairConfig, data: ShardData, options: RunOptions, wise: WiseOptions
) -> PECore:
    """Chooses the weights of the preset and reports what was won and forgotten."""
    preset, model = options.output / "preset", build_model(config)
    source = str(options.initial_weights)
    load_initial_weights(model, source)
    before = weights_of(model)
    load_initial_weights(model, str(preset))
    after = weights_of(model)
    scorers = _scorers(config, model, data.validation_data, wise)
    if wise.zero_shot is not None:
        tokenizer, prompts = build_tokenizer(config), templates_of(str(source))
        scorers["zero_shot"] = ClassScores(wise.zero_shot, model, tokenizer, prompts)
    alpha = 1.0 if wise.wise == "auto" else float(wise.wise)
    if scorers:
        _log.info("Scoring weights between before and after on %s", list(scorers))

        def score() -> Scores:
            found = {name: scorer.embeddings() for name, scorer in scorers.items()}
            return {name: points(_hits(seen)) for name, seen in found.items()}

        curve = wise_curve(model, before, after, score)
        alpha = chosen_alpha(curve, wise.wise, wise.forget)
        write_wise(
            options.output, curve, alpha, {"wise": wise.wise, "forget": wise.forget}
        )
        assign_weights(model, before)
        old = {name: scorer.embeddings() for name, scorer in scorers.items()}
        assign_weights(model, interpolated(before, after, alpha))
        sets = {n: _forgotten(old[n], s.embeddings()) for n, s in scorers.items()}
        write_forgotten(options.output, sets, alpha)
    else:
        assign_weights(model, interpolated(before, after, alpha))
    _log.info("The preset has the weights of alpha %g", alpha)
    if alpha != 1:
        _save(config, model, preset, {"wise_ft": {"alpha": alpha}})
    return model


def _scorers(
    config: PairConfig, model: PECore, validation: Pairs | None, wise: WiseOptions
) -> dict[str, RetrievalScores | ClassScores]:
    given = {"validation": validation, "remembered": wise.remember}
    return {
        name: RetrievalScores(
            pairs,
            model,
            build_tokenizer(config),
            captions=caption_reader(config, pairs),
            max_bad_share=config.max_bad_share,
        )
        for name, pairs in given.items()
        if pairs is not None
    }


def _hits(seen: PairEmbeddings | ClassEmbeddings) -> dict[str, Any]:
    return class_hits(seen) if isinstance(seen, ClassEmbeddings) else pair_hits(seen)


def _forgotten(before: Any, after: Any) -> Forgotten:
    old, new = _hits(before), _hits(after)
    return Forgotten(
        len(before.images),
        {name: change(old[name], new[name]) for name in old},
        mean_cosine(before.images, after.images),
    )


def _save(
    config: PairConfig, model: PECore, preset: str | os.PathLike[str], metadata: Any
) -> None:
    model.save_to_preset(
        Path(preset),
        tokenizer=build_tokenizer(config),
        image_converter=PEImageConverter(model.vision_encoder.image_size),
        metadata=metadata,
    )
