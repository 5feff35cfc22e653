"""Stands for MicroPython's `esp32` module: partitions with rollback, NVS, wake sources."""

import sim_flash as _flash
from sim_host import Later as _Later, config as _config
from sim_sleep import wake as _wake

_image = _Later("sim_image")
_nvs = _Later("sim_nvs")

WAKEUP_ALL_LOW = False
WAKEUP_ANY_HIGH = True
HEAP_EXEC = 1
HEAP_DATA = 4

_OTA_SUBTYPE = 0x10


def __getattr__(name):
    # NVS is loaded when it is first asked for.
    if name != "NVS":
        raise AttributeError(name)
    return _nvs.NVS


def _rows(label=None):
    return [row for row in _config["partitions"] if label is None or row[0] == label]


def _app_slots():
    return [row for row in _config["partitions"] if row[1] == 0 and row[2] >= _OTA_SUBTYPE]


def _otadata(code=-261, name="ESP_ERR_NOT_FOUND"):
    # Its address; a table without slots has none.
    rows = _rows("otadata")
    if not rows:
        raise OSError(code, name) if name else OSError(code)
    return rows[0][3]


class Partition(_flash.Area):
    BOOT = 0
    RUNNING = 1
    TYPE_APP = 0
    TYPE_DATA = 1

    def __init__(self, _id, _block_size=4096):
        if _id == Partition.RUNNING:
            _id = _config["running"]
        elif _id == Partition.BOOT:
            slots = _app_slots()
            slot = _image.selected(_otadata(2, None), len(slots))
            _id = slots[slot or 0][0]
        rows = _rows(_id)
        if not rows:
            raise OSError(2)
        if _block_size <= 0 or _block_size & (_block_size - 1) or _block_size > 4096:
            raise ValueError("block size")
        self._label, self._type, self._subtype = rows[0][:3]
        super().__init__(rows[0][3], rows[0][4], _block_size)

    def __repr__(self):
        return "<Partition type=%d, subtype=%d, address=%d, size=%d, label=%s, encrypted=0>" % (
            self._type,
            self._subtype,
            self._address,
            self._size,
            self._label,
        )

    @staticmethod
    def find(type=0, subtype=0xFF, *, label=None, block_size=4096):
        return [
            Partition(row[0], block_size)
            for row in _rows(label)
            if row[1] == type and subtype in (0xFF, row[2])
        ]

    def info(self):
        return self._type, self._subtype, self._address, self._size, self._label, False

    def set_boot(self):
        if self._type != Partition.TYPE_APP:
            raise OSError(-258, "ESP_ERR_INVALID_ARG")
        if not _image.is_valid(self._address, self._size):
            raise OSError(-5379, "ESP_ERR_OTA_VALIDATE_FAILED")
        _image.select(_otadata(), self._subtype - _OTA_SUBTYPE, len(_app_slots()))

    def get_next_update(self):
        # The slot behind this one; the first behind the last one, and for what is no slot.
        slots = _app_slots()
        if not slots:
            raise OSError(2)
        for i, row in enumerate(slots[:-1]):
            if row[0] == self._label:
                return Partition(slots[i + 1][0])
        return Partition(slots[0][0])

    @classmethod
    def mark_app_valid_cancel_rollback(cls):
        if not _image.mark_valid(_otadata()):
            raise OSError(-1, "ESP_FAIL")


def wake_on_ext0(_pin=None, _level=None):
    if _config["chip"] == "esp32c3":
        raise AttributeError("wake_on_ext0 does not exist on this chip")
    _wake.ext0 = None if _pin is None else (_rtc_pin(_pin), 1 if _level else 0)


def wake_on_ext1(_pins=None, _level=None):
    if _config["chip"] == "esp32c3":
        raise AttributeError("wake_on_ext1 does not exist on this chip")
    _wake.ext1 = None if not _pins else ([_rtc_pin(pin) for pin in _pins], 1 if _level else 0)


def wake_on_gpio(_pins=None, _level=None):
    _wake.gpio = None if not _pins else ([pin._id for pin in _pins], 1 if _level else 0)


_RTC_PINS = {
    "esp32": (0, 2, 4, 12, 13, 14, 15, 25, 26, 27, 32, 33, 34, 35, 36, 37, 38, 39),
    "esp32s3": tuple(range(22)),
    "esp32c3": (0, 1, 2, 3, 4, 5),
}


def _rtc_pin(pin):
    if pin._id not in _RTC_PINS[_config["chip"]]:
        raise ValueError("invalid pin")
    return pin._id


def idf_heap_info(capabilities):
    # (total, free, largest free block, least ever free): fixed figures of a board at rest.
    return [(170616, 94256, 53248, 94256)] if capabilities & HEAP_DATA else []
