"""Writes golden.json: pictures and what Pillow reads in them, and digests of
Pillow's Lanczos, and the colours of littlecms (pip install pillow==13.0.0 numpy).

    python golden.py
"""
import base64, hashlib, io, json, os, struct, zlib
import numpy as np
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

HERE = os.path.dirname(os.path.abspath(__file__))
b64 = lambda b: base64.b64encode(b).decode()

# --- pictures by formula, the same in imaging_test.go ----------------------------

def waves(w, h):
    y, x, c = np.mgrid[0:h, 0:w, 0:3].astype(np.uint32)
    return ((x * x * 3 + y * y * 5 + x * y * 7 + c * 85 + ((x >> 3 ^ y >> 3) & 1) * 128) & 255).astype(np.uint8)

def noise(w, h):
    i = np.arange(w * h * 3, dtype=np.uint32)
    i = (i ^ (i >> 7)) * np.uint32(2654435761)
    return ((i ^ (i >> 15)) >> 8 & 255).astype(np.uint8).reshape(h, w, 3)

def checks(w, h):  # extremes overshoot
    y, x, c = np.mgrid[0:h, 0:w, 0:3]
    return (((x // 2 + y // 3 + c) & 1) * 255).astype(np.uint8)

PICTURES = {"waves": waves, "noise": noise, "checks": checks}

SIZES = [(64, 64, 32, 32), (64, 64, 128, 128), (64, 64, 64, 64), (64, 48, 63, 47), (63, 47, 64, 48), (100, 75, 33, 99), (33, 99, 100, 75),
         (1, 1, 8, 8), (8, 8, 1, 1), (1, 1, 1, 1), (1, 50, 20, 20), (50, 1, 20, 20), (2, 2, 3, 3), (3, 2, 2, 3), (7, 5, 512, 512), (512, 384, 7, 5),
         (640, 480, 512, 512), (640, 480, 512, 384), (500, 333, 512, 512), (512, 512, 500, 333), (1000, 3, 3, 1000), (3, 1000, 1000, 3),
         (128, 96, 128, 64), (128, 96, 64, 96), (300, 200, 299, 200), (300, 200, 300, 201), (2000, 10, 64, 64), (10, 2000, 64, 64), (257, 129, 64, 64), (1023, 767, 512, 384)]

def resized():
    for name, picture in PICTURES.items():
        for w, h, to_w, to_h in SIZES:
            out = Image.fromarray(picture(w, h)).resize((to_w, to_h), Image.Resampling.LANCZOS)
            yield {"picture": name, "from": [w, h], "to": [to_w, to_h], "sha256": hashlib.sha256(out.tobytes()).hexdigest()}

def filtered():
    for name in "BOX", "BILINEAR", "BICUBIC":
        for w, h, to_w, to_h in SIZES[::3]:
            out = Image.fromarray(noise(w, h)).resize((to_w, to_h), Image.Resampling[name])
            yield {"filter": name, "from": [w, h], "to": [to_w, to_h], "sha256": hashlib.sha256(out.tobytes()).hexdigest()}

def recompressed():
    """What PIL reads in the JPEG that it wrote."""
    for name, picture in PICTURES.items():
        for w, h in (16, 16), (224, 224), (1, 1), (17, 9), (9, 17), (31, 33), (64, 48):
            for quality in 1, 30, 75, 95, 100:
                out = Image.open(io.BytesIO(saved(Image.fromarray(picture(w, h)), "JPEG", quality=quality)))
                yield {"picture": name, "size": [w, h], "quality": quality, "sha256": hashlib.sha256(out.tobytes()).hexdigest()}

# --- files -------------------------------------------------------------------

def scene(w, h):
    """Soft colours with some edges: what JPEG is made for."""
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    r = 128 + 100 * np.sin(x / 5) * np.cos(y / 7)
    g = 255 * x / max(w - 1, 1)
    b = np.where((x - w / 2) ** 2 + (y - h / 2) ** 2 < (min(w, h) / 3) ** 2, 220, 255 * y / max(h - 1, 1) / 2)
    return Image.fromarray(np.stack([r, g, b], -1).clip(0, 255).astype(np.uint8))

def saved(image, format, **options):
    f = io.BytesIO()
    image.save(f, format, **options)
    return f.getvalue()

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

def png(w, h, depth, color, rows, *, interlace=0, extra=b""):
    ihdr = struct.pack(">IIBBBBB", w, h, depth, color, 0, 0, interlace)
    raw = b"".join(b"\0" + row for row in rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + extra + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")

def adam7(pixels):
    h, w, _ = pixels.shape
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = [row.tobytes() for x, y, dx, dy in passes for row in pixels[y::dy, x::dx] if row.size]
    return png(w, h, 8, 2, rows, interlace=1)

def webp_part(w, h, frame):
    """An animation of one frame that covers a part of its canvas."""
    part = lambda name, data: name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1)
    u24 = lambda v: struct.pack("<I", v)[:3]
    fw, fh = Image.open(io.BytesIO(frame)).size
    canvas = part(b"VP8X", b"\x02\0\0\0" + u24(w - 1) + u24(h - 1)) + part(b"ANIM", bytes(6))
    body = b"WEBP" + canvas + part(b"ANMF", u24(3) + u24(2) + u24(fw - 1) + u24(fh - 1) + u24(100) + b"\0" + frame[12:])
    return b"RIFF" + struct.pack("<I", len(body)) + body

def gif_part(palette, control):
    """The picture as a frame on a larger canvas, with a palette of its own."""
    data = saved(palette, "GIF")
    size = 3 << ((data[10] & 7) + 1)
    table, rest = data[13:13 + size], data[13 + size:]
    at = rest.index(b",")
    frame = b"," + struct.pack("<HH", 4, 3) + rest[at + 5:at + 9] + bytes([0x80 | data[10] & 7]) + table[3:] + table[:3] + rest[at + 10:]
    return data[:6] + struct.pack("<HH", 40, 30) + data[10:13] + table + control + frame

def files():
    w, h = 27, 18
    img = scene(w, h)
    alpha = Image.fromarray(np.mgrid[0:h, 0:w][1].astype(np.uint8) * 9)
    rgba = img.copy()
    rgba.putalpha(alpha)
    wide = (np.asarray(img).astype(np.uint16) * 256 + np.arange(w, dtype=np.uint16)[None, :, None] * 7)
    palette = img.quantize(16)

    yield "png-l", saved(img.convert("L"), "PNG")
    yield "png-la", saved(rgba.convert("LA"), "PNG")
    yield "png-1", saved(img.convert("1"), "PNG")
    yield "png-rgb", saved(img, "PNG")
    yield "png-rgba", saved(rgba, "PNG")
    yield "png-p", saved(palette, "PNG")
    yield "png-p2", saved(img.quantize(4), "PNG", bits=2)
    yield "png-p-trns", saved(palette, "PNG", transparency=bytes(range(0, 160, 10)))
    yield "png-rgb-trns", saved(img, "PNG", transparency=img.getpixel((3, 3)))
    yield "png-l-trns", saved(img.convert("L"), "PNG", transparency=img.convert("L").getpixel((3, 3)))
    yield "png-interlaced", adam7(np.asarray(img))
    yield "png-rgb16", png(w, h, 16, 2, [row.astype(">u2").tobytes() for row in wide])
    yield "png-rgba16", png(w, h, 16, 6, [np.concatenate([row, row[:, :1]], 1).astype(">u2").tobytes() for row in wide])
    yield "png-la16", png(w, h, 16, 4, [row[:, :2].astype(">u2").tobytes() for row in wide])
    yield "png-apng", saved(img, "PNG", save_all=True, append_images=[img.rotate(180)])
    for size in (27, 18), (32, 16), (1, 1), (2, 3), (3, 2), (5, 5), (17, 1), (1, 17), (40, 35):
        name = "x".join(map(str, size))
        for quality, sampling in (90, "4:4:4"), (80, "4:2:2"), (70, "4:2:0"):
            yield f"jpeg-{sampling.replace(':', '')}-{name}", saved(scene(*size), "JPEG", quality=quality, subsampling=sampling)
        yield f"webp-lossy-{name}", saved(scene(*size), "WEBP", quality=70)
    yield "jpeg-l", saved(img.convert("L"), "JPEG", quality=80)
    yield "jpeg-progressive", saved(scene(40, 35), "JPEG", quality=80, progressive=True)
    yield "jpeg-restart", saved(scene(40, 35), "JPEG", quality=80, restart_marker_blocks=1)
    yield "jpeg-rgb", saved(img, "JPEG", quality=95, keep_rgb=True)
    yield "jpeg-cmyk", saved(img.convert("CMYK"), "JPEG", quality=95)
    yield "jpeg-ycck", saved(img.convert("CMYK"), "JPEG", quality=95).replace(b"Adobe\0\x64\0\0\0\0\0", b"Adobe\0\x64\0\0\0\0\2")
    yield "webp-lossy-alpha", saved(rgba, "WEBP", quality=70, exact=True)
    yield "webp-lossless", saved(img, "WEBP", lossless=True)
    yield "webp-lossless-alpha", saved(rgba, "WEBP", lossless=True, exact=True)
    yield "webp-animated", saved(img, "WEBP", lossless=True, save_all=True, append_images=[img.rotate(180), rgba])
    yield "webp-animated-alpha", saved(rgba, "WEBP", quality=70, exact=True, save_all=True, append_images=[img.rotate(180)])
    yield "webp-animated-part", webp_part(w, h, saved(scene(9, 8), "WEBP", lossless=True))
    yield "gif", saved(palette, "GIF")
    yield "gif-l", saved(img.convert("L"), "GIF")
    yield "gif-interlaced", saved(palette, "GIF", interlace=1)
    yield "gif-transparent", saved(palette, "GIF", transparency=palette.getpixel((13, 9)))
    yield "gif-animated", saved(palette, "GIF", save_all=True, append_images=[palette.rotate(180), palette])
    for name, control in ("part", b""), ("part-transparent", b"!\xf9\x04\x01\0\0\x03\0"), ("part-outside", b"!\xf9\x04\x01\0\0\xf0\0"):
        yield f"gif-{name}", gif_part(palette, control)
    small = scene(7, 4)
    for o in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = o
        exif[0x010f] = "maker"
        for format in "JPEG", "PNG", "WEBP":
            options = {"JPEG": {"quality": 95, "subsampling": 0}, "PNG": {}, "WEBP": {"lossless": True}}[format]
            yield f"exif-{o}-{format.lower()}", saved(small, format, exif=exif, **options)
    for o, xmp in (6, 'tiff:Orientation="6"'), (8, "><tiff:Orientation>8</tiff:Orientation><"):
        xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description {xmp}/></x:xmpmeta>'
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp, zip=o == 8)
        yield f"xmp-{o}-jpeg", saved(small, "JPEG", quality=95, subsampling=0, xmp=xmp.encode())
        yield f"xmp-{o}-png", saved(small, "PNG", pnginfo=text)
        yield f"xmp-{o}-webp", saved(small, "WEBP", lossless=True, xmp=xmp.encode())
        for told in 1, 3:  # EXIF counts before XMP, and once
            exif[0x0112] = told
            yield f"exif-{told}-xmp-{o}-png", saved(small, "PNG", exif=exif, pnginfo=text)
            yield f"exif-{told}-xmp-{o}-jpeg", saved(small, "JPEG", quality=95, subsampling=0, exif=exif, xmp=xmp.encode())
    exif[0x0112] = 6
    # an odd chunk before EXIF
    yield "exif-6-webp-lossy", saved(small, "WEBP", quality=50, exif=exif)
    yield "exif-6-big-endian", saved(small, "PNG", exif=b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")

def decoded():
    for name, data in files():
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        image = image.convert("RGB")
        yield {"name": name, "file": b64(data), "size": image.size, "rgb": b64(image.tobytes())}

# --- metadata ----------------------------------------------------------------

def with_thumbnail(exif):
    """EXIF with a second directory, of a thumbnail."""
    order = "<" if exif[6:8] == b"II" else ">"
    tiff = bytearray(exif[6:])
    first = struct.unpack_from(order + "I", tiff, 4)[0]
    link = first + 2 + 12 * struct.unpack_from(order + "H", tiff, first)[0]
    tiff += bytes(len(tiff) & 1)
    struct.pack_into(order + "I", tiff, link, len(tiff))
    small = saved(scene(8, 8), "JPEG", comment=b"CANARY thumbnail")
    tags = [(0x0103, 3, 1, 6), (0x0201, 4, 1, len(tiff) + 2 + 3 * 12 + 4), (0x0202, 4, 1, len(small))]
    tiff += struct.pack(order + "H", 3)
    for tag, kind, count, value in tags:
        tiff += struct.pack(order + "HHI", tag, kind, count) + struct.pack(order + ("I" if kind == 4 else "HH"), *([value] if kind == 4 else [value, 0]))
    return exif[:6] + bytes(tiff) + bytes(4) + small

def iptc(text):
    data = b"\x1c\x02\x78" + struct.pack(">H", len(text)) + text
    data += bytes(len(data) & 1)
    block = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(data)) + data
    return b"\xff\xed" + struct.pack(">H", len(block) + 2) + block

def gif_marked(data, xmp):
    """A GIF with a comment and XMP before its picture."""
    at = 13 + (3 << ((data[10] & 7) + 1))
    comment = b"!\xfe\x0eCANARY comment\0"
    magic = b"\x01" + bytes(range(255, -1, -1)) + b"\0"
    return b"GIF89a" + data[6:at] + comment + b"!\xff\x0bXMP DataXMP" + xmp + magic + data[at:] + b"CANARY trailer"

def marked():
    """Files full of what must not survive, each text with CANARY in it."""
    img = scene(16, 16)
    exif = Image.Exif()
    exif[0x010e], exif[0x013b], exif[0x010f] = "CANARY description", "CANARY artist", "CANARY maker"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 0.0), 3: "E", 4: (13.0, 22.0, 0.0), 29: "CANARY:GPS"})
    exif.get_ifd(0x8769).update({0x9286: b"ASCII\0\0\0CANARY comment", 0xa431: "CANARY serial", 0x927c: b"CANARY note"})
    exif = with_thumbnail(exif.tobytes())
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="CANARY xmp"/></rdf:RDF></x:xmpmeta>'
    icc = bytes(128) + b"CANARY profile" + bytes(50)
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "CANARY text")
    text.add_text("Zip", "CANARY zip", zip=True)
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    photo = saved(img, "JPEG", exif=exif, xmp=xmp, icc_profile=icc, comment=b"CANARY comment")
    yield "jpeg", photo[:2] + iptc(b"CANARY caption") + photo[2:] + b"CANARY trailer"
    yield "png", saved(img, "PNG", exif=exif, icc_profile=icc, pnginfo=text)
    yield "webp", saved(img, "WEBP", exif=exif, xmp=xmp, icc_profile=icc, quality=80)
    yield "gif", gif_marked(saved(img.quantize(16), "GIF"), xmp)

# --- colour ------------------------------------------------------------------

fix = lambda *v: struct.pack(f">{len(v)}i", *(round(x * 65536) for x in v))
D50 = np.array([0.9642, 1.0, 0.8249])

def colorants(rx, ry, gx, gy, bx, by, wx, wy):
    """The primaries under D50: a matrix whose columns are red, green, blue."""
    xyz = lambda x, y: np.array([x / y, 1, (1 - x - y) / y])
    m = np.stack([xyz(rx, ry), xyz(gx, gy), xyz(bx, by)], 1)
    white = xyz(wx, wy)
    m = m * np.linalg.solve(m, white)
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    return np.linalg.inv(bradford) @ np.diag((bradford @ D50) / (bradford @ white)) @ bradford @ m

def icc(space, tags, pcs=b"XYZ "):
    table, data = b"", b""
    start = 128 + 4 + 12 * (len(tags) + 3)
    desc = b"text" + bytes(4) + b"made for a test\0"
    for name, tag in list(tags.items()) + [(b"wtpt", b"XYZ " + bytes(4) + fix(*D50)), (b"desc", b"desc" + bytes(4) + struct.pack(">I", 2) + b"t\0" + bytes(78)), (b"cprt", desc)]:
        table += name + struct.pack(">II", start + len(data), len(tag))
        data += tag + bytes(-len(tag) % 4)
    size = start + len(data)
    header = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02400000, b"mntr", space, pcs) + struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + fix(*D50) + bytes(48)
    return header + struct.pack(">I", len(tags) + 3) + table + data

gamma = lambda g: b"curv" + bytes(4) + struct.pack(">IH", 1, round(g * 256))
para = lambda kind, *v: b"para" + bytes(4) + struct.pack(">HH", kind, 0) + fix(*v)
table = lambda f, n=256: b"curv" + bytes(4) + struct.pack(f">I{n}H", n, *(round(f(i / (n - 1)) * 65535) for i in range(n)))
SRGB = para(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
bt709 = lambda x: x / 4.5 if x < 0.081 else ((x + 0.099) / 1.099) ** (1 / 0.45)

def rgb_profile(primaries, tone):
    m = colorants(*primaries)
    tags = {name: b"XYZ " + bytes(4) + fix(*m[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return icc(b"RGB ", tags | {b"rTRC": tone, b"gTRC": tone, b"bTRC": tone})

D65 = 0.3127, 0.3290
PROFILES = {
    "display-p3": rgb_profile((0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *D65), SRGB),
    "adobe-rgb": rgb_profile((0.64, 0.33, 0.21, 0.71, 0.15, 0.06, *D65), gamma(2.19921875)),
    "prophoto": rgb_profile((0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001, 0.3457, 0.3585), gamma(1.8)),
    "rec2020-table": rgb_profile((0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *D65), table(bt709)),
    "gamma22": rgb_profile((0.64, 0.33, 0.30, 0.60, 0.15, 0.06, *D65), para(0, 2.2)),
    "srgb": rgb_profile((0.64, 0.33, 0.30, 0.60, 0.15, 0.06, *D65), SRGB),
    "srgb-table": rgb_profile((0.64, 0.33, 0.30, 0.60, 0.15, 0.06, *D65), table(lambda x: x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4, 1024)),
    "grey-18": icc(b"GRAY", {b"kTRC": gamma(1.8)}),
    "grey-22-lab": icc(b"GRAY", {b"kTRC": gamma(1.2)}, b"Lab "),
}

def coloured():
    """Pictures with a profile, and what littlecms makes of them in sRGB."""
    srgb = ImageCms.createProfile("sRGB")
    ramps = np.zeros((8, 32, 3), np.uint8)
    for i in range(7):
        ramps[i] = np.linspace(0, 255, 32)[:, None] * [(i + 1) & 1, (i + 1) >> 1 & 1, (i + 1) >> 2 & 1]
    colours = Image.fromarray(np.concatenate([ramps, noise(32, 16)]))
    for name, profile in PROFILES.items():
        image = colours.convert("L") if name.startswith("grey") else colours
        for format, options in ("PNG", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 95, "subsampling": 0}):
            if format != "PNG" and name != "display-p3" and (format, name) != ("JPEG", "grey-18"):
                continue
            data = saved(image, format, icc_profile=profile, **options)
            read = Image.open(io.BytesIO(data))
            rgb = ImageCms.profileToProfile(read, ImageCms.ImageCmsProfile(io.BytesIO(profile)), srgb, renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="RGB")
            if name.startswith("srgb"):
                rgb = read.convert("RGB")
            yield {"name": f"{name}-{format.lower()}", "file": b64(data), "rgb": b64(rgb.tobytes())}

golden = {
    "resized": list(resized()),
    "filtered": list(filtered()),
    "recompressed": list(recompressed()),
    "decoded": list(decoded()),
    "marked": [{"name": n, "file": b64(f)} for n, f in marked()],
    "coloured": list(coloured()),
}
with open(f"{HERE}/golden.json", "w") as f:
    parts = [f'"{k}":[\n' + ",\n".join(json.dumps(v, separators=(",", ":")) for v in vs) + "]" for k, vs in golden.items()]
    f.write("{" + ",\n".join(parts) + "}\n")
print({k: len(v) for k, v in golden.items()})
