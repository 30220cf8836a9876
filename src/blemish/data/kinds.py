"""What a file is, by its first bytes: an image that can be read, a picture of another kind, or something else."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

PREFIX_BYTES = 512
"""As many first bytes of a file tell its kind."""

IMAGE_SUFFIXES = frozenset(
    {
        ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".bmp", ".dib", ".tif", ".tiff", ".webp",
        ".gif", ".avif",
    }
)  # fmt: skip
"""Suffixes of images, in lower case: a file called so is meant as an image, whatever it holds."""

JPEG_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi"})

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "AVIF")
"""Formats that can be read, as Pillow calls them."""

OVERLAY_COMMENT, MASK_COMMENT, MAP_COMMENT = b"overlay by blemish", b"mask by blemish", b"map by blemish"
"""Comments in the JPEG, PNG and TIFF files that ``blemish inspect`` writes, by which they are told from others."""


@dataclass(frozen=True)
class Kind:
    """A kind of files.

    ``remedy`` says how photographs get out of a file that holds some, or may hold some; empty for any other.
    """

    name: str
    remedy: str = ""
    is_picture: bool = False
    """Whether it holds one photograph."""

    @property
    def is_readable(self) -> bool:
        """Whether ``reading.read_image`` reads it."""
        return self.name in FORMATS

    @property
    def is_result(self) -> bool:
        """Whether ``blemish inspect`` wrote it."""
        return self in (OVERLAY, MASK, MAP)

    @property
    def may_hold_pictures(self) -> bool:
        """Whether it is a picture, or of a kind that holds some, such as an archive."""
        return self.is_picture or (bool(self.remedy) and self not in (EMPTY, UNKNOWN))


_AS_PNG, _FRAMES, _PAGES, _UNPACK = (
    "save it as PNG",
    "save its frames as PNG, or give inspect the file",
    "save its pages as PNG",
    "unpack it",
)
EMPTY, TEXT = Kind("empty", "copy or export it again"), Kind("text")
OVERLAY, MASK, MAP = (Kind(comment.decode()) for comment in (OVERLAY_COMMENT, MASK_COMMENT, MAP_COMMENT))
RESULTS = {"JPEG": (OVERLAY_COMMENT, OVERLAY), "PNG": (MASK_COMMENT, MASK), "TIFF": (MAP_COMMENT, MAP)}
"""Kinds of files that ``blemish inspect`` writes, with their comments, by the format that they are in."""
RECORD = Kind("record by blemish")
"""Rows and figures that blemish wrote as text."""
SYSTEM = Kind("file of the system")
"""Files that file managers and systems leave behind."""
UNKNOWN = Kind("of an unknown kind", "if it is an image, save it as PNG")
_RAW = Kind("raw file of a camera", _AS_PNG, is_picture=True)
_HEIC = Kind("HEIC", _AS_PNG, is_picture=True)
_VIDEO = Kind("video", _FRAMES)

_SIGNATURES: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", Kind("PNG", is_picture=True)),
    (0, b"\xff\xd8\xff", Kind("JPEG", is_picture=True)),
    (0, b"GIF87a", Kind("GIF", is_picture=True)),
    (0, b"GIF89a", Kind("GIF", is_picture=True)),
    (8, b"WEBPVP8", Kind("WEBP", is_picture=True)),
    (8, b"CR\x02", _RAW),
    (0, b"II*\0", Kind("TIFF", is_picture=True)),
    (0, b"MM\0*", Kind("TIFF", is_picture=True)),
    (0, b"II+\0", Kind("TIFF", is_picture=True)),
    (0, b"MM\0+", Kind("TIFF", is_picture=True)),
    (0, b"FUJIFILMCCD-RAW", _RAW),
    (0, b"IIRO", _RAW),
    (0, b"IIRS", _RAW),
    (0, b"MMOR", _RAW),
    (0, b"IIU\0", _RAW),
    (0, b"FOVb", _RAW),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", Kind("JPEG 2000", _AS_PNG, is_picture=True)),
    (0, b"\xff\x4f\xff\x51", Kind("JPEG 2000", _AS_PNG, is_picture=True)),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", Kind("JPEG XL", _AS_PNG, is_picture=True)),
    (0, b"\xff\x0a", Kind("JPEG XL", _AS_PNG, is_picture=True)),
    (0, b"II\xbc", Kind("JPEG XR", _AS_PNG, is_picture=True)),
    (0, b"8BPS", Kind("Photoshop document", _AS_PNG, is_picture=True)),
    (0, b"v/1\x01", Kind("OpenEXR", _AS_PNG, is_picture=True)),
    (0, b"#?RADIANCE", Kind("Radiance HDR", _AS_PNG, is_picture=True)),
    (0, b"qoif", Kind("QOI", _AS_PNG, is_picture=True)),
    (0, b"DDS ", Kind("DDS", _AS_PNG, is_picture=True)),
    (0, b"SIMPLE  =", Kind("FITS", _AS_PNG, is_picture=True)),
    (128, b"DICM", Kind("DICOM", _AS_PNG, is_picture=True)),
    (0, b"gimp xcf", Kind("GIMP image", _AS_PNG, is_picture=True)),
    (0, b"\x93NUMPY", Kind("NumPy array", _AS_PNG)),
    (0, b"\x89HDF\r\n", Kind("HDF5 file", "save its images as PNG")),
    (0, b"PK\x03\x04", Kind("ZIP archive", _UNPACK)),
    (0, b"7z\xbc\xaf'\x1c", Kind("7z archive", _UNPACK)),
    (0, b"Rar!", Kind("RAR archive", _UNPACK)),
    (0, b"\x1f\x8b", Kind("gzip archive", _UNPACK)),
    (0, b"BZh", Kind("bzip2 archive", _UNPACK)),
    (0, b"\xfd7zXZ\0", Kind("xz archive", _UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", Kind("Zstandard archive", _UNPACK)),
    (257, b"ustar", Kind("tar archive", _UNPACK)),
    (0, b"%PDF", Kind("PDF", _PAGES)),
    (0, b"PAR1", Kind("Parquet file")),
    (8, b"AVI ", _VIDEO),
    (0, b"\x1a\x45\xdf\xa3", _VIDEO),  # Matroska, WebM
    (0, b"\0\0\x01\xba", _VIDEO),  # MPEG
    (0, b"\0\0\x01\xb3", _VIDEO),
    (0, b"0&\xb2u\x8ef\xcf\x11", _VIDEO),  # Windows Media
    (0, b"FLV\x01", _VIDEO),
    (0, b"OggS", _VIDEO),
    (0, b"\0\x05\x16\x07", SYSTEM),  # AppleDouble
    (0, b"\0\x05\x16\0", SYSTEM),
    (0, b"\0\0\0\x01Bud1", SYSTEM),  # .DS_Store
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Kind("Office document")),
    (0, b"SQLite format 3\0", Kind("database")),
    (8, b'{"', Kind("weights of a network")),
)
_NETPBM = re.compile(rb"P[1-6]\s+(?:#[^\n]*\n\s*)*\d+\s+\d+\s|P7\nWIDTH")
_RECORD = re.compile(
    rb'\{"path": (?:null|"(?:[^"\\]|\\.)*(?:"|\\?\Z))(?:, "(?:score|size_wh)": |\Z)'  # findings.jsonl, contours.jsonl
    rb"|path,score,threshold,is_defective"  # findings.csv
    rb'|\{"info": \{"description": "findings by blemish"'  # findings.coco.json
    rb'|\{\s*"time": "[^"]*",\s*"state": "'  # heartbeat.json
    rb'|\{\s*"image_auroc": |path,defect,score,'  # metrics.json and scores.csv of an evaluation
)
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"crx ": "raw"}
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_RAW_SUFFIXES = frozenset({".dng", ".nef", ".nrw", ".arw", ".sr2", ".pef", ".srw", ".3fr", ".iiq", ".erf", ".kdc"})
_ZIPPED_DOCUMENTS = frozenset(
    {".docx", ".xlsx", ".pptx", ".odt", ".ods", ".odp", ".pt", ".pth", ".npz", ".whl", ".jar"}
)


def kind_of(path: Path) -> Kind:
    """Return the kind of a file.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        return kind_of_bytes(file.read(PREFIX_BYTES), path.suffix)


def kind_of_bytes(prefix: bytes, suffix: str = "") -> Kind:
    """Return the kind of a file by its first bytes, at least 16 of them; the suffix only helps where these do not.

    A TIFF may be the raw file of a camera, and a ZIP archive an office document: their suffixes tell.
    """
    suffix = suffix.lower()
    if not prefix:
        return EMPTY
    if prefix[4:8] == b"ftyp":
        return _of_iso_media(prefix)
    if prefix[:2] == b"BM" and _is_bitmap(prefix, suffix):
        return Kind("BMP", is_picture=True)
    if _NETPBM.match(prefix):
        return Kind("Netpbm (PGM, PPM)", _AS_PNG, is_picture=True)
    for offset, signature, kind in _SIGNATURES:
        if prefix.startswith(signature, offset):
            if kind.name == "TIFF" and suffix in _RAW_SUFFIXES:
                return _RAW
            comment, result = RESULTS.get(kind.name, (None, kind))
            if comment is not None and comment in prefix:
                return result
            return Kind("document") if kind.name == "ZIP archive" and suffix in _ZIPPED_DOCUMENTS else kind
    return RECORD if _RECORD.match(prefix) else TEXT if _is_text(prefix) else UNKNOWN


def with_comment(jpeg: bytes) -> bytes:
    """Return a JPEG file with the comment ``OVERLAY_COMMENT``, behind its first segment."""
    end = 4 + int.from_bytes(jpeg[4:6]) if jpeg[2:4] == b"\xff\xe0" else 2
    return jpeg[:end] + b"\xff\xfe" + struct.pack(">H", 2 + len(OVERLAY_COMMENT)) + OVERLAY_COMMENT + jpeg[end:]


def _of_iso_media(prefix: bytes) -> Kind:
    """The kind of a file in boxes by its brands: AVIF, HEIC, a raw file, or a video."""
    length = min(int.from_bytes(prefix[:4]), len(prefix)) or len(prefix)
    brands = [prefix[8:12], *(prefix[start : start + 4] for start in range(16, length, 4))]
    for brand in brands:
        if brand in _BRANDS:
            return _RAW if _BRANDS[brand] == "raw" else Kind(_BRANDS[brand], is_picture=True)
    return _HEIC if any(brand in _HEIC_BRANDS for brand in brands) else _VIDEO


def _is_bitmap(prefix: bytes, suffix: str) -> bool:
    """Whether a file that begins with BM is a bitmap, by the size of its second header; a text may begin so, too."""
    return suffix in IMAGE_SUFFIXES or int.from_bytes(prefix[14:18], "little") in (12, 16, 40, 52, 56, 64, 108, 124)


def _is_text(prefix: bytes) -> bool:
    """Whether bytes are text in ASCII, UTF-8, UTF-16 or an 8-bit code: without control characters."""
    if prefix.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    return not any(byte < 32 and byte not in b"\t\n\v\f\r\x1b" for byte in prefix)
