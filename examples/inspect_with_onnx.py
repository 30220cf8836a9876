"""Inspect photographs with an exported detector, without blemish: needs onnxruntime, Pillow and numpy.

blemish export gasket.blemish --out gasket.onnx
python examples/inspect_with_onnx.py gasket.onnx photos/*.png
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = json.loads(session.get_modelmeta().custom_metadata_map["blemish"])
for path in sys.argv[2:]:
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith(("I", "F")):  # Pillow would clip the values
        sys.exit(f"{path}: has more than 8 bits; save it with 8")
    photograph = np.array(image.convert("RGB"))  # (H, W, 3) uint8, of any size
    anomaly_map, score = session.run(["anomaly_map", "score"], {"photographs": photograph[None]})
    is_defective = score.item() > about["threshold"]["value"]
    print(json.dumps({"path": path, "score": score.item(), "is_defective": is_defective}))
