"""Nodes, partitions, reservations and accounts from recorded output."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamecrest.server.schedulers.reading.sharing import EVERYTHING, Kind
from flamecrest.server.schedulers.slurm.resources import (
    is_controller_up,
    parse_accounts,
    parse_nodes,
    parse_partitions,
    parse_private,
    parse_reservations,
)
from flamecrest.server.schedulers.values import Account, Node, Partition, Reservation

from .recorded import SEP, output


def test_nodes_once_each_with_all_partitions():
    found = parse_nodes(output("nodes").text(), SEP)
    assert [node.name for node in found] == ["nid001", "nid002", "nid003", "nid004"]
    assert found[0] == Node(
        name="nid001",
        states=("IDLE",),
        cpus=8,
        partitions=("debug", "long"),
        sockets=8,
        cores=1,
        threads=1,
        cpu_load=2.60,
        free_memory=22913,
        allocated_memory=0,
        allocated_cpus=0,
        idle_cpus=8,
        features="fake",
        address="127.0.0.1",
        hostname="vm",
        weight=1,
    )
    assert found[3].states == ("RESERVED",)


def test_a_node_that_is_down_tells_no_load():
    text = output("nodes").text().replace("idle", "down*").replace("2.60", "N/A").replace("22913", "N/A")
    node = parse_nodes(text, SEP)[0]
    assert (node.states, node.cpu_load, node.free_memory) == (("DOWN", "OFFLINE"), None, None)


def test_partitions():
    expected = [Partition("debug", "UP", 32, 4), Partition("long", "UP", 32, 4)]
    for name in ("partitions", "partitions-hidden", "013-scontrol-show-partitions-oneliner"):
        assert parse_partitions(output(name).text()) == expected
    assert parse_partitions("No partitions in the system\n") == []


def test_reservations():
    text = output("015-scontrol-show-reservations-oneliner").text()
    assert parse_reservations(text) == [Reservation("testres", "nid004", 1795293308, 1826829308, "active")]
    assert parse_reservations(output("reservations").text())[0].nodes == "nid004"
    assert parse_reservations("No reservations in the system\n") == []


def test_a_reservation_with_an_odd_name():
    text = output("015-scontrol-show-reservations-oneliner").text()
    odd = (
        text.replace("=testres", "=day of State=x")
        .replace("Features=(null)", "Features=gpu")
        .replace("nid004 ", "(null) ")
    )
    (found,) = parse_reservations(odd)
    assert (found.name, found.nodes, found.features, found.state) == ("day of State=x", "", "gpu", "active")


def test_accounts():
    expected = [Account("other", default=False), Account("test", default=True)]
    text = output("accounts").text()
    assert parse_accounts(text) == expected
    assert parse_accounts(output("accounts-unknown-user").text()) == []


def test_an_account_of_several_clusters_is_listed_once():
    text = "ann|a|a|Here\nann|a|a|here\nann|a|b|there\nnoise\nann|a||here\n"
    assert parse_accounts(text) == [Account("a", default=True), Account("b", default=False)]


def test_one_controller_that_is_up_is_enough():
    assert is_controller_up(output("ping").text())
    assert is_controller_up(output("002-scontrol-ping").text())
    assert not is_controller_up(output("216-ctld-down-scontrol-ping").text())
    assert is_controller_up("Slurmctld(primary) at UPsala is DOWN\nSlurmctld(backup) at b is UP\n")
    assert is_controller_up("Slurmctld(primary/backup) at a/b are UP/DOWN")
    assert not is_controller_up("Slurmctld(primary) at UP is DOWN\n")
    assert not is_controller_up("")


@given(st.text(max_size=200))
def test_any_text_is_read(text):
    assert isinstance(parse_partitions(text), list)
    assert isinstance(parse_reservations(text), list)
    assert isinstance(parse_accounts(text), list)
    assert isinstance(parse_nodes(text, SEP), list)
    assert isinstance(is_controller_up(text), bool)


@pytest.mark.parametrize(
    ("line", "private"),
    [
        ("PrivateData             = none", {Kind.ACCOUNTS}),
        ("PrivateData             = jobs,usage,users", {Kind.ACCOUNTS, Kind.JOBS}),
        ("PrivateData             = jobs,nodes", {Kind.ACCOUNTS, Kind.JOBS, Kind.NODES}),
        ("PrivateData             = partitions", {Kind.ACCOUNTS, Kind.PARTITIONS, Kind.NODES}),
        ("PrivateData = accounts,cloud,reservations", {Kind.ACCOUNTS, Kind.RESERVATIONS}),
        ("ClusterName             = cluster", EVERYTHING),
    ],
)
def test_private_data(line, private):
    head = "Configuration data as of now\nMCSParameters           = (null)\nPriorityType = a\n"
    assert parse_private(f"{head}{line}\nProctrackType = b\n") == private


@pytest.mark.parametrize("line", ["", "MCSParameters           = enforced,select,privatedata:groupA|groupB\n"])
def test_jobs_are_private_with_labels_that_keep_them_so(line):
    assert parse_private(f"{line}PrivateData             = none\n") == {Kind.ACCOUNTS, Kind.JOBS}


def test_private_data_of_the_recorded_cluster():
    assert parse_private(output("local-cluster").stdout.decode()) == {Kind.ACCOUNTS}
