"""Small tasks of every kind of the harness, and a model that always gives the same answers."""

import json
import random

from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask

from runner.spec.request import Completion
from runner.tasks.harness.task import HarnessTask

NUM_DOCUMENTS = 40


def encode(text):
    return [1, *(2 + ord(character) for character in text)]


class CannedModel(LM):
    """Answers by the text of the prompt: sometimes right, sometimes wrong, and always the same."""

    def loglikelihood(self, requests, disable_tqdm=False):
        return [self.score_text(*request.args) for request in requests]

    def generate_until(self, requests, disable_tqdm=False):
        return [self.continue_text(request.args[0]) for request in requests]

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise NotImplementedError

    @staticmethod
    def score_text(context, continuation):
        rng = random.Random(context + continuation)
        return -rng.uniform(1, 20), rng.random() < 0.3

    @staticmethod
    def continue_text(context):
        return random.Random(context).choice([" the red lamp", " 4", "it is 7.", " 12 \n", "The answer is 3"])


def make_config(tmp_path, **changes):
    rng = random.Random(5)
    rows = [
        {"q": f"{i} + {i % 7}?", "a": rng.choice(["4", "7", "12", "3"]), "label": i % 3} for i in range(NUM_DOCUMENTS)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "task": "sums",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(path)}, "cache_dir": str(tmp_path / "cache")},
        "test_split": "test",
        "fewshot_split": "test",
        "doc_to_text": "Q: {{q}}\nA:",
        "doc_to_target": "a",
        **changes,
    }


GENERATIVE = {
    "output_type": "generate_until",
    "generation_kwargs": {"until": ["\n", "."], "max_gen_toks": 9},
    "filter_list": [
        {"name": "whole", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]},
        {
            "name": "number",
            "filter": [{"function": "regex", "regex_pattern": "(\\d+)"}, {"function": "take_first"}],
        },
    ],
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}
CHOICES = {
    "output_type": "multiple_choice",
    "doc_to_target": "label",
    "doc_to_choice": ["four", "seven", "a dozen"],
    "metric_list": [
        {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True},
        {"metric": "mcc", "aggregation": "matthews_corrcoef", "higher_is_better": True},
    ],
}
CONTINUATION = {
    "output_type": "loglikelihood",
    "metric_list": [
        {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
        {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
    ],
}


def make_task(config, **arguments):
    return HarnessTask(config["task"], ConfigurableTask(config=config), **arguments)


def answer(task):
    """Return completions of a task's requests, with the answers of `CannedModel`."""
    completions = []
    for request in task.requests(encode, max_model_len=4096, vocab_size=2000):
        text = "".join(chr(token_id - 2) for token_id in request.prompt_token_ids[1:])
        known = {"request_id": request.request_id, "sample_id": request.sample_id, "kind": request.kind}
        known["num_prompt_tokens"] = len(request.prompt_token_ids)
        if request.kind == "generate":
            completion = Completion(**known, text=CannedModel.continue_text(text))
        else:
            num_context = request.num_context_tokens - 1
            loglikelihood, is_greedy = CannedModel.score_text(text[:num_context], text[num_context:])
            completion = Completion(**known, loglikelihood=loglikelihood, is_greedy=is_greedy)
        completions.append(completion)
    return completions
