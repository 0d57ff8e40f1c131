"""Our own small tasks: YAML of the harness's kind with its data beside it, read without an index or a network.

`data_files` in the YAML are relative to this folder, so they are found wherever the package is installed.
"""

import json
from pathlib import Path
from typing import Any

OWN_FOLDER = Path(__file__).parent


def own_task_names() -> tuple[str, ...]:
    """Return the names of the tasks that come with the package."""
    return tuple(sorted(path.stem for path in OWN_FOLDER.glob("*.yaml")))


def read_own_config(name: str) -> dict[str, Any]:
    """Return the YAML of one of our tasks, as it is in the file."""
    import yaml  # type: ignore[import-untyped]

    config: dict[str, Any] = yaml.safe_load((OWN_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return config


def load_own_task(name: str) -> Any:
    """Return the harness's task object (lm_eval.api.task.ConfigurableTask) for one of our tasks.

    The rows stay in memory. No cache of a data set is written, so several workers may load a task at once.
    """
    import datasets  # type: ignore[import-untyped]
    from lm_eval.api.task import ConfigurableTask

    class OwnTask(ConfigurableTask):  # type: ignore[misc]
        def download(self, dataset_kwargs: dict[str, Any], **_: Any) -> None:
            self.dataset = {
                split: datasets.Dataset.from_list(read_rows(OWN_FOLDER / path))
                for split, path in dataset_kwargs["data_files"].items()
            }

    return OwnTask(config=read_own_config(name))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the documents of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
