"""Correlations as a heat map."""


def test_a_heat_map_marks_what_holds(plots):
    [plot] = [plot for plot in plots if plot.name == "features-energy_j"]
    texts = {(row["feature"], row["model"]): row["text"] for row in plot.data["cells"]}
    assert texts["num_prompt_tokens", "all models"] == texts["num_prompt_tokens", "small"] == "+0.90*"
    assert texts["mtld", "small"] == "−0.10"
