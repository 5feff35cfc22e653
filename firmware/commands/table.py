"""Which function serves which command.

    word, with "?" for a query -> (module in this package, function, takes a suffix, a parameter)

A function is called with the application's parts (`module.Module`) and the `at.grammar.Command`.
"""

COMMANDS = {
    # 3.6 Power and connection control
    b"CONNECT": ("power", "connect", False, False),
    b"CONNECT?": ("diagnosis", "connect_query", False, False),
    b"DISCONNECT": ("power", "disconnect", False, False),
    b"SLEEP": ("sleep", "sleep", True, True),
    b"CONFMODE": ("confmode", "confmode", False, True),
    b"RESET": ("power", "reset", False, False),
    b"FACTORY_RESET": ("power", "factory_reset", False, False),
    # 4 Messaging
    b"SEND": ("messaging", "send", True, True),
    b"GET": ("messaging", "get", True, False),
    b"SUBSCRIBE": ("messaging", "subscribe", True, False),
    b"UNSUBSCRIBE": ("messaging", "unsubscribe", True, False),
    # 5 Configuration
    b"CONF": ("configuration", "conf", False, True),
    b"CONF?": ("configuration", "conf_query", False, True),
    # 6 Events
    b"EVENT?": ("diagnosis", "event_query", False, False),
    b"STAT?": ("diagnosis", "stat_query", False, True),
    b"DIAG": ("diag", "diag", False, True),
    # 7 Updates
    b"OTA": ("ota", "ota", False, True),
    b"OTA?": ("ota", "ota_query", False, False),
    # 9 Additional services
    b"TIME?": ("services", "time_query", False, False),
    b"WHERE?": ("services", "where_query", False, False),
}

# Modules that are needed once in a while, and what only they use: imported for one command and
# dropped after it (`at.engine`). One text, since names that stand alone are kept for ever.
OCCASIONAL = """
 firmware.commands.certificates firmware.commands.certificate_reply firmware.commands.confmode
 firmware.commands.diag firmware.commands.diag_info firmware.commands.diag_network
 firmware.commands.ota firmware.commands.power firmware.commands.services firmware.commands.sleep
 firmware.cloud.failure firmware.cloud.newcomer firmware.cloud.opening firmware.cloud.provisioning
 firmware.config.change firmware.config.checks firmware.config.trial firmware.net.fix
 firmware.net.seldom firmware.sleeping firmware.config.renewal firmware.ota.desk
 lib.csr lib.der lib.der_writer lib.hmac_sha256 lib.icmp lib.keypair lib.p256 lib.p256_key lib.pem
 lib.rsa lib.sntp lib.x509
""".replace("\n", " ")
