"""Headers of MPEG audio frames (ISO 11172-3 and 13818-3, layers 1 to 3) and of ID3v2 tags. Pure; bytes only.

Needed twice: to tell MP3 by content, and to see that a file's last frame was cut, which the decoder hides.
"""

_KBPS_V1 = {
    1: (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_KBPS_V2 = {
    1: (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    3: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def id3_bytes(data: bytes) -> int:
    """Length of a leading ID3v2 tag with its header, 0 if there is none."""
    if len(data) < 10 or data[:3] != b"ID3" or max(data[6:10]) > 0x7F:
        return 0
    size = data[6] << 21 | data[7] << 14 | data[8] << 7 | data[9]
    return size + (20 if data[5] & 0x10 else 10)


def frame_bytes(head: bytes) -> int | None:
    """Length in bytes of the frame whose header is the first 4 bytes; None if they are no valid header.

    Free-format frames (bit rate index 0) give None: nothing in use writes them.
    """
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    rate_index, bitrate_index, padding = head[2] >> 2 & 3, head[2] >> 4, head[2] >> 1 & 1
    if version == 1 or layer == 4 or rate_index == 3 or bitrate_index in (0, 15):
        return None
    kbps = (_KBPS_V1 if version == 3 else _KBPS_V2)[layer][bitrate_index]
    rate = _RATES[version][rate_index]
    if layer == 1:
        return (12_000 * kbps // rate + padding) * 4
    samples = 576 if layer == 3 and version != 3 else 1152
    return samples // 8 * 1000 * kbps // rate + padding
