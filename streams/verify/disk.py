"""What a disk does to snapshots: a flipped bit, a cut-off file, and a folder that takes no more."""

import shutil
from pathlib import Path
from random import Random

KINDS = ("flip", "cut", "full")


def damage(folder: Path, random: Random) -> str:
    """Do one of it; returns which, with the file. `full` lasts until `mend`."""
    kind = random.choice(KINDS)
    files = sorted(folder.glob("*.snapshot"))
    if kind == "full" or not files:
        shutil.rmtree(folder, ignore_errors=True)
        folder.write_bytes(b"")  # a file where the folder should be: every write fails, as on a full disk
        return "full"
    file = random.choice(files)
    held = bytearray(file.read_bytes())
    if kind == "flip":
        held[random.randrange(len(held))] ^= 1 << random.randrange(8)
    else:
        del held[random.randrange(len(held)) :]
    file.write_bytes(held)
    return f"{kind} {file.name}"


def mend(folder: Path) -> None:
    """There is room again."""
    if folder.is_file():
        folder.unlink()
