import datasets
import pytest

from tests.tasks.study.stand_ins import NUM_ROWS, STAND_INS


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch, tmp_path):
    """Put rows in place of the hub's. Returns a list that gets the arguments of each request for a data set."""
    asked = []

    def load_dataset(path, name=None, **arguments):
        asked.append((path, arguments))
        make_rows, splits = STAND_INS[path, name]
        return datasets.DatasetDict({split: datasets.Dataset.from_list(make_rows(NUM_ROWS)) for split in splits})

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    return asked
