"""Frames of H.264 that no other frame depends on: those need not be decoded.

Half of the frames that x264 writes are such. Between a key frame and the frame that is
asked for they can be left out, and every frame that is decoded stays the same to the
bit. Other codecs either have none, or say so where other layers may refer to them.
"""

from typing import Any

_SLICE = 1  # of a picture that is no key frame; nal_unit_type of H.264, table 7-1
_BESIDE = (6, 9, 12)  # what may be told beside it, a delimiter, and filling
_TYPE, _REFERENCE = 0x1F, 0x60


def length_size(stream: Any) -> int:
    """Returns how many bytes say the length of a unit, in H.264 as MP4 stores it.

    Args:
        stream: a video stream of PyAV.

    Returns:
        1 to 4; 0 for other codecs, and where units begin with start codes.

    Source: ISO/IEC 14496-15, section 5.3.3.1.
    """
    codec = stream.codec_context
    header = codec.extradata if codec.name == "h264" else None
    if not header or len(header) < 7 or header[0] != 1:
        return 0
    return int(header[4] & 3) + 1


def is_unreferenced(packet: bytes | memoryview, size: int) -> bool:
    """Says whether a packet can be left out without a change to any other frame.

    Args:
        packet: one frame, as units with their lengths before them.
        size: bytes of each length.

    Returns:
        True if all of it is slices that are no reference, and remarks about them.

    Example:
        >>> picture = bytes([0, 0, 0, 2, 0x01, 0xFF])    # nal_ref_idc is 0
        >>> is_unreferenced(picture, 4), is_unreferenced(b"\\0\\0\\0\\2\\x41\\xff", 4)
        (True, False)
    """
    place, slices = 0, 0
    while place < len(packet):
        unit = place + size
        length = int.from_bytes(packet[place:unit], "big")
        if unit >= len(packet) or not length or unit + length > len(packet):
            return False  # damaged, which the decoder is to see
        kind = packet[unit] & _TYPE
        if kind == _SLICE and not packet[unit] & _REFERENCE:
            slices += 1
        elif kind not in _BESIDE:
            return False
        place = unit + length
    return slices > 0
