#!/usr/bin/env bash
# Makes a virtual environment in DIR that holds anomalib on CPU torch, for the benchmarks against it:
#
#     benchmarks/peers/setup_anomalib.sh DIR
#     DIR/bin/python benchmarks/peers/anomalib_synthesis.py --textures TEXTURES
#
# Safe to run again. Needs Python >= 3.11 (python3, or $PYTHON), cc and nm, 2 GB of disk.
# No file of anomalib, torchvision or torch is edited.
set -euo pipefail
dir=${1:?usage: setup_anomalib.sh DIR}
constraints=$(cd "$(dirname "$0")/../.." && pwd)/constraints.txt

[ -x "$dir/bin/python" ] || "${PYTHON:-python3}" -m venv "$dir"
pip() { "$dir/bin/python" -m pip install --quiet --disable-pip-version-check -c "$constraints" "$@"; }

# torch first and constrained, torchvision without its requirements: otherwise pip replaces CPU torch by the newest
# build with several GB of CUDA. torchvision 0.28 is the one built against torch 2.13.
pip torch
pip --no-deps torchvision==0.28.0
pip anomalib==2.7.0

# PyPI's torchvision is built for CUDA: its JPEG reader, image.so, by which the generator reads its textures, asks
# for two libraries that CPU torch lacks. Stand-ins in torchvision's own library folder let it load: each CUDA
# function it names is a trap that reading on the CPU never calls, and the reader stays the original one.
# (Its detection operators, _C.so, look elsewhere for theirs and stay out: see anomalib_synthesis.py.)
if "$dir/bin/python" -W ignore -c 'import sys, torch; sys.exit(torch.version.cuda is not None)'; then
    site=$("$dir/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
    nm -D --undefined-only "$site/torchvision/image.so" | grep -oE '_ZNK?3c104cuda[^@ ]+' |
        sed 's/.*/void &(void) { __builtin_trap(); }/' |
        cc -shared -fPIC -x c - -o "$site/torchvision.libs/libc10_cuda.so"
    cc -shared -fPIC -x c /dev/null -o "$site/torchvision.libs/libtorch_cuda.so"
fi
