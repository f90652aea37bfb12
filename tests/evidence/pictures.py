"""Small picture files as the WebUI writes them, with badges of every kind."""

from PIL import Image

from lib_memstab import badge
from tests.test_badge import host_infotext

FOLDER, COMMENT = 0x8769, 0x9286


def parameters(settings, report):
    return host_infotext(badge.infotext(settings, report))


def png(path, settings, report):
    Image.new("RGB", (8, 8)).save(path, "PNG", pnginfo=badge.png_info(report, parameters(settings, report)))
    return path


def with_comment(path, text, encoding="utf-16-be", kind=None):
    """A JPEG, WebP or AVIF with this text as EXIF comment, big-endian as the WebUI has it."""
    exif = Image.Exif()
    exif.get_ifd(FOLDER)[COMMENT] = b"UNICODE\0" + text.encode(encoding)
    Image.new("RGB", (8, 8)).save(path, kind, exif=exif.tobytes())
    return path
