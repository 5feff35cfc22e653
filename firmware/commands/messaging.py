"""Messaging (guide 4.1; decisions D5, D15, D18, D19, D26 to D28)."""

from firmware.at.errors import (
    NO_CONNECTION,
    PARAMETER,
    TOPIC_RANGE,
    TOPIC_UNDEFINED,
    AtError,
)
from firmware.cloud.session import Refused, SessionError
from firmware.messages import TopicError, check_filter, check_topic, resolve


def _index(module, command):
    """The topic index of a command that needs one."""
    index = command.suffix
    if index is None:
        raise AtError(PARAMETER)
    if not 1 <= index <= module.profile.max_topic:
        raise AtError(TOPIC_RANGE)
    return index


def _name(module, index):
    """The string of Topic<index>."""
    name = module.messages.topics[index]
    if not name:
        raise AtError(TOPIC_UNDEFINED)
    return name


def _checked(module, name, check):
    """The complete topic for `name`, when the cloud would take it."""
    topic = resolve(name, module.config.get(b"TopicRoot"))
    try:
        check(topic)
    except TopicError as error:
        raise AtError(PARAMETER, str(error).encode())
    return topic


def _connected(module):
    if not module.session.connected():
        raise AtError(NO_CONNECTION)


def _qos(module):
    return int(module.config.get(b"QoS"))


async def send(module, command):
    """SEND topic message, SEND# message (4.1.3, 4.1.4)."""
    if command.suffix is None:
        space = command.buf.find(b" ", command.start, command.end)
        stop = command.end if space < 0 else space
        name = bytes(memoryview(command.buf)[command.start : stop])
        if not name:
            raise AtError(PARAMETER, b"empty topic")
        command.start = min(stop + 1, command.end)
    else:
        name = _name(module, _index(module, command))
    topic = _checked(module, name, check_topic)
    _connected(module)
    try:
        await module.session.publish(topic, command.data(), _qos(module))
    except SessionError as error:
        raise AtError(NO_CONNECTION, error.args[0])


def get(module, command):
    """GET, GET0, GET# (4.1.5 to 4.1.7). Needs no connection."""
    messages = module.messages
    if not command.suffix:
        message = messages.get() if command.suffix is None else messages.get_from(0)
        return (message[0], b" ", message[1]) if message else None
    index = _index(module, command)
    # What has arrived on a topic that is no longer in the list can still be read.
    message = messages.get_from(index)
    if not message:
        _name(module, index)
        return None
    return message[1]


async def subscribe(module, command):
    """SUBSCRIBE# (4.1.8)."""
    index = _index(module, command)
    pattern = _checked(module, _name(module, index), check_filter)
    _connected(module)
    messages = module.messages
    # Known before it is asked for: messages may arrive before the cloud has confirmed.
    before = messages.filter_of(index)
    messages.subscribed(index, pattern)
    try:
        await module.session.subscribe(pattern, _qos(module))
    except Refused:
        messages.subscribed(index, before)
        raise AtError(PARAMETER, b"subscription refused")
    except SessionError as error:
        messages.subscribed(index, before)
        raise AtError(NO_CONNECTION, error.args[0])


async def unsubscribe(module, command):
    """UNSUBSCRIBE# (4.1.9): ends what SUBSCRIBE# began, though the topic may have changed."""
    index = _index(module, command)
    pattern = module.messages.filter_of(index)
    if pattern is None:
        pattern = _checked(module, _name(module, index), check_filter)
    _connected(module)
    # Another index may still want the same messages: for the cloud it is one subscription.
    if not module.messages.shared(index, pattern):
        try:
            await module.session.unsubscribe(pattern)
        except SessionError as error:
            raise AtError(NO_CONNECTION, error.args[0])
    module.messages.subscribed(index, None)
