"""Rows in the columns of the public data sets, and answers to prompts over them."""

from runner.spec.request import Completion


def make_boolq(num_rows):
    return [
        {"question": f"is thing {i} round", "passage": f"Thing {i} rolls.", "idx": i, "label": i % 2}
        for i in range(num_rows)
    ]


def make_hellaswag(num_rows):
    return [
        {
            "ind": i,
            "activity_label": "Baking",
            "ctx_a": f"A cook [substeps] breaks egg {i}.",
            "ctx_b": "he",
            "ctx": f"A cook breaks egg {i}. he",
            "endings": ["stirs it.", "sings [title] loudly.", "flies off.", "eats the bowl."],
            "source_id": f"activitynet~{i}",
            "split": "train",
            "split_type": "indomain",
            "label": str(i % 4),
        }
        for i in range(num_rows)
    ]


def make_truthful(num_rows):
    return [
        {
            "type": "Adversarial",
            "category": "Misconceptions",
            "question": f"What happens if you swallow seed {i}?",
            "best_answer": "It passes through you",
            "correct_answers": ["It passes through you", "Nothing happens"],
            "incorrect_answers": ["A tree grows inside you"],
            "source": "",
        }
        for i in range(num_rows)
    ]


def make_narrative(num_rows):
    """Return three questions about each story, one after another. Every second story has no marks of begin and end."""

    def make_row(i):
        story, question = divmod(i, 3)
        marks = ("CHAPTER ONE", "THE END") if story % 2 == 0 else ("", "")
        return {
            "document": {
                "id": f"story{story}",
                "kind": "gutenberg",
                "url": "",
                "file_size": 1,
                "word_count": 9,
                "start": marks[0],
                "end": marks[1],
                "summary": {"text": f"In short, ship {story} sinks.", "tokens": [], "url": "", "title": ""},
                "text": f"licence CHAPTER ONE Ship {story} sails and sinks. THE END licence again",
            },
            "question": {"text": f"What becomes of ship {story}, question {question}?", "tokens": []},
            "answers": [{"text": "It sinks", "tokens": []}, {"text": "The ship goes down", "tokens": []}],
        }

    return [make_row(i) for i in range(num_rows)]


STAND_INS = {
    ("aps/super_glue", "boolq"): (make_boolq, ("train", "validation")),
    ("Rowan/hellaswag", None): (make_hellaswag, ("train", "validation")),
    ("truthfulqa/truthful_qa", "generation"): (make_truthful, ("validation",)),
    ("deepmind/narrativeqa", None): (make_narrative, ("validation",)),
}
NUM_ROWS = 12


def encode(text):
    return [1, *(2 + ord(character) for character in text)]


def complete(task, answer):
    """Answer every prompt of a generating task with `answer(sample number)`."""
    return [
        Completion(
            request_id=request.request_id,
            sample_id=request.sample_id,
            kind="generate",
            num_prompt_tokens=1,
            text=answer(number),
        )
        for number, request in enumerate(task.requests(encode, max_model_len=8192, vocab_size=2000))
    ]
