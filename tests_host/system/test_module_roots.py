"""New root certificates prove themselves before the old ones go (guide 7.11, decision D13)."""

import pytest
from cryptography import x509

from tests_host.certificates import self_signed
from tests_host.system.conftest import connect, next_event, reset

UNTRUSTED = b"ERR14 UNABLE TO CONNECT server certificate not trusted"


@pytest.fixture(scope="module")
def foreign():
    """A root that has signed nothing here, as PEM."""
    return self_signed("Another Root", ca=True)


def give(module, pem):
    """Set RootCA."""
    value = pem.strip().replace(b"\n", b"\\A")
    assert module.command(b"AT+CONF RootCA=" + value) == b"OK"


def roots(module):
    """Whether the roots are on trial or proven."""
    return module.command(b"AT+DIAG INFO root-ca")[3:]


def again(module):
    assert module.command(b"AT+DISCONNECT") == b"OK 0 DISCONNECTED"
    connect(module)


def test_roots_that_work_replace_the_old_ones(module, cloud, foreign):
    # With one more, because a set that is the present one is no new one.
    give(module, foreign + (cloud.state / "ca.pem").read_bytes())
    assert roots(module) == b"trial"
    connect(module)
    assert roots(module) == b"proven"
    assert "not trusted" not in module.console()
    reset(module)
    assert roots(module) == b"proven"
    # And they are the ones in use: alone, without the factory's.
    connect(module)
    assert module.console().count("session: opening") == 2


def test_roots_that_do_not_work_leave_the_old_ones_in_use(module, cloud, foreign):
    give(module, foreign)
    assert roots(module) == b"trial"
    for number in (1, 2):
        if number == 1:
            connect(module)
        else:
            again(module)
        assert roots(module) == b"trial"
        log = module.console()
        assert log.count("RootCA on trial: b'server certificate not trusted'") == number
    reset(module)
    connect(module)
    # Each try counts as one CONNECT: no back-off grows from it.
    assert module.command(b"AT+DIAG INFO connections") == b"OK 1"
    # The right ones end the trial.
    give(module, foreign + (cloud.state / "ca.pem").read_bytes())
    again(module)
    assert roots(module) == b"proven"


def test_a_server_that_neither_vouches_for_is_refused(module, cloud, foreign):
    give(module, foreign)
    cloud.control.fault("server-certificate", which="wrong-ca")
    assert module.command(b"AT+CONNECT", timeout=60) == UNTRUSTED
    assert roots(module) == b"trial"
    cloud.control.clear()
    connect(module)


@pytest.mark.parametrize(
    ("which", "cause"),
    [
        ("expired", b"server certificate expired"),
        ("wrong-name", b"server certificate is for another name"),
    ],
)
def test_a_bad_server_is_refused_with_the_old_ones_too(module, cloud, foreign, which, cause):
    give(module, foreign + (cloud.state / "ca.pem").read_bytes())
    cloud.control.fault("server-certificate", which=which)
    reply = module.command(b"AT+CONNECT", timeout=60)
    assert reply == b"ERR14 UNABLE TO CONNECT " + cause
    assert roots(module) == b"trial"


@pytest.mark.parametrize(("begin", "end"), [(-10, -5), (10, 20)])
def test_a_root_of_the_right_name_and_the_wrong_date_locks_nobody_out(
    module, cloud, foreign, begin, end
):
    present = x509.load_pem_x509_certificate((cloud.state / "ca.pem").read_bytes())
    # Nobody looks at the signature of a root.
    give(module, self_signed("root", like=present, ca=True, days=(begin, end)))
    connect(module)
    assert roots(module) == b"trial"


def test_a_power_cut_while_the_new_ones_take_over(module, cloud, foreign):
    """The old or the new set, and a connection with either."""
    for operation in (1, 2, 3):
        bundle = foreign * operation + (cloud.state / "ca.pem").read_bytes()
        give(module, bundle)
        module.fail_after(operation)
        module.write(b"AT+CONNECT\n")
        try:
            module.read_line(timeout=5)
        except TimeoutError:
            assert module.get("state") == "off"
        module.fail_after(0)
        module.power_cut()
        module.power_on()
        assert next_event(module) == b"OK 2 0 STARTUP"
        assert roots(module) in (b"trial", b"proven")
        connect(module)
        assert roots(module) == b"proven"
