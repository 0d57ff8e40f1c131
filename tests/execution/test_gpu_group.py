"""GPU groups of a run and the hosts that they are on."""

from dataclasses import replace
from pathlib import Path

from runner.execution.gpu_group import GpuGroup, count_on_host
from runner.hardware.factory import open_gpu
from runner.timebase import VirtualTime


def test_groups_of_one_host_are_counted_and_of_one_name_on_two_nodes_are_not(tmp_path: Path) -> None:
    info = open_gpu("sim", 0, VirtualTime(), read_only=True, state_dir=tmp_path).info
    first = GpuGroup(gpu_request="sim", info=info, label="n0:0", host="a", node_id="n0")
    groups = [first, replace(first, label="n0:1"), replace(first, label="n1:0", node_id="n1"), replace(first, host="b")]
    assert [count_on_host(groups, group) for group in groups] == [2, 2, 1, 1]
