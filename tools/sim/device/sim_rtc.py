"""machine.RTC: the virtual clock and the 2,048 bytes that outlive deep sleep and resets."""

from sim_host import builtin_time, disk, registers

_MEMORY = 2048
_FILE = "/rtc.bin"

# Seconds from 1970, the PC's epoch, to 2000, the chip's.
EPOCH = 946684800


def now_us():
    """Microseconds since 2000-01-01 on the virtual clock."""
    return builtin_time.time_ns() // 1000 + registers.get("clock_offset_us")


def seconds_of(year, month, day, hour, minute, second):
    """Seconds since 2000 of a date; the month and all smaller fields may overflow."""
    year += (month - 1) // 12
    month = (month - 1) % 12 + 1
    # Years are counted from March, so that the leap day is the last of its year.
    if month <= 2:
        year -= 1
        month += 12
    era = year // 400
    year %= 400
    days = (153 * (month - 3) + 2) // 5 + day - 1
    days += year * 365 + year // 4 - year // 100 + era * 146097 - 730425
    return ((days * 24 + hour) * 60 + minute) * 60 + second


def fields_of(seconds):
    """(year, month, day, hour, minute, second, weekday, yearday) of seconds since 2000."""
    return tuple(builtin_time.gmtime(seconds + EPOCH))[:8]


class RTC:
    def __init__(self, id=0):
        if id != 0:
            raise ValueError("invalid RTC")

    def datetime(self, datetimetuple=None):
        if datetimetuple is None:
            now = now_us()
            f = fields_of(now // 1000000)
            return f[0], f[1], f[2], f[6], f[3], f[4], f[5], now % 1000000
        year, month, day, _, hour, minute, second, us = datetimetuple
        then = seconds_of(year, month, day, hour, minute, second) * 1000000 + us
        registers.put("clock_offset_us", then - builtin_time.time_ns() // 1000)
        return None

    def init(self, _datetime):
        self.datetime(_datetime)

    def memory(self, *data):
        if not data:
            try:
                file = disk.open(_FILE, "rb")
            except OSError:
                return b""
            kept = file.read()
            file.close()
            return kept
        if len(data[0]) > _MEMORY:
            raise ValueError("buffer too long")
        file = disk.open(_FILE, "wb")
        file.write(data[0])
        file.close()
        return None
