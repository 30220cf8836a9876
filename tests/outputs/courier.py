"""A process to be killed: ``courier.py RECORD N ADDRESS`` records N parts, and delivers for ever."""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from blemish.outputs.addresses import output_at
from blemish.outputs.delivery import Delivery
from blemish.record.record import VerdictRecord
from outputs.receivers import add

if __name__ == "__main__":
    path, n_parts, address = sys.argv[1:]
    with VerdictRecord.open(path) as record, Delivery(record, [output_at(address)]) as delivery:
        first = record.latest_id()
        for number in range(first, first + int(n_parts)):
            add(record, number)
            delivery.wake()
        print("recorded", flush=True)
        while True:
            time.sleep(1)
