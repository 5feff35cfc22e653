"""Which function serves which command.

    word, with "?" for a query -> (module in this package, function, takes a suffix, a parameter)

A function is called with the application's parts (`app.Module`) and the `at.grammar.Command`.
"""

COMMANDS = {
    # 3.6 Power and connection control
    b"CONNECT": ("power", "connect", False, False),
    b"CONNECT?": ("power", "connect_query", False, False),
    b"DISCONNECT": ("power", "disconnect", False, False),
    b"SLEEP": ("sleep", "sleep", True, True),
    b"CONFMODE": ("power", "confmode", False, True),
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
    # 9 Additional services
    b"TIME?": ("services", "time_query", False, False),
    b"WHERE?": ("services", "where_query", False, False),
}

# Modules that are needed once in a while, and what only they use: imported for one command and
# dropped after it (`at.engine`).
OCCASIONAL = (
    "firmware.commands.sleep",
    "firmware.commands.diag",
    "firmware.commands.diag_info",
    "firmware.commands.diag_network",
    "firmware.commands.certificates",
    "lib.icmp",
    "lib.der",
    "lib.p256",
    "lib.rsa",
    "lib.x509",
)
