"""Train on a folder of good parts, then name the defective ones of another folder.

python examples/inspect_folder.py parts/good parts/incoming
"""

from __future__ import annotations

import sys
from pathlib import Path

import blemish


def main() -> None:
    """Fit once, keep the detector beside the images, and inspect."""
    good, incoming = map(Path, sys.argv[1:3])
    file = good.with_suffix(".blemish")
    if file.exists():
        detector = blemish.load(file)
    else:
        detector = blemish.fit(good, method="draem", recipe="small", false_rejects=0.05)
        detector.save(file)
    print(detector.threshold.explain())
    for path in sorted(incoming.iterdir()):
        finding = detector.inspect(path)
        places = ", ".join(str(region.bbox_xyxy) for region in finding.regions)
        print(path.name, f"{finding.score:.3f}", f"DEFECT at {places}" if finding.is_defective else "pass")


if __name__ == "__main__":
    main()
