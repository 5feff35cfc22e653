"""`fleet factory`: what it refuses, and that it does all of an order or nothing."""

import pytest

from tests_host.unit import factory_parts as parts
from tests_host.unit.factory_parts import ENDPOINT, fleet, make, serials, things
from tools.cloud.registry import Registry
from tools.fleet import factory_image


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    return parts.make_cloud(tmp_path_factory.mktemp("cloud"))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def claim(tmp_path):
    return parts.make_claim(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--endpoint e", "no identity: give --cert"),
        ("", "no identity: give --cert"),
        ("PAIR", "say where the modules connect"),
        ("--endpoint e --cert CERT", "--cert and --key belong together"),
        ("--endpoint e --claim-key KEY", "--claim-cert and --claim-key belong together"),
        ("--endpoint e PAIR CLAIM", "these are two identities"),
        ("--endpoint e PAIR --identities .", "these are two identities"),
        ("--cloud CLOUD --identity birth PAIR", "are two identities"),
        ("--endpoint e PAIR --count 2", "one device certificate for 2 modules"),
        ("--endpoint e PAIR --template t", "no use without a claim"),
        ("--endpoint e CLAIM --claim-cert KEY", "the claim certificate is not a c"),
        ("--endpoint e --claim-cert CERT --claim-key KEY", "needs the name of a provisioning"),
        ("--endpoint e CLAIM --thing t", "gets its thing name from the template"),
        ("--endpoint e PAIR --about Kühl", "is not one line of"),
        ("--endpoint e/x PAIR", "endpoint 'e/x' is neither host nor host:port"),
        ("--endpoint e PAIR --ca LEAF", "the root CA is not a CA certificate"),
        ("--endpoint e PAIR --ca missing.pem", "missing.pem: No such file or directory"),
        ("--endpoint e PAIR --ota-cert KEY", "the OTA certificate is not a certificate"),
        ("--endpoint e PAIR --thing a/b", "thing name 'a/b' is not"),
        ("--endpoint e PAIR --serial ../b", "serial number '../b' is not"),
        ("--endpoint e --identities .", "--identities needs --serials"),
        ("--endpoint e --identities . --serial s", "certificates/s.pem: No such file"),
        ("--endpoint e PAIR --flash-size 8MB", "--flash-size goes with --micropython"),
        ("--endpoint e PAIR --micropython CERT", "does not begin as firmware"),
        ("--cloud CLOUD --count 0", "0 modules are not 1 to 10000"),
        ("--cloud CLOUD --start 2", "--prefix and --start go with --count"),
        ("--cloud CLOUD --count 1 --start -2", "--start is a number from 0 on"),
        ("--cloud CLOUD --count 1 --prefix x/", "serial number 'x/000001' is not"),
        ("--cloud CLOUD --count 2 --thing t", "are for one module"),
        ("--cloud CLOUD --count 2 --serials x.csv", "exclude each other"),
        ("--cloud CLOUD --serials x.csv", "x.csv: No such file or directory"),
        ("--cloud nowhere", "start the local cloud on nowhere first"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(cloud, claim, out, words, message):
    cert, key = claim[1], claim[3]
    known = {
        "CLOUD": [cloud],
        "PAIR": ["--cert", cert, "--key", key],
        "CLAIM": claim,
        "CERT": [cert],
        "KEY": [key],
        "LEAF": [cloud / "claim.pem"],
    }
    before = things(cloud)
    code, said = fleet(
        *("factory", "make", "--out", out),
        *[part for word in words.split() for part in known.get(word, [word])],
    )
    assert code == 1
    assert message in said
    assert said.startswith("Error: ")
    assert "PRIVATE" not in said
    assert not out.exists()
    assert things(cloud) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column `serial`"),
        ("name\nx\n", "has no column `serial`"),
        ("serial,color\nx,red\n", "may have the columns serial, thing and about, not"),
        ("serial,serial\nx,y\n", "may have the columns"),
        ("serial\n", "has 0 modules"),
        ("serial\na\nb\nA\n", "the serial number A is there twice"),
        ("serial,thing\na,t\nb,t\n", "the thing name t is there twice"),
        ("serial\na\nb/c\n", "serials.csv, line 3: the serial number 'b/c' is not"),
        ("serial,thing\na,t+\n", "line 2: the thing name 't+' is not"),
        ("serial,about\na,\xfc\n", "line 2: the About text"),
        ("serial,thing\na\n", "line 2: not as many fields"),
        ("serial\na,b\n", "line 2: not as many fields"),
        ('serial\n"a\n', "is no CSV file"),
    ],
)
def test_a_bad_list_is_refused_with_its_line(cloud, out, text, message):
    words = ("--out", out, "--cloud", cloud, "--serials", serials(out, text))
    code, said = fleet("factory", "make", *words)
    assert code == 1
    assert message in said
    assert not out.exists()


def test_a_list_that_is_no_text(cloud, out):
    path = out.parent / "serials.csv"
    path.write_bytes(b"serial\n\xff\xfe\n")
    code, said = fleet("factory", "make", "--out", out, "--cloud", cloud, "--serials", path)
    assert code == 1
    assert "is no CSV file" in said


def test_a_failure_in_the_middle_leaves_nothing(cloud, out):
    make(out, "--cloud", cloud, "--count", 1, "--prefix", "Z-", "--start", 3)
    before = things(cloud)
    again = out.parent / "again"
    code, said = fleet(
        *("factory", "make", "--out", again, "--cloud", cloud, "--count", "3", "--prefix", "Z-")
    )
    assert code == 1
    assert "the cloud has a thing Z-000003 already" in said
    assert things(cloud) == before
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_ctrl_c_in_the_middle_leaves_nothing(cloud, out, monkeypatch):
    before = things(cloud)
    build = factory_image.build
    images = []

    def stop(files, size):
        if images:
            raise KeyboardInterrupt
        images.append(build(files, size))
        return images[0]

    monkeypatch.setattr(factory_image, "build", stop)
    words = ("--out", out, "--cloud", cloud, "--count", "3", "--prefix", "C-")
    code, said = fleet("factory", "make", *words)
    assert (code, "Aborted" in said) == (1, True)
    assert images
    assert things(cloud) == before
    assert not list(out.parent.iterdir())


def test_a_registry_that_refuses_leaves_nothing(cloud, out, monkeypatch):
    before = things(cloud)
    add = Registry.add_thing

    def refuse(self, name):
        if name == "R-000002":
            raise OSError(28, "No space left on device", "registry")
        add(self, name)

    monkeypatch.setattr(Registry, "add_thing", refuse)
    words = ("--out", out, "--cloud", cloud, "--count", "2", "--prefix", "R-")
    code, said = fleet("factory", "make", *words)
    assert code == 1
    assert "registry: No space left" in said
    assert things(cloud) == before
    assert not list(out.parent.iterdir())


def test_an_older_order_is_not_overwritten(claim, out):
    out.mkdir()
    make(out, "--endpoint", ENDPOINT, *claim)
    image = (out / "images" / "module.bin").read_bytes()
    code, said = fleet("factory", "make", "--out", out, "--endpoint", ENDPOINT, *claim)
    assert code == 1
    assert "exists already" in said
    assert (out / "images" / "module.bin").read_bytes() == image
