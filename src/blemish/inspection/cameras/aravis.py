"""GigE Vision and USB3 Vision cameras through Aravis, where that is installed.

https://github.com/AravisProject/aravis

The camera is used as it is set up: pixel format, exposure, trigger and frame rate are its own settings.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import sysconfig
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from blemish.errors import BlemishError
from blemish.inspection.cameras.driver import WAIT_S, Frame, Gone
from blemish.inspection.cameras.pixels import check_format, decoded

PREFIX = "aravis"
_SYSTEMS_PACKAGES = Path("/usr/lib/python3/dist-packages")
_REMEDY = "install Debian's gir1.2-aravis-0.8 and python3-gi, or Aravis 0.8 and the PyGObject package"
_BUFFERS_BYTES, _MIN_BUFFERS, _MAX_BUFFERS = 128_000_000, 4, 32
_CLOSING_S = 1.0
_FAULTS = {
    "missing-packets": "packets are missing",
    "timeout": "its end did not arrive in time",
    "size-mismatch": "larger than the camera announced; its settings changed",
    "wrong-packet-id": "packets have wrong numbers",
    "aborted": "broken off",
    "cleared": "no data arrived",
    "filling": "did not arrive as a whole",
    "payload-not-supported": "holds no image",
}


class AravisCamera:
    """A camera such as ``aravis:Basler-21876543``, or the first that is found: ``aravis``."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._name = address.partition(":")[2]
        self._aravis, self._error = library()
        self._camera: Any = None
        self._stream: Any = None
        self._is_free_running = self._has_started = False
        self._is_lost = threading.Event()
        self._n_missing = 0

    @property
    def is_free_running(self) -> bool:
        return self._is_free_running

    def open(self) -> None:
        is_lost = self._is_lost = threading.Event()  # its own, as an earlier connection may report its end late
        self._has_started, self._n_missing = False, 0
        try:
            self._aravis.update_device_list()
            names = [self._aravis.get_device_id(number) for number in range(self._aravis.get_n_devices())]
            if not names:
                raise Gone("no GigE Vision or USB3 Vision camera is found")
            name = self._name or names[0]
            self._camera = self._aravis.Camera.new(name)
            self._camera.get_device().connect("control-lost", lambda device: is_lost.set())
            code, pixels = self._camera.get_pixel_format(), self._camera.get_pixel_format_as_string()
            check_format(self.address, code, pixels)
            self._is_free_running = not self._waits_for_trigger()
            self._stream = self._camera.create_stream(None, None)
            n_bytes = self._camera.get_payload()
            for _ in range(max(_MIN_BUFFERS, min(_BUFFERS_BYTES // max(n_bytes, 1), _MAX_BUFFERS))):
                self._stream.push_buffer(self._aravis.Buffer.new_allocate(n_bytes))
        except self._error as error:
            others = f"; found are {', '.join(names)}" if "not found" in error.message else ""
            raise Gone(f"{error.message}{others}") from error
        self._name, self.address = name, f"{PREFIX}:{name}"  # of several, it stays the same one

    def _waits_for_trigger(self) -> bool:
        camera = self._camera
        return bool(camera.is_feature_available("TriggerMode")) and camera.get_string("TriggerMode") == "On"

    def read(self) -> Frame | None:
        if not self._has_started:  # not earlier, as buffers would fill that nobody takes
            self._start()
        if self._is_lost.is_set():
            raise Gone("no longer under control: switched off, unplugged, or taken by another program")
        buffer = self._stream.timeout_pop_buffer(int(1e6 * WAIT_S))
        if buffer is None:
            return None
        try:
            return self._frame(buffer)
        finally:
            self._stream.push_buffer(buffer)

    def _start(self) -> None:
        try:
            self._camera.start_acquisition()
        except self._error as error:
            raise Gone(error.message) from error
        self._has_started = True

    def _frame(self, buffer: Any) -> Frame:
        """What is in a buffer; it is copied."""
        number, status = buffer.get_frame_id(), buffer.get_status().value_nick
        n_missing = self._missing_packets()
        if status != "success":
            count = f" ({n_missing} of them)" if status == "missing-packets" and n_missing else ""
            fault = f"not inspected: {_FAULTS.get(status, status)}{count}; check cable, network and packet delay"
            return Frame(None, fault, number)
        if buffer.get_payload_type() not in (
            self._aravis.BufferPayloadType.IMAGE,
            self._aravis.BufferPayloadType.EXTENDED_CHUNK_DATA,
        ):
            return Frame(None, f"not inspected: holds {buffer.get_payload_type().value_nick}, not an image", number)
        height, width, code = buffer.get_image_height(), buffer.get_image_width(), buffer.get_image_pixel_format()
        try:
            if any(buffer.get_image_padding()):
                raise ValueError("has padded rows")
            return Frame(decoded(buffer.get_data(), code, height, width), None, number)
        except ValueError as error:
            return Frame(None, f"not inspected: {error}; check the camera's settings", number)

    def _missing_packets(self) -> int:
        """How many packets are missing since the last frame; 0 where that is not counted."""
        try:
            total = int(self._stream.get_info_uint64_by_name("n_missing_packets"))
        except (AttributeError, self._error):
            return 0
        n_missing, self._n_missing = total - self._n_missing, total
        return n_missing

    def close(self) -> None:
        if self._camera is None:
            return
        held = [self._camera, self._stream]
        self._camera = self._stream = None

        def release() -> None:
            with suppress(self._error):
                held[0].stop_acquisition()
            held.clear()

        thread = threading.Thread(target=release, name=f"release {self.address}", daemon=True)
        thread.start()
        thread.join(
            _CLOSING_S
        )  # where the camera is gone, Aravis waits 13 s for answers: not a reason to come back later


def library() -> tuple[Any, Any]:
    """Return Aravis and the class of the exceptions that it raises.

    Raises
    ------
    BlemishError
        If it is not installed.
    """
    try:
        gi = _gi()
        gi.require_version("Aravis", "0.8")
        aravis, glib = (importlib.import_module(f"gi.repository.{name}") for name in ("Aravis", "GLib"))
        return aravis, glib.Error
    except (ImportError, ValueError, AttributeError) as error:
        raise BlemishError(f"{PREFIX}: Aravis cannot be used ({error}); {_REMEDY}") from error


def _gi() -> Any:
    """The module ``gi``: the environment's, or else, in a virtual environment, the system's alone.

    The system's is used if it was built for this version of Python. Its folder is not put on the search path, as the
    system's numpy and others are in there.
    """
    try:
        return importlib.import_module("gi")
    except ModuleNotFoundError:
        folder = _SYSTEMS_PACKAGES / "gi"
        if not (folder / f"_gi{sysconfig.get_config_var('EXT_SUFFIX')}").is_file():
            raise
    spec = importlib.util.spec_from_file_location(
        "gi", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules["gi"] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules["gi"]
        raise
    return module
