"""Inspect photographs with an exported detector, without blemish: needs openvino, Pillow and numpy.

blemish export gasket.blemish --out gasket.xml
python examples/inspect_with_openvino.py gasket.xml photos/*.png
"""

import json
import sys

import numpy as np
import openvino
from PIL import Image, ImageOps

model = openvino.Core().read_model(sys.argv[1])
about = json.loads(model.get_rt_info(["blemish"]).value)
compiled = openvino.compile_model(model, "CPU", about["openvino_hints"])  # float32, where the default may be bfloat16
for path in sys.argv[2:]:
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith(("I", "F")):  # Pillow would clip the values
        sys.exit(f"{path}: has more than 8 bits; save it with 8")
    photograph = np.array(image.convert("RGB"))  # (H, W, 3) uint8, of any size
    score = compiled({"photographs": photograph[None]})["score"].item()  # and "anomaly_map"
    is_defective = score > about["threshold"]["value"]
    print(json.dumps({"path": path, "score": score, "is_defective": is_defective}))
