"""An index of the harness with one name of every kind."""

from runner.tasks.harness.index import IndexEntry

SMALL_INDEX = {
    "boolq": IndexEntry(kind="task", path="super_glue/boolq/default.yaml", output_type="multiple_choice"),
    "gsm8k": IndexEntry(kind="task", path="gsm8k/gsm8k.yaml", output_type="generate_until"),
    "wikitext": IndexEntry(kind="task", path="wikitext/wikitext.yaml", output_type="loglikelihood_rolling"),
    "mmlu": IndexEntry(kind="group", path=None, output_type="", members=("mmlu_anatomy", "mmlu_virology")),
}
