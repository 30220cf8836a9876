"""The words by which users call good parts, defects and the columns of manifests."""

from __future__ import annotations

import re
import unicodedata

GOOD_WORDS = frozenset(
    {"good", "goodpart", "goodparts", "ok", "okay", "okpart", "okparts", "okteil", "okteile", "io", "gut", "gutteil",
     "gutteile", "normal", "nominal", "negative", "pass", "passed", "accept", "accepted", "conform", "conforming",
     "healthy", "intact", "flawless", "nodefect", "nodefects", "defectfree", "faultfree", "0", "0.0", "false",
     "良品", "合格", "正常"}
)  # fmt: skip
"""Labels, and names of folders, that mean good parts, as `plain_word` writes them."""

DEFECTIVE_WORDS = frozenset(
    {"bad", "1", "1.0", "true", "defect", "defects", "defective", "ng", "nok", "notok", "ko", "nio", "fail", "failed",
     "reject", "rejected", "faulty", "positive", "abnormal", "anomaly", "anomalous", "nonconforming", "schlecht",
     "ausschuss", "不良", "不良品"}
)  # fmt: skip
"""Labels that mean a defect of no particular kind, as `plain_word` writes them."""

_PARTS_OF_DEFECTS = (
    "scratch", "crack", "dent", "hole", "broken", "break", "fray", "cut", "bent", "fold", "wrinkle", "crease",
    "color", "contam", "stain", "spot", "dirt", "dust", "glue", "oil", "print", "poke", "squeez", "miss", "colour",
    "damage", "defect", "fault", "flaw", "bad", "anomal", "combined", "mixed", "thread", "rough", "liquid", "metal",
    "rust", "corros", "pit", "pore", "void", "burr", "chip", "blow", "uneven", "misplace", "swap", "flip",
    "manipulat", "lack", "kratzer", "riss", "delle", "scrape", "scuff", "bubble", "blister", "burn", "inclusion",
    "deform", "warp", "leak", "tear", "torn", "worn", "wear", "mark", "line", "weld", "solder", "short", "open",
)  # fmt: skip
_DENIED = re.compile(r"(no|un|without|ohne|kein)(?!nconform|t|even)|.*(free|frei)$")


def plain_word(word: str) -> str:
    """A word without what hands and programs vary: letter case, width of letters, blanks, hyphens, dots, and signs
    that cannot be seen. Numbers keep their dots and signs."""
    text = unicodedata.normalize("NFKC", word).casefold()
    text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf").strip()
    return re.sub(r"[\s._\-‐-―]+", "", text) if any(map(str.isalpha, text)) else text


def is_good_word(word: str) -> bool:
    """Whether a label, or the name of a folder, means good parts."""
    return plain_word(word) in GOOD_WORDS


def is_defective_word(word: str) -> bool:
    """Whether a label means a defect, but no kind of defect."""
    return plain_word(word) in DEFECTIVE_WORDS


def names_a_defect(word: str) -> bool:
    """Whether a word is, or holds, a usual name of a defect, so that it cannot mean good parts."""
    plain = plain_word(word)
    if plain in DEFECTIVE_WORDS:
        return True
    return not _DENIED.match(plain) and any(part in plain for part in _PARTS_OF_DEFECTS)


_COLUMNS = {
    "path": ("file", "filename", "filepath", "image", "imagepath", "imagefile", "imagename", "imgpath", "img"),
    "label": ("labels", "class", "classname", "category", "defect", "defecttype", "defectclass"),
    "mask": ("masks", "maskpath", "maskfile", "maskname", "groundtruth", "groundtruthpath", "gt", "gtpath"),
    "split": ("set", "subset", "partition", "splits", "datasplit"),
}


def with_usual_names(header: list[str]) -> list[str]:
    """Replace synonyms of a manifest's columns by path, label, mask and split, where only one can be meant.

    Where several columns may be meant, or one of them has the right name, the others stay as they are.
    """
    header = [name.strip() for name in header]
    plain = [plain_word(name) for name in header]
    names = list(header)
    for column, synonyms in _COLUMNS.items():
        if column in plain:
            names[plain.index(column)] = column
        else:
            meant = [index for index, name in enumerate(plain) if name in synonyms]
            if len(meant) == 1:
                names[meant[0]] = column
    return names


def column_of(name: str) -> str | None:
    """Which of path, label, mask and split a column's name may mean; None if none of them."""
    plain = plain_word(name)
    return next((column for column, synonyms in _COLUMNS.items() if plain == column or plain in synonyms), None)
