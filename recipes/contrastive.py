"""Robust contrastive pretraining: stage one of Perception Encoder, at any scale.

Run:      python -m recipes.contrastive --config emoji --data data/emoji \\
              --output runs/emoji
Go on:    the same with --resume, after any stop, a power cut included.
Look:     python -m recipes.plan prints what such a run needs, without starting it.
Expect:   checkpoints, steps.csv, scores.csv, TensorBoard events, curves.png and, at
          the end, model.weights.h5 and a preset; the tables in recipes/README.md.

`python -m recipes.emoji_data.prepare --output data/emoji` makes the emoji data. Other
configurations read tar shards of pictures and captions: --data 'data/{000..099}.tar',
or a folder of them. To fine-tune a published model on yours:

          python -m recipes.contrastive --config finetune --data shards \\
              --output runs/mine --initial-weights pe_core_emoji_patch8_64 \\
              --samples 20000 --batch-size 64 --learning-rate 1e-4

--settings prints every setting of a run, --set NAME=VALUE changes any of them.
The fastest backend on a CPU is PyTorch: KERAS_BACKEND=torch, and where the CPU has AMX
--precision mixed_bfloat16.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

# Before Keras: takes a backend that is installed.
from keras_pe import PECore, PETextEncoder, PETokenizer, PEVisionEncoder

# isort: split
import keras

from keras_pe.preprocessing.tokenizer_check import check_tokenizer
from keras_pe.training.optimizers.gradient_watch import WatchedAdamW
from keras_pe.training.optimizers.lamb import WatchedLamb
from keras_pe.training.optimizers.schedules import WarmupCosine, WarmupLinear
from keras_pe.training.resolution import plan_stages
from keras_pe.training.run.training_run import TrainingRun
from keras_pe.training.stages.contrastive import ContrastiveTrainer
from recipes.config_checks import check_config
from recipes.contrastive_configs import CONFIGS, Config
from recipes.contrastive_data import describe_data, make_batches, validation_scores
from recipes.finished_run import finish_run
from recipes.initial_weights import load_initial_weights
from recipes.many_devices import all_devices, check_layout
from recipes.older_runs import completed
from recipes.run_options import (
    AFTER_STOP,
    OF_A_RUN,
    add_config,
    add_overrides,
    add_run_arguments,
    print_settings,
    said_plainly,
    start_run,
    with_overrides,
)
from recipes.shard_batches import START_TIMEOUT


def build_model(config: Config) -> PECore:
    """Returns an untrained dual encoder."""
    vision = PEVisionEncoder(
        **config.vision, remat=config.remat, dtype=config.precision
    )
    text = PETextEncoder(**config.text, remat=config.remat, dtype=config.precision)
    return PECore(vision, text)


def build_tokenizer(config: Config) -> PETokenizer:
    """Returns the tokenizer that fits the text tower."""
    return PETokenizer(
        context_length=config.text["context_length"],
        vocabulary_size=config.text["vocabulary_size"],
        on_truncation="ignore",
    )


def freeze(model: PECore, tower: str) -> None:
    """Holds the weights of a tower, "vision" or "text", as they are; "none" of none."""
    if tower != "none":
        getattr(model, f"{tower}_encoder").trainable = False


def build_optimizer(config: Config) -> keras.optimizers.Optimizer:
    """Returns the optimizer, on one learning-rate curve through all stages."""
    curve = {"cosine": WarmupCosine, "linear": WarmupLinear}[config.schedule]
    planned = plan_stages(config.stages, config.batch_size)
    steps = sum(stage.num_steps for stage in planned)
    schedule = curve(config.learning_rate, config.warmup_steps, steps)
    settings: dict[str, Any] = {
        "weight_decay": config.weight_decay,
        "beta_1": 0.9,
        "beta_2": config.beta_2,
        "epsilon": 1e-6,
        "global_clipnorm": config.gradient_clip,
    }
    if config.optimizer == "lamb":
        return WatchedLamb(
            schedule,
            **settings,
            exclude=config.lamb_exclude,
            unadapted_rate=config.unadapted_rate,
        )
    optimizer = WatchedAdamW(schedule, **settings)
    # Lamb leaves vectors out by itself.
    optimizer.exclude_from_weight_decay(
        var_names=["bias", "gamma", "beta", "scale", "embedding", "probe"]
    )
    return optimizer


def build_trainer(config: Config, model: PECore) -> ContrastiveTrainer:
    """Returns the compiled contrastive stage."""
    trainer = ContrastiveTrainer(
        model,
        loss=config.loss,
        duplicates=config.duplicates,
        loss_chunk_size=config.loss_chunk_size,
        image_chunk_size=config.image_chunk_size,
        text_chunk_size=config.text_chunk_size,
        mask_weight=config.mask_weight,
    )
    trainer.compile(optimizer=build_optimizer(config))
    return trainer


def train(
    config: Config,
    data: str,
    output: Path,
    resume: bool = False,
    extend: bool = False,
    validation_data: str | None = None,
    leave_out: tuple[str, ...] = (),
    initial_weights: str | None = None,
    workers: int = 0,
    start_timeout: float = START_TIMEOUT,
    save_every: int = 100,
    evaluate_every: int = 250,
    progress: bool = True,
) -> PECore:
    """Trains a model and leaves weights, logs and curves in a directory.

    Args:
        config: the run.
        data: directory of the emoji data, or the shards' pattern.
        output: where everything goes.
        resume: go on from the newest checkpoint in `output`.
        extend: with it, the stages may be longer than those of the run so far.
        validation_data: shards to measure retrieval on; emoji have a split of theirs.
        leave_out: emoji vendors to train without.
        initial_weights: file or preset to start from; None starts from scratch.
        workers: processes that prepare batches; 0 prepares them in threads.
        start_timeout: seconds for such a process to start.
        save_every: steps between checkpoints.
        evaluate_every: steps between evaluations.
        progress: whether a progress bar is shown.

    Returns:
        The trained model.

    Raises:
        ValueError: if the configuration can't run, or the directory holds another run.
    """
    check_config(config)
    with all_devices(config.sharding, lambda: build_model(config).variables):
        keras.utils.set_random_seed(config.seed)
        model = build_model(config)
        if initial_weights is not None:
            load_initial_weights(model, initial_weights)
        freeze(model, config.freeze)
        trainer = build_trainer(config, model)
        check_layout(trainer)
        tokenizer = build_tokenizer(config)
        check_tokenizer(tokenizer, model)
        settings = {
            **dataclasses.asdict(config),
            "leave_out": list(leave_out),
            "initial_weights": initial_weights,
            **describe_data(config, data),
        }
        run = TrainingRun(
            trainer,
            output,
            plan_stages(config.stages, config.batch_size),
            config.batch_size,
            make_batches(config, data, tokenizer, leave_out, workers, start_timeout),
            configuration=settings,
            save_every=save_every,
            evaluate=validation_scores(config, data, validation_data, model, tokenizer),
            evaluate_every=evaluate_every,
            progress=progress,
            complete=completed,
        )
        run.train(resume, extend)
        finish_run(model, output, tokenizer)
        return model


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.contrastive",
        usage="%(prog)s --config NAME --data DATA --output FOLDER [options]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(parser, CONFIGS)
    add_run_arguments(parser)
    add_overrides(parser)
    return parser.parse_args(arguments)


def main() -> None:
    """Trains."""
    options = parse()
    with said_plainly():
        config = with_overrides(CONFIGS[options.config], options)
        if options.list_settings:
            print_settings(config)
            return
        arguments = start_run(options, config)
    with said_plainly(OF_A_RUN, AFTER_STOP):
        train(config, **arguments)


if __name__ == "__main__":
    main()
