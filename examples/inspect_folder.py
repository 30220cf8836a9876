"""Train on a folder of good parts, then list the defective parts in another folder.

python examples/inspect_folder.py parts/good parts/incoming
"""

from __future__ import annotations

import sys
from pathlib import Path

import blemish


def main() -> None:
    """Train once, save the detector beside the good images, and inspect."""
    good, incoming = map(Path, sys.argv[1:3])
    detector_path = good.with_suffix(".blemish")
    if detector_path.exists():
        detector = blemish.load(detector_path)
    else:
        detector = blemish.fit(good, method="draem", recipe="small", false_rejects=0.05)
        detector.save(detector_path)
    print(detector.threshold.explain())
    for path in sorted(incoming.iterdir()):
        finding = detector.inspect(path)
        boxes = ", ".join(str(region.bbox_xyxy) for region in finding.regions)
        print(path.name, f"{finding.score:.3f}", f"DEFECT at {boxes}" if finding.is_defective else "pass")


if __name__ == "__main__":
    main()
