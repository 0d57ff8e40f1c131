from runner.analysis.advice.tariff import parse_tariff
from runner.display.text.costs import describe_costs, name_costs

ROW = {"token_kind": "output", "kwh_per_good_request": None}


def test_a_missing_pue_is_said() -> None:
    said = list(describe_costs([ROW], parse_tariff(price="0.25/kWh")))
    assert said == [
        "Of a million output tokens. Tariff: 0.25/kWh.",
        "kWh are the energy of the GPU in the whole window. The energy of the host is not in them.",
        "No --pue is given, so cooling and power supplies are not in them either.",
    ]


def test_prompt_tokens_are_named() -> None:
    said = list(describe_costs([ROW | {"token_kind": "prompt"}], parse_tariff(pue="1")))
    assert said[0] == "Of a million prompt tokens, since these tasks generate none. Tariff: PUE 1."
    assert "times the PUE of 1." in said[1]


def test_a_blocks_table_names_its_tariff() -> None:
    assert name_costs(parse_tariff(price="0.25/kWh")) == "tariff: 0.25/kWh · kWh: energy of the GPU, without the host"
    assert name_costs(parse_tariff(pue="1.2")) == "tariff: PUE 1.2 · kWh: energy of the GPU × PUE, without the host"
