"""Certificates as the host reads them (7.10.1)."""

import pytest
from cryptography import x509


def block(stage, key):
    """The lines behind `OK pem`, to the end of the last certificate."""
    stage.must(b"AT+CONF? " + key + b" pem", b"OK pem")
    lines = [stage.line()]
    while lines[-1] != b"-----END CERTIFICATE-----":
        lines.append(stage.line())
    return lines


@pytest.mark.clause("7.10.1", "7.10.1.1")
@pytest.mark.parametrize("key", [b"Certificate", b"OTAcertificate", b"RootCA"])
def test_a_block_that_can_be_cut_and_pasted(stage, key):
    lines = block(stage, key)
    stage.silence()
    assert lines[0] == b"-----BEGIN CERTIFICATE-----"
    assert {len(line) for line in lines[1:-2]} == {64}
    assert len(lines[-2]) <= 64
    pem = b"\n".join(lines) + b"\n"
    x509.load_pem_x509_certificate(pem)
    # The same as on one line, with the escapes of a reply.
    stage.must(b"AT+CONF? " + key, b"OK " + pem.replace(b"\n", b"\\A"))


@pytest.mark.clause("7.10.1.1", "7.10.2.1", "7.10")
def test_hotacertificate_there_and_back(stage):
    stage.new_module()
    stage.must(b"AT+CONF HOTAcertificate=" + stage.name("pem host-first"))
    lines = block(stage, b"hotacertificate")
    assert b"\n".join(lines) + b"\n" == stage.certificates.pem("host-first")
    # What was read can be pasted.
    stage.must(b"AT+FACTORY_RESET")
    stage.restarted()
    stage.must(b"AT+CONF HOTAcertificate=pem\n" + b"\n".join(lines))
    stage.must(b"AT+CONF? HOTAcertificate", b"OK " + stage.name("pem host-first"))
