"""How is a PPOTrainer made from a model and some prompts, on every TRL that has one?"""

from __future__ import annotations

import copy
import importlib
import warnings
from collections.abc import Iterable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
import transformers  # its Auto classes are heavy, and loaded when they are used

from rldk.errors import MissingDependencyError, NoPPOError, SettingError
from rldk.integrations.trl.event_writer import EventWriterCallback
from rldk.redact import logger

if TYPE_CHECKING:
    from types import ModuleType

    from datasets import Dataset
    from transformers import (
        PreTrainedModel,
        PreTrainedTokenizerBase,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

_logger = logger(__name__)

EVENT_LOG: Final = "rldk_events.jsonl"
TEXT_COLUMNS: Final = ("prompt", "query", "text")
_RIGHT: Final = object()
_HOMES: Final = ("trl.experimental.ppo", "trl")  # the second up to 0.25; 0.26 to 0.28 deprecate it there


def create_ppo_trainer(
    model_name: str | Path | PreTrainedModel,
    ppo_config: TrainingArguments,
    train_dataset: Dataset,
    callbacks: Iterable[TrainerCallback] | None = None,
    event_log_path: str | Path | None = None,
    **overrides: Any,  # noqa: ANN401  # whatever the installed PPOTrainer takes
) -> Trainer:
    """Make TRL's PPOTrainer, with an EventWriterCallback attached.

    Works on TRL 0.23 to 1.12.0. Neither the config nor the tokenizer nor the dataset is changed; the
    trainer gets copies.

    Args:
        model_name: The policy: a model id, a folder, or a causal language model.
        ppo_config: The PPOConfig.
        train_dataset: The prompts: token ids in a column `input_ids`, or text or messages in a column
            `prompt`, `query` or `text`. Other columns are left out.
        callbacks: More callbacks. An EventWriterCallback among them replaces the one made here.
        event_log_path: The EventWriterCallback's file; by default `rldk_events.jsonl` in the config's
            `output_dir`.
        **overrides: Further arguments of PPOTrainer. Of these, `reward_model` and `value_model` are
            sequence classifiers with one label, or where to load one; without a `reward_model` and
            without a `reward_model_path` in the config, the rewards come from an untrained head on the
            policy's own backbone, which is good for a demonstration only; the `value_model` starts as a
            copy of the reward model. `ref_model` is a causal language model, and by default a copy of
            the policy. `processing_class` is the tokenizer, by default the policy's. `eval_dataset` is
            like `train_dataset`; without one no samples are generated.

    Raises:
        NoPPOError: The installed TRL has no PPO any more.
        MissingDependencyError: TRL is not installed.
        SettingError: An argument is not what PPO needs.
    """
    trainer_class = ppo_class()
    _check_arguments(ppo_config, train_dataset, callbacks)
    config = _copied(ppo_config)
    policy = _loaded(model_name, transformers.AutoModelForCausalLM)
    _check_policy(policy)
    tokenizer = _tokenizer(overrides.pop("processing_class", None), policy)
    reward_model = _reward_model(overrides.pop("reward_model", None), policy, config)
    eval_dataset = overrides.pop("eval_dataset", None)
    if eval_dataset is None:
        config.num_sample_generations = 0  # TRL 0.23 fails on None with any more
    prompts = _tokenized("train_dataset", train_dataset, tokenizer)
    _check_prompts(prompts, config)
    return trainer_class(
        args=config,
        model=policy,
        ref_model=_loaded(overrides.pop("ref_model", None), transformers.AutoModelForCausalLM),
        reward_model=reward_model,
        value_model=_value_model(overrides.pop("value_model", None), reward_model),
        processing_class=tokenizer,
        train_dataset=prompts,
        eval_dataset=None if eval_dataset is None else _tokenized("eval_dataset", eval_dataset, tokenizer),
        callbacks=_with_event_writer(callbacks, event_log_path, config),
        **overrides,
    )


def ppo_class() -> type[Trainer]:
    """Find the installed TRL's PPOTrainer, wherever it lives.

    Raises:
        NoPPOError: The installed TRL has no PPO any more.
        MissingDependencyError: TRL is not installed.
    """
    if find_spec("trl") is None:
        raise MissingDependencyError("create_ppo_trainer", "trl", "trl")
    for home in _HOMES:
        found = getattr(_module(home), "PPOTrainer", None)
        if found is not None:
            return found  # type: ignore[no-any-return]  # TRL is not typed here
    raise NoPPOError(metadata.version("trl"))


def _module(name: str) -> ModuleType | None:
    """Import a part of TRL; None where this TRL has no such part."""
    try:
        with warnings.catch_warnings():
            # That it lives there is our business and not the user's
            warnings.filterwarnings("ignore", "You are importing from 'trl.experimental'")
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise  # TRL misses something else
        return None


def _check_arguments(config: object, dataset: object, callbacks: object) -> None:
    """Tell what is of a wrong kind, before something deep in TRL does."""
    if not hasattr(config, "num_ppo_epochs"):
        raise SettingError("ppo_config", type(config).__name__, "a PPOConfig")
    _check_dataset("train_dataset", dataset)
    if callbacks is not None and not isinstance(callbacks, Iterable):
        raise SettingError("callbacks", type(callbacks).__name__, "a list of callbacks")


def _check_dataset(name: str, dataset: object) -> None:
    if not (hasattr(dataset, "column_names") and hasattr(dataset, "__len__")):
        found = type(dataset).__name__
        raise SettingError(name, found, "a datasets.Dataset that is not streamed, such as Dataset.from_dict")


def _check_policy(policy: object) -> None:
    can_generate = getattr(policy, "can_generate", None)
    if not (callable(can_generate) and can_generate()):
        allowed = "a causal language model, its id or its folder"
        raise SettingError("model_name", type(policy).__name__, allowed)


def _copied(config: TrainingArguments) -> TrainingArguments:
    """Copy a config as far as trainers write into it; its device state stays shared."""
    copied = copy.copy(config)
    nested = {
        name: copy.copy(value) for name, value in vars(config).items() if isinstance(value, (dict, list))
    }
    vars(copied).update(nested)
    return copied


def _loaded(
    model: PreTrainedModel | str | Path | None, auto_class: type[PreTrainedModel], **options: int
) -> PreTrainedModel:
    return auto_class.from_pretrained(model, **options) if isinstance(model, (str, Path)) else model


def _tokenizer(
    given: PreTrainedTokenizerBase | str | None, policy: PreTrainedModel
) -> PreTrainedTokenizerBase:
    """Give a tokenizer as PPO needs it: padding on the left, with a token that is not the end's."""
    tokenizer = copy.deepcopy(given) if given is not None else policy.config._name_or_path  # noqa: SLF001  # the only place that tells
    if not tokenizer:
        raise SettingError("processing_class", None, "the tokenizer: the model was not loaded from anywhere")
    if isinstance(tokenizer, (str, Path)):
        tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id in {None, tokenizer.eos_token_id}:
        tokenizer.add_special_tokens({"pad_token": "[PAD]"})  # as TRL's own PPO example; the id is masked
        _logger.info("the tokenizer has no padding token of its own; [PAD] is added to a copy of it")
    return tokenizer


def _reward_model(
    given: PreTrainedModel | str | Path | None, policy: PreTrainedModel, config: TrainingArguments
) -> PreTrainedModel:
    given = _reward_model_path(config) if given is None else given
    if given is not None:
        return _checked(
            "reward_model", _loaded(given, transformers.AutoModelForSequenceClassification, num_labels=1)
        )
    _logger.warning(
        "No reward_model was given: the rewards come from an untrained head and MEAN NOTHING. "
        "That is good for trying things out only; pass reward_model=... to train for something."
    )
    return _checked("reward_model", _untrained_classifier(policy, config.seed))


def _reward_model_path(config: TrainingArguments) -> str | None:
    """The config's `reward_model_path`, where the user has set it: the default is some model of TRL's."""
    path: str | None = config.reward_model_path
    return None if path == type(config).reward_model_path else path


def _value_model(
    given: PreTrainedModel | str | Path | None, reward_model: PreTrainedModel
) -> PreTrainedModel:
    if given is None:
        return copy.deepcopy(reward_model)
    return _checked(
        "value_model", _loaded(given, transformers.AutoModelForSequenceClassification, num_labels=1)
    )


def _untrained_classifier(policy: PreTrainedModel, seed: int) -> PreTrainedModel:
    """Put a fresh score head on a copy of the policy's backbone; the same seed gives the same head."""
    shape = copy.deepcopy(policy.config)
    shape.num_labels = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = transformers.AutoModelForSequenceClassification.from_config(shape)
    classifier.base_model.load_state_dict(policy.base_model.state_dict())
    return classifier.to(device=policy.device, dtype=policy.dtype)


def _checked(name: str, model: PreTrainedModel) -> PreTrainedModel:
    """Tell early what TRL would tell by an AttributeError."""
    is_scorer = hasattr(model, "score") and hasattr(model, "base_model_prefix")
    if not is_scorer or model.config.num_labels != 1:
        allowed = "a model such as AutoModelForSequenceClassification.from_pretrained(..., num_labels=1)"
        raise SettingError(name, type(model).__name__, f"{allowed} that scores by a head called score")
    return model


def _tokenized(name: str, dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Leave only `input_ids`, the one column that PPO can take."""
    _check_dataset(name, dataset)
    columns = list(dataset.column_names)
    source = next((column for column in ("input_ids", *TEXT_COLUMNS) if column in columns), None)
    if source is None:
        raise SettingError(
            name, columns, f"a dataset with input_ids, or with text in {', '.join(TEXT_COLUMNS)}"
        )
    dropped = [column for column in columns if column != source]
    if dropped:
        _logger.warning("%s: PPO takes prompts alone; left out %s", name, ", ".join(dropped))
    wrong = next((row for row in dataset[source] if not _is_prompt(row, source)), _RIGHT)
    if wrong is not _RIGHT:
        kind = "lists of token ids" if source == "input_ids" else "texts or lists of messages"
        raise SettingError(f"{name}[{source!r}]", wrong, kind)
    if source == "input_ids":
        return dataset.remove_columns(dropped)
    return dataset.map(lambda row: _token_ids(row[source], tokenizer), remove_columns=columns)


def _is_prompt(row: object, column: str) -> bool:
    if column == "input_ids":
        if isinstance(row, list):
            return all(isinstance(token, int) for token in row)
        return hasattr(row, "dtype")  # an array or a tensor, as Dataset.set_format gives them
    return isinstance(row, str) or (isinstance(row, list) and all(isinstance(each, dict) for each in row))


def _token_ids(
    prompt: str | list[dict[str, str]], tokenizer: PreTrainedTokenizerBase
) -> dict[str, list[int]]:
    if isinstance(prompt, str):
        return {"input_ids": tokenizer(prompt)["input_ids"]}
    text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    return {"input_ids": tokenizer(text, add_special_tokens=False)["input_ids"]}


def _check_prompts(prompts: Dataset, config: TrainingArguments) -> None:
    """Tell early what would fail in mid-training, or wait for ever: PPO draws full batches only."""
    least = config.per_device_train_batch_size * config.gradient_accumulation_steps
    if len(prompts) < least:
        raise SettingError("train_dataset", f"{len(prompts)} prompts", f"{least} at least, for one batch")
    empty = [number for number, ids in enumerate(prompts["input_ids"]) if not len(ids)]
    if empty:
        found = f"{len(empty)} prompts without any token, the first at {empty[0]}"
        raise SettingError("train_dataset", found, "prompts of which the tokenizer makes something")


def _with_event_writer(
    callbacks: Iterable[TrainerCallback] | None,
    path: str | Path | None,
    config: TrainingArguments,
) -> list[TrainerCallback]:
    given = list(callbacks or ())
    if not any(isinstance(each, EventWriterCallback) for each in given):
        return [*given, EventWriterCallback(path or Path(config.output_dir) / EVENT_LOG)]
    if path is not None:
        _logger.warning("event_log_path=%s is not used: callbacks has an EventWriterCallback", path)
    return given
