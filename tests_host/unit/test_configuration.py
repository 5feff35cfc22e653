"""The dictionary and its store: chapter 5, D10, D11."""

import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from firmware.at.errors import AtError
from firmware.config import checks
from firmware.config.dictionary import Dictionary
from firmware.config.store import Store
from firmware.profile import V05


def make(folder):
    dictionary = Dictionary(Store(str(folder)), V05, [b""] * 17)
    dictionary.provide(b"Version", b"1.2.3")
    dictionary.provide(b"EndPoint", b"localhost")
    dictionary.provide(b"TopicRoot", b"uid")
    return dictionary


@pytest.fixture
def config(tmp_path):
    return make(tmp_path)


def code(function, *args):
    with pytest.raises(AtError) as caught:
        function(*args)
    return caught.value.code


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (b"", b"x", 9),
        (b"a" * 17, b"x", 9),
        (b"\xff" * 17, b"x", 9),
        (b"Topic_1", b"x", 10),
        (b"SSID ", b"x", 10),
        (b"\xc3\xa4", b"x", 10),
        (b"Nothing", b"x", 11),
        (b"Topic0", b"x", 11),
        (b"Topic01", b"x", 11),
        (b"Topic17", b"x", 11),
        (b"Topic", b"x", 11),
        (b"APN", b"x", 11),
        (b"VERSION", b"HELLO", 12),
        (b"Certificate", b"pem", 12),
        (b"ipv4address", b"1.2.3.4", 12),
        (b"EndPoint", b"", 4),
        (b"EndPoint", b"a b", 4),
        (b"EndPoint", b"host:0", 4),
        (b"EndPoint", b"host:65536", 4),
        (b"EndPoint", b"host:", 4),
        (b"SSID", b"x" * 33, 4),
        (b"Passphrase", b"short", 4),
        (b"Passphrase", b"x" * 64, 4),
        (b"Defender", b"-1", 4),
        (b"Defender", b"1.5", 4),
        (b"QoS", b"2", 4),
        (b"TopicRoot", b"", 4),
        (b"TopicRoot", b"a/#", 4),
        (b"Topic1", b"x" * 257, 4),
        (b"Topic1", b"\xff", 4),
    ],
)
def test_refused_assignments(config, key, value, expected):
    assert code(config.assign, key, value) == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"endpoint", b"abc-ats.iot.eu-west-1.amazonaws.com"),
        (b"Endpoint", b"localhost:8884"),
        (b"TOPICROOT", b"building1/floor1"),
        (b"Defender", b"3600"),
        (b"SSID", b"caf\xc3\xa9 = \\ \n"),
        (b"SSID", b""),
        (b"Topic1", b"sensor1/state"),
        (b"topic16", b"/a/+/b"),
        (b"QoS", b"0"),
    ],
)
def test_accepted_assignments(config, key, value):
    config.assign(key, value)
    assert config.query(key) == (value, False)
    assert config.query(key.upper()) == (value, False)


def test_what_is_kept_and_what_is_not(config, tmp_path):
    for key, value in ((b"SSID", b"lab"), (b"Topic3", b"t"), (b"QoS", b"0")):
        config.assign(key, value)
    again = make(tmp_path)
    assert again.query(b"SSID")[0] == b"lab"
    assert again.query(b"Topic3")[0] == b""
    assert again.query(b"EndPoint")[0] == b"localhost"


def test_the_passphrase_is_write_only(config):
    config.assign(b"Passphrase", b"12345678")
    assert code(config.query, b"Passphrase") == 13
    assert config.get(b"Passphrase") == b"12345678"


def test_the_same_value_is_not_written_again(tmp_path):
    store = Store(str(tmp_path))
    config = Dictionary(store, V05, [b""] * 17)
    for _ in range(3):
        config.assign(b"SSID", b"lab")
    assert store.writes == 1


def test_a_store_that_refuses_leaves_the_old_value(config, monkeypatch):
    config.assign(b"SSID", b"old")

    def refuse(name, value):
        raise OSError(28, "no space")

    monkeypatch.setattr(config._store, "write", refuse)
    assert code(config.assign, b"SSID", b"new") == 4
    assert config.query(b"SSID")[0] == b"old"


@given(st.binary(max_size=300))
def test_store_round_trip(tmp_path_factory, value):
    store = Store(str(tmp_path_factory.mktemp("store")))
    store.write("k", value)
    assert store.read("k") == value
    assert store.lost == []


@given(st.data())
def test_a_damaged_file_is_lost_and_never_believed(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("store")
    store = Store(str(folder))
    store.write("k", b"some value")
    content = bytearray((folder / "k").read_bytes())
    position = data.draw(st.integers(0, len(content) * 8 - 1))
    content[position // 8] ^= 1 << position % 8
    (folder / "k").write_bytes(content)
    assert store.read("k") is None
    assert store.lost == ["k"]
    store.write("k", b"new")
    assert (store.read("k"), store.lost) == (b"new", [])


def test_a_file_cut_short_and_an_empty_one_are_lost(tmp_path):
    store = Store(str(tmp_path))
    store.write("k", b"some value")
    content = (tmp_path / "k").read_bytes()
    for size in range(len(content)):
        (tmp_path / "k").write_bytes(content[:size])
        assert store.read("k") is None


def test_a_value_that_the_key_cannot_have_is_lost(config):
    config._store.write("EndPoint", b"not a host")
    config._store.write("SSID", b"fine")
    assert config.get(b"EndPoint") == b"localhost"
    assert config.get(b"SSID") == b"fine"
    assert config._store.lost == ["EndPoint"]


def test_a_factory_reset_forgets_what_table_2_says(config, tmp_path):
    values = {
        b"EndPoint": b"other.example",
        b"TopicRoot": b"root",
        b"Defender": b"60",
        b"SSID": b"lab",
        b"Passphrase": b"12345678",
        b"NTPServer": b"ntp.example",
    }
    for key, value in values.items():
        config.assign(key, value)
    for key in (b"OTAcertificate", b"HOTAcertificate", b"RootCA"):
        config.keep_certificates(key, [b"0\x03\x02\x01\x05"])
    config.trial_worked()
    config._store.write("time", b"1")
    config.clear()
    for again in (config, make(tmp_path)):
        for key, value in values.items():
            assert again.get(key) != value
        assert again.get(b"OTAcertificate") == [b"0\x03\x02\x01\x05"]
        assert again.get(b"RootCA") == [b"0\x03\x02\x01\x05"]
        assert not again.get(b"HOTAcertificate")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["OTAcertificate", "RootCA", "time"]


OLD = {"a": b"a", "b": b"b", "c": b"c", "fresh": None}
NEW = {"a": None, "b": b"other", "c": None, "fresh": b"x" * 700}


@pytest.mark.parametrize("step", range(1, 14))
def test_a_change_is_all_or_nothing(tmp_path, monkeypatch, step):
    """The power goes at any call of the filesystem; the next start finishes or knows nothing."""
    store = Store(str(tmp_path))
    for name in ("a", "b", "c", "kept"):
        store.write(name, name.encode())
    calls = []

    class Cut(BaseException):
        pass

    def limited(real):
        def call(*args):
            calls.append(args)
            if len(calls) >= step:
                raise Cut
            return real(*args)

        return call

    for name in ("rename", "remove"):
        monkeypatch.setattr(os, name, limited(getattr(os, name)))
    try:
        store.change(NEW)
    except Cut:
        pass
    else:
        assert step > 6
    monkeypatch.undo()
    again = Store(str(tmp_path))
    assert {name: again.read(name) for name in OLD} == (OLD if step == 1 else NEW)
    assert again.read("kept") == b"kept"
    assert not (tmp_path / "change").exists()


@pytest.mark.parametrize("after", ["write", "rename", "remove", "change"])
def test_a_change_that_ran_out_of_memory_is_finished_before_anything_else(tmp_path, after):
    store = Store(str(tmp_path))
    store.write("a.trial", b"old")
    real = store.put
    calls = []

    def scarce(name, value):
        calls.append(name)
        # It tries twice.
        if len(calls) in (2, 3):
            raise MemoryError
        real(name, value)

    store.put = scarce
    with pytest.raises(MemoryError):
        store.change({"a.trial": b"new", "b": b"new"})
    assert store.read("a.trial") == b"old"
    if after == "write":
        store.write("a.trial", b"newest")
    elif after == "rename":
        store.rename("a.trial", "a")
    elif after == "remove":
        store.remove("a.trial")
    else:
        store.change({"a.trial": b"newest"})
    again = Store(str(tmp_path))
    left = {"rename": None, "remove": None}.get(after, b"newest")
    assert (again.read("a.trial"), again.read("b")) == (left, b"new")
    assert again.read("a") == (b"new" if after == "rename" else None)
    assert not (tmp_path / "change").exists()


def test_what_cannot_be_changed_is_told_and_the_rest_is_done(tmp_path):
    store = Store(str(tmp_path))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "full").write_bytes(b"")
    with pytest.raises(OSError):
        store.change({"a": b"1", "b": b"2", "c": b"3"})
    assert store.lost == ["b"]
    assert (store.read("a"), store.read("c")) == (b"1", b"3")


def test_a_store_without_a_folder_says_so(tmp_path):
    (tmp_path / "config").write_bytes(b"a file where the folder should be")
    store = Store(str(tmp_path / "config"))
    assert store.fault == 17
    assert store.read("x") is None
    with pytest.raises(OSError):
        store.write("x", b"")
    assert Store(str(tmp_path / "no" / "folder")).fault == 2


def test_new_roots_are_on_trial_until_they_have_worked(config, tmp_path):
    old, new = b"0\x03\x02\x01\x05", b"0\x03\x02\x01\x06"
    config.provide(b"RootCA", lambda: [old])
    assert config.trial_roots() == []
    config.keep_certificates(b"RootCA", [new, new])
    assert config.trial_roots() == [new, new]
    assert config.get(b"RootCA") == [old]
    # The host reads what it has written.
    assert config.query(b"RootCA") == ([new, new], True)
    config.trial_worked()
    assert (config.trial_roots(), config.get(b"RootCA")) == ([], [new, new])
    assert make(tmp_path).get(b"RootCA") == [new, new]


def test_damaged_certificates_are_lost(config):
    config.provide(b"OTAcertificate", lambda: [b"factory"])
    config._store.write("OTAcertificate", b"no DER")
    assert config.get(b"OTAcertificate") == [b"factory"]
    assert config._store.lost == ["OTAcertificate"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"host", (b"host", 8883)),
        (b"a.b-c.D:1", (b"a.b-c.D", 1)),
        (b"h:65535", (b"h", 65535)),
    ],
)
def test_split_host(value, expected):
    assert checks.split_host(value, 8883) == expected


@given(st.binary(max_size=20))
def test_split_host_never_fails_otherwise(value):
    try:
        host, port = checks.split_host(value, 8883)
    except ValueError:
        return
    assert host
    assert 0 < port < 65536


@given(st.binary(max_size=12) | st.text(max_size=6).map(str.encode))
@example(b"a\xed\xa0\x80b")
@example(b"\xc0\x80")
@example(b"\xf4\x90\x80\x80")
def test_text_is_what_a_strict_decoder_takes(data):
    try:
        good = "\0" not in data.decode()
    except UnicodeDecodeError:
        good = False
    assert checks.text(data) == good
