"""create_ppo_trainer makes a PPOTrainer that trains, from a model and some prompts."""

from __future__ import annotations

import copy
import importlib
import shutil

import pytest
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedTokenizerFast,
)

from rldk.errors import SettingError
from rldk.ingest import ingest_runs
from rldk.integrations.trl import EventWriterCallback, create_ppo_trainer
from rldk.integrations.trl.ppo import NoPPOError, ppo_class

WARNINGS_OF_TRL = (
    "ignore:You are importing from .trl.experimental.:UserWarning",
    "ignore:Using a non-tuple sequence for multidimensional indexing:UserWarning",  # below 0.25
)


def has_ppo():
    """Whether the installed TRL still has PPO."""
    try:
        return ppo_class() is not None
    except NoPPOError:
        return False


pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not has_ppo(), reason="this TRL has no PPO"),
    *(pytest.mark.filterwarnings(each) for each in WARNINGS_OF_TRL),
]

PROMPTS = ["good bad", "left right", "up down", "one"] * 4


@pytest.fixture
def config(tmp_path):
    """A PPOConfig for two small steps."""
    home = importlib.import_module(ppo_class().__module__)
    return home.PPOConfig(
        output_dir=str(tmp_path / "out"),
        total_episodes=8,
        per_device_train_batch_size=4,
        num_ppo_epochs=2,
        response_length=4,
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
    )


@pytest.fixture
def make(tiny_model, config):
    """Make a trainer on the tiny model; options go to create_ppo_trainer."""

    def create(**options):
        model, tokenizer = tiny_model
        usual = {"model_name": model, "ppo_config": config, "processing_class": tokenizer}
        usual["train_dataset"] = Dataset.from_dict({"prompt": PROMPTS})
        return create_ppo_trainer(**(usual | options))

    return create


def classifier(folder, **options):
    """A sequence classifier on the backbone of a causal model."""
    return AutoModelForSequenceClassification.from_pretrained(folder, **({"num_labels": 1} | options))


@pytest.fixture
def model_with_tokenizer(tiny_model, tmp_path):
    """The tiny model's folder, with a tokenizer that AutoTokenizer takes for a Qwen2 model: of bytes."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ("<pad>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())[:13])
    of_bytes = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, []))
    of_bytes.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    shutil.copytree(tiny_model[0], tmp_path / "model")
    special = {"pad_token": "<pad>", "eos_token": "<eos>"}
    PreTrainedTokenizerFast(tokenizer_object=of_bytes, **special).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_model_and_prompts_are_enough(model_with_tokenizer, config):
    """It trains, and what it logs is beside the config's output."""
    before = copy.deepcopy(config.to_dict())
    create_ppo_trainer(model_with_tokenizer, config, Dataset.from_dict({"prompt": ["!#", "$"] * 4})).train()
    table = ingest_runs(f"{config.output_dir}/rldk_events.jsonl")
    assert table["step"].tolist() == [1, 2]
    measured = ["reward_mean", "kl_seq_mean", "entropy_mean", "clip_frac", "policy_loss", "loss", "lr"]
    assert table[measured].notna().all(axis=None)
    assert config.to_dict() == before


def test_the_file_has_the_guides_names(make, tmp_path):
    """At event_log_path, whatever its folder."""
    path = tmp_path / "a" / "events.jsonl"
    make(event_log_path=path).train()
    text = path.read_text()
    assert all(f'"name":"{name}"' in text for name in ("kl", "reward_mean", "entropy", "clip_frac", "lr"))


def test_a_model_object_is_taken_as_it_is(make, tiny_model):
    """It is the policy; its reference is a copy."""
    policy = AutoModelForCausalLM.from_pretrained(tiny_model[0])
    trainer = make(model_name=policy)
    assert trainer.policy_model is policy
    trainer.train()


def test_without_a_reward_model_the_rewards_are_said_to_mean_nothing(make, caplog):
    """The head is untrained, and the same for the same seed."""
    heads = [make().reward_model.score.weight for _ in range(2)]
    assert "MEAN NOTHING" in caplog.text
    assert (heads[0] == heads[1]).all()


def test_the_made_reward_model_has_the_policys_backbone(make):
    """And the value model starts as its copy."""
    trainer = make()
    policy = trainer.policy_model.base_model.state_dict()
    reward = trainer.reward_model.base_model.state_dict()
    assert all((policy[name] == reward[name]).all() for name in policy)
    assert trainer.value_model is not trainer.reward_model
    assert (trainer.value_model.score.weight == trainer.reward_model.score.weight).all()


def test_given_models_are_taken(make, tiny_model, caplog):
    """Nothing is made, and nothing is warned of."""
    model = tiny_model[0]
    reward, value = classifier(model), classifier(model)
    reference = AutoModelForCausalLM.from_pretrained(model)
    caplog.clear()
    trainer = make(reward_model=reward, value_model=value, ref_model=reference)
    assert (trainer.reward_model, trainer.value_model, trainer.ref_model) == (reward, value, reference)
    assert [r for r in caplog.records if r.name.startswith("rldk")] == []
    trainer.train()


def test_models_may_be_given_by_where_they_are(make, tiny_model, tmp_path, config):
    """As a folder, or in the config's reward_model_path."""
    reward = classifier(tiny_model[0])
    reward.save_pretrained(tmp_path / "reward")
    trainer = make(reward_model=tmp_path / "reward")
    assert (trainer.reward_model.score.weight == reward.score.weight).all()
    config.reward_model_path = str(tmp_path / "reward")
    assert (make().reward_model.score.weight == reward.score.weight).all()


def test_a_supplied_event_writer_replaces_ours(make, tmp_path, caplog):
    """And the path that is then of no use is told."""
    mine = EventWriterCallback(tmp_path / "mine.jsonl")
    trainer = make(callbacks=[mine], event_log_path=tmp_path / "other.jsonl")
    assert [c for c in trainer.callback_handler.callbacks if isinstance(c, EventWriterCallback)] == [mine]
    assert "other.jsonl is not used" in caplog.text


@pytest.mark.parametrize(
    "columns",
    [
        {"query": PROMPTS},
        {"text": PROMPTS, "label": list(range(16))},
        {"input_ids": [[3, 4]] * 16},
        {"input_ids": [[3, 4]] * 16, "attention_mask": [[1, 1]] * 16, "prompt": PROMPTS},
        {"prompt": [[{"role": "user", "content": text}] for text in PROMPTS]},
    ],
    ids="+".join,
)
def test_prompts_may_come_in_many_columns(make, tiny_model, columns, caplog):
    """PPO gets token ids alone, and what is left out is told."""
    tokenizer = copy.deepcopy(tiny_model[1])
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    trainer = make(train_dataset=Dataset.from_dict(columns), processing_class=tokenizer)
    assert trainer.train_dataset.column_names == ["input_ids"]
    assert all(len(row) > 0 for row in trainer.train_dataset["input_ids"])
    assert ("left out" in caplog.text) == (len(columns) > 1)


def test_an_evaluation_set_generates_samples(make, capsys):
    """Its prompts are tokenized like the others."""
    trainer = make(eval_dataset=Dataset.from_dict({"prompt": PROMPTS[:8]}))
    assert trainer.args.num_sample_generations == 10
    trainer.train()
    assert "model response" in capsys.readouterr().out


def test_the_tokenizer_is_prepared_on_a_copy(make, tiny_model):
    """PPO pads on the left, with a token that is not the end's."""
    tokenizer = copy.deepcopy(tiny_model[1])
    tokenizer.padding_side = "right"
    tokenizer.pad_token = tokenizer.eos_token
    trainer = make(processing_class=tokenizer)
    theirs = trainer.processing_class
    assert (theirs.padding_side, theirs.pad_token) == ("left", "[PAD]")
    assert (tokenizer.padding_side, tokenizer.pad_token) == ("right", "<eos>")
    trainer.train()


def test_other_arguments_go_to_the_trainer(make, tiny_model):
    """Whatever PPOTrainer takes."""
    collator = DataCollatorWithPadding(tiny_model[1])
    assert make(data_collator=collator).data_collator is collator


def test_too_few_prompts_are_told_at_once(make):
    """TRL would wait for ever for a full batch."""
    with pytest.raises(SettingError, match=r"3 prompts.*4 at least"):
        make(train_dataset=Dataset.from_dict({"prompt": PROMPTS[:3]}))


def test_prompts_without_tokens_are_told_at_once(make):
    """Generation would fail deep inside."""
    with pytest.raises(SettingError, match="4 prompts without any token, the first at 1"):
        make(train_dataset=Dataset.from_dict({"prompt": ["good", ""] * 4}))


def test_a_dataset_without_prompts_is_told_at_once(make):
    """The error names the columns that would do."""
    with pytest.raises(SettingError, match="prompt, query, text"):
        make(train_dataset=Dataset.from_dict({"question": PROMPTS}))


@pytest.mark.parametrize(
    "reward", [lambda texts: [0.0] * len(texts), "two labels"], ids=["function", "labels"]
)
def test_a_reward_model_that_cannot_score_is_told_at_once(make, tiny_model, reward):
    """TRL would fail deep inside."""
    reward = classifier(tiny_model[0], num_labels=2) if reward == "two labels" else reward
    with pytest.raises(SettingError, match="num_labels=1"):
        make(reward_model=reward)


def test_a_model_from_nowhere_needs_a_tokenizer(make, tiny_model):
    """The error names the argument."""
    policy = AutoModelForCausalLM.from_config(AutoModelForCausalLM.from_pretrained(tiny_model[0]).config)
    policy.config._name_or_path = ""
    with pytest.raises(SettingError, match="processing_class"):
        make(model_name=policy, processing_class=None)


def classes():
    """Arguments of a wrong kind, by the argument that the error names."""
    prompts = Dataset.from_dict({"prompt": PROMPTS})
    return [
        ("ppo_config", {"ppo_config": None}),
        ("train_dataset", {"train_dataset": None}),
        ("train_dataset", {"train_dataset": PROMPTS}),
        ("train_dataset", {"train_dataset": prompts.to_iterable_dataset()}),
        ("train_dataset", {"train_dataset": Dataset.from_dict({"prompt": [1, 2, 3, 4]})}),
        ("train_dataset", {"train_dataset": Dataset.from_dict({"input_ids": ["a", "b", "c", "d"]})}),
        ("callbacks", {"callbacks": EventWriterCallback("x.jsonl")}),
    ]


@pytest.mark.parametrize(("named", "options"), classes())
def test_an_argument_of_a_wrong_kind_is_told_by_its_name(make, named, options):
    """No riddle from the depths of TRL."""
    with pytest.raises(SettingError, match=named):
        make(**options)


def test_a_policy_that_cannot_write_is_told(make, tiny_model):
    """A classifier is no policy."""
    with pytest.raises(SettingError, match="model_name"):
        make(model_name=classifier(tiny_model[0]))
