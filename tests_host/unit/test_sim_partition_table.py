"""Partition tables of the virtual board: their form in flash, their fit, the record of folders."""

import hypothesis
import pytest
from hypothesis import strategies as st

from firmware.ota import folders
from tools.fleet import factory_layout
from tools.sim import app_record, flash, partition_table

TABLES = partition_table.TABLES


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_read_back_as_it_was_written(name):
    packed = partition_table.pack(TABLES[name])
    erased = packed.ljust(partition_table.SIZE, b"\xff")
    assert partition_table.parse(erased) == TABLES[name]
    assert partition_table.name_of(partition_table.parse(erased)) == name
    # The fleet tool reads the same out of a firmware file.
    assert factory_layout.partitions(bytes(0x8000) + erased, 0x8000) == [
        (p.type, p.label, p.address, p.size) for p in TABLES[name]
    ]


@hypothesis.given(st.sampled_from(sorted(TABLES)), st.data())
def test_a_damaged_table_is_none(name, data):
    packed = partition_table.pack(TABLES[name])
    # The rest of the digest's entry is not looked at.
    end = len(packed) - 32
    at = data.draw(st.sampled_from([*range(end), end, end + 1, *range(end + 16, end + 32)]))
    bit = data.draw(st.integers(0, 7))
    damaged = bytearray(packed)
    damaged[at] ^= 1 << bit
    assert partition_table.parse(bytes(damaged)) == ()
    assert partition_table.parse(packed[:at]) == ()


@hypothesis.given(st.binary(max_size=400))
def test_any_bytes_are_a_table_or_none(data):
    assert isinstance(partition_table.parse(data), tuple)


@pytest.mark.parametrize("name", TABLES)
def test_partitions_are_whole_sectors_that_do_not_overlap(name):
    end = partition_table.ADDRESS + 0x1000
    for place in TABLES[name]:
        assert place.address >= end
        assert place.address % flash.SECTOR == place.size % flash.SECTOR == 0
        end = place.address + place.size
    assert end == flash.SIZE
    vfs = partition_table.find(TABLES[name], "vfs")
    assert [
        layout.name
        for layout in factory_layout.LAYOUTS.values()
        if (layout.address, layout.size) == (vfs.address, vfs.size)
    ]


def test_the_slots_of_each_table():
    found = {
        name: [p.label for p in partition_table.slots(table)] for name, table in TABLES.items()
    }
    assert found == {"ota": ["ota_0", "ota_1"], "shared": ["ota_0", "ota_1"], "plain": []}


@pytest.mark.parametrize("name", TABLES)
def test_a_chip_keeps_its_table(tmp_path, name):
    flash.Flash.create(tmp_path / "flash.bin", TABLES[name]).close()
    chip = flash.Flash(tmp_path / "flash.bin")
    assert chip.table == TABLES[name]
    assert chip.read("vfs") == b"\xff" * chip.find("vfs").size
    chip.close()


def test_the_record_is_the_firmware_s():
    for letter in "ab":
        for state in app_record.STATES:
            assert app_record.pack(letter, state) == folders.pack(letter, state.encode())
