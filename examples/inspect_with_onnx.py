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
    photograph = np.array(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))  # (H, W, 3) uint8, of any size
    anomaly_map, score = session.run(["anomaly_map", "score"], {"photographs": photograph[None]})
    is_defective = score.item() > about["threshold"]["value"]
    print(json.dumps({"path": path, "score": score.item(), "is_defective": is_defective}))
