"""The two radios of the client: a real one by `bleak`, and the virtual module's."""

import asyncio

from tools.fleet import ble_wire as wire
from tools.fleet.ble_client import ClientError

_SCAN_S = 15.0
_ATT_HEAD = 3


class VirtualLink:
    """To the virtual module in the folder `state`. mtu: what is asked for, None for none."""

    def __init__(self, state, mtu=247):
        from tools.sim.central import Central, CentralError

        self._error = CentralError
        self._wanted = mtu
        try:
            self.central = Central(state)
        except CentralError as error:
            raise ClientError(str(error)) from None

    @property
    def mtu(self):
        return self.central.mtu

    @property
    def connected(self):
        return self.central.connected

    async def _do(self, function, *arguments):
        try:
            return await asyncio.to_thread(function, *arguments)
        except self._error as error:
            raise ClientError(str(error)) from None

    async def connect(self):
        """Connect, and agree on an MTU."""
        await self._do(self.central.connect)
        if self._wanted:
            await self._do(self.central.exchange_mtu, self._wanted)

    async def read(self, uuid):
        """A characteristic's value."""
        return await self._do(self.central.read, uuid)

    async def write(self, uuid, value):
        """Write with response."""
        await self._do(self.central.write, uuid, value)

    async def notification(self, seconds):
        """The next (uuid, value), or None."""
        return await self._do(self.central.notification, seconds)

    async def close(self):
        """Be gone."""
        self.central.close()


class BleakLink:
    """By this computer's own Bluetooth. name: of the module, None for the first one found."""

    def __init__(self, name=None, seconds=_SCAN_S):
        try:
            import bleak
        except ImportError:
            raise ClientError(
                "the Python package bleak is missing: pip install bleak, or use --virtual"
            ) from None
        self._bleak = bleak
        self._name = name
        self._seconds = seconds
        self._client = None
        self._notified = asyncio.Queue()

    @property
    def mtu(self):
        # The client's own `mtu_size` says 23 on Linux whatever was agreed on.
        hello = self._client.services.get_characteristic(wire.HELLO)
        return hello.max_write_without_response_size + _ATT_HEAD

    @property
    def connected(self):
        return self._client is not None and self._client.is_connected

    def _is_wanted(self, device, advertisement):
        if wire.SERVICE not in [uuid.lower() for uuid in advertisement.service_uuids]:
            return False
        return self._name is None or self._name in (device.name, advertisement.local_name)

    async def connect(self):
        """Find the module, connect, and listen to all that it notifies."""
        try:
            device = await self._bleak.BleakScanner.find_device_by_filter(
                self._is_wanted, timeout=self._seconds
            )
            if device is None:
                raise ClientError(f"no module found within {self._seconds:.0f} s")
            self._client = self._bleak.BleakClient(device, disconnected_callback=self._gone)
            await self._client.connect()
            if self._client.services.get_characteristic(wire.HELLO) is None:
                raise ClientError("the device found is no module")
            await self._client.start_notify(wire.HELLO, self._heard)
        except (self._bleak.exc.BleakError, OSError, TimeoutError) as error:
            raise ClientError(f"Bluetooth: {error}") from None

    def _heard(self, _characteristic, value):
        self._notified.put_nowait((wire.HELLO, bytes(value)))

    def _gone(self, _client):
        # Wakes whoever waits.
        self._notified.put_nowait(None)

    async def read(self, uuid):
        """A characteristic's value."""
        try:
            return bytes(await self._client.read_gatt_char(uuid))
        except (self._bleak.exc.BleakError, OSError) as error:
            raise ClientError(f"Bluetooth: {error}") from None

    async def write(self, uuid, value):
        """Write with response."""
        try:
            await self._client.write_gatt_char(uuid, value, response=True)
        except (self._bleak.exc.BleakError, OSError) as error:
            raise ClientError(f"Bluetooth: {error}") from None

    async def notification(self, seconds):
        """The next (uuid, value), or None when nothing comes in time or ever again."""
        if not self.connected and self._notified.empty():
            return None
        try:
            return await asyncio.wait_for(self._notified.get(), seconds)
        except TimeoutError:
            return None

    async def close(self):
        """Disconnect."""
        if self._client is not None:
            try:
                await self._client.disconnect()
            except (self._bleak.exc.BleakError, OSError) as error:
                raise ClientError(f"Bluetooth: {error}") from None
