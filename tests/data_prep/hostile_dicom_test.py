"""Files made to hurt: each is read right or rejected for its own reason."""

import dataclasses
import functools
import resource
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom.data
import pytest
from pydicom import uid

from data_prep import convert, dicom, images, items, rejects, sandbox
from tests.data_prep import dicom_files
from tests.data_prep.dicom_files import compress, element, encapsulate, make

PIXELS = (np.arange(16 * 16) * 16).astype(np.uint16).reshape(16, 16)
BYTES = (PIXELS // 16).astype(np.uint8)
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}
# What the picture of PIXELS under WINDOW is.
GOOD = np.rint(np.clip((PIXELS - 2047.5) / 4095 + 0.5, 0, 1) * 255).astype(
  np.uint8
)

RLE, J2K = uid.RLELossless, uid.JPEG2000Lossless
JPEG, JPEG12, JPLL = (
  uid.JPEGBaseline8Bit,
  uid.JPEGExtended12Bit,
  uid.JPEGLosslessSV1,
)
JLS, DEFLATED = uid.JPEGLSLossless, uid.DeflatedExplicitVRLittleEndian

CASES: dict[str, tuple[Callable[[], bytes], str]] = {}


def case(reason: str, name: str = "") -> Callable:
  """Adds a file that is to be rejected, or, with reason "", read right."""

  def add(function: Callable[[], bytes]) -> Callable[[], bytes]:
    key = name or function.__name__
    assert key not in CASES
    CASES[key] = function, reason
    return function

  return add


def tags(name: str, reason: str, **overrides: object) -> None:
  case(reason, name)(lambda: make(PIXELS, **{**WINDOW, **overrides}))


def native(name: str, reason: str, pixel_element: bytes, **more) -> None:
  case(reason, name)(
    lambda: make(PIXELS, pixel_element=pixel_element, **{**WINDOW, **more})
  )


def stream(
  name: str, reason: str, syntax: str, edit: Callable[[bytes], bytes], **more
) -> None:
  """Adds a file whose codestream is edited before it is put in one fragment."""

  def build() -> bytes:
    pixels = BYTES if syntax == JPEG else PIXELS
    bits = 8 if syntax == JPEG else 12
    data = edit(compress(pixels, bits, syntax))
    return make(
      pixels,
      bits=bits,
      syntax=syntax,
      pixel_element=encapsulate(data),
      **{**WINDOW, **more},
    )

  case(reason, name)(build)


def patch(at: int, data: bytes) -> Callable[[bytes], bytes]:
  return lambda whole: whole[:at] + data + whole[at + len(data) :]


def patch_frame(marker: int, offset: int, data: bytes) -> Callable:
  """Edits the frame header of a JPEG, `offset` bytes after its marker."""

  def edit(whole: bytes) -> bytes:
    at = whole.index(bytes((0xFF, marker))) + offset
    return whole[:at] + data + whole[at + len(data) :]

  return edit


# Sizes and counts of the header.
tags("rows_0", "dicom:size", Rows=0)
tags("rows_65535", "dicom:size", Rows=65535)
tags("rows_and_columns_16384", "dicom:size", Rows=16384, Columns=16384)
tags("rows_negative", "dicom:size", Rows=element("Rows", -5, vr="SS")[8:])
tags("rows_in_one_byte", "dicom:header", Rows=b"\x10")
tags("rows_missing", "dicom:header", Rows=None)
tags("rows_empty", "dicom:header", Rows=b"")
tags("rows_twice_as_many", "dicom:truncated", Rows=32)
tags("rows_half_as_many", "dicom:frames", Rows=8)
tags("columns_three_values", "dicom:header", Columns=[16, 16, 16])
tags("frames_2_to_the_31", "dicom:frames", NumberOfFrames=2**31)
tags("frames_negative", "dicom:frames", NumberOfFrames=-1)
tags("frames_text", "dicom:header", NumberOfFrames="many")
tags("samples_3_of_monochrome", "dicom:not_grey", SamplesPerPixel=3)
tags("palette", "dicom:not_grey", PhotometricInterpretation="PALETTE COLOR")
tags("ybr", "dicom:not_grey", PhotometricInterpretation="YBR_FULL_422")
tags("photometric_missing", "dicom:not_grey", PhotometricInterpretation=None)
tags("bits_1", "dicom:bits", BitsAllocated=1, BitsStored=1, HighBit=0)
tags("bits_32", "dicom:bits", BitsAllocated=32, BitsStored=32, HighBit=31)
tags("bits_12_in_8", "dicom:bits", BitsAllocated=8)
tags("bits_stored_0", "dicom:bits", BitsStored=0)
tags("bits_missing", "dicom:header", BitsStored=None)
tags("high_bit_15_of_12", "dicom:high_bit", HighBit=15)
tags("high_bit_missing", "", HighBit=None)
tags("representation_7", "dicom:bits", PixelRepresentation=7)
tags("representation_missing", "dicom:header", PixelRepresentation=None)
tags("burned_in", "dicom:burned_in_annotation", BurnedInAnnotation="yes ")
tags("padding_before_rows", "", ImageComments="x" * 1024)

# Grey values.
tags("slope_0", "dicom:modality_lut", RescaleSlope=0, RescaleIntercept=0)
tags("slope_nan", "dicom:modality_lut", RescaleSlope="NaN")
tags("slope_infinite", "dicom:modality_lut", RescaleSlope="inf")
tags("slope_1e300", "dicom:modality_lut", RescaleSlope="1e300")
tags("slope_tiny", "dicom:modality_lut", RescaleSlope="1e-300")
tags("slope_text", "dicom:modality_lut", RescaleSlope="steep")
tags("intercept_huge", "dicom:modality_lut", RescaleIntercept="-1e99")


def modality_lut(name: str, descriptor: object, data: object) -> None:
  item = {"LUTDescriptor": descriptor, "LUTData": data}
  tags(name, "dicom:modality_lut", ModalityLUTSequence=[item])


modality_lut("lut_of_one_entry", [1, 0, 16], [7])
modality_lut("lut_of_65536_that_has_4", [0, 0, 16], [1, 2, 3, 4])
modality_lut("lut_depth_255", [4, 0, 255], [1, 2, 3, 4])
modality_lut("lut_depth_0", [4, 0, 0], [1, 2, 3, 4])
modality_lut("lut_deeper_than_stated", [4, 0, 8], [1, 2, 3, 400])
modality_lut("lut_without_data", [4, 0, 16], b"")
modality_lut("lut_descriptor_of_one", [4], [1, 2, 3, 4])
tags("lut_sequence_of_text", "dicom:modality_lut", ModalityLUTSequence=b"lut ")
tags("lut_sequence_empty", "", ModalityLUTSequence=[])

# Pixels as they lie.
WORDS = PIXELS.astype("<u2").tobytes()
native("no_pixels", "dicom:no_pixels", b"")
native("pixels_empty", "dicom:truncated", element("PixelData", b"", vr="OW"))
native(
  "pixels_cut_in_the_value",
  "dicom:truncated",
  element("PixelData", WORDS, vr="OW")[:-7],
)
native(
  "pixels_cut_in_the_length",
  "dicom:header",
  element("PixelData", WORDS, vr="OW")[:10],
)
native(
  "pixels_longer_than_the_file",
  "dicom:truncated",
  element("PixelData", WORDS, vr="OW", length=2**32 - 2),
)
native(
  "pixels_of_undefined_length",
  "dicom:pixels",
  element("PixelData", WORDS, vr="OW", length=2**32 - 1),
)
native("pixels_as_text", "dicom:pixels", element("PixelData", WORDS, vr="LO"))
native("pixels_of_odd_length", "", element("PixelData", WORDS + b"!", vr="OW"))
native("pixels_twice", "dicom:frames", element("PixelData", WORDS * 2, vr="OW"))
native(
  "float_pixels", "dicom:no_pixels", element(0x7FE00008, WORDS * 2, vr="OF")
)
native("pixels_of_unknown_kind", "", element("PixelData", WORDS, vr="UN"))
native(
  "native_but_encapsulated", "dicom:pixels", encapsulate(b"\xff\xd8" + WORDS)
)
native(
  "encapsulated_but_native",
  "dicom:fragments",
  element("PixelData", WORDS, vr="OW"),
  syntax=J2K,
)

# Fragments.
for _name, _reason, _build in (
  ("no_fragments", "dicom:no_pixels", lambda data: encapsulate()),
  ("empty_fragment", "dicom:no_pixels", lambda data: encapsulate(b"")),
  (
    "many_fragments",
    "",
    lambda data: encapsulate(*(data[i : i + 2] for i in range(0, 999, 2))),
  ),
  (
    "a_million_fragments",
    "dicom:fragments",
    lambda data: encapsulate(*[b""] * 2**17, data),
  ),
  ("no_delimiter", "dicom:truncated", lambda data: encapsulate(data, end=b"")),
  ("cut_fragment", "dicom:truncated", lambda data: encapsulate(data)[:-20]),
  (
    "fragment_of_undefined_length",
    "dicom:fragments",
    lambda data: encapsulate(data).replace(
      struct.pack("<L", len(data) + len(data) % 2), b"\xff" * 4
    ),
  ),
  (
    "items_that_are_none",
    "dicom:fragments",
    lambda data: encapsulate(data, end=b"\0" * 8),
  ),
  (
    "garbage_offset_table",
    "",
    lambda data: encapsulate(data, table=b"\xde\xad\xbe\xef"),
  ),
  (
    "odd_offset_table",
    "",
    lambda data: encapsulate(data, table=b"\xff" * 7),
  ),
  (
    "offset_table_of_three_frames",
    "dicom:frames",
    lambda data: encapsulate(data, table=struct.pack("<3L", 0, 9, 18)),
  ),
  (
    "two_codestreams",
    "dicom:frames",
    lambda data: encapsulate(data, data),
  ),
):
  case(_reason, _name)(
    lambda build=_build: make(
      PIXELS,
      syntax=JPLL,
      pixel_element=build(compress(PIXELS, 12, JPLL)),
      **WINDOW,
    )
  )

# Codestreams that say something else than the header. The J2K header: SIZ has
# its width at 8, height at 12, components at 40, precision at 42.
BIG = struct.pack(">L", 60000)
stream("j2k_60000_wide", "dicom:codestream_size", J2K, patch(8, BIG + BIG))
stream("j2k_2_to_the_32", "dicom:codestream_size", J2K, patch(8, b"\xff" * 8))
stream(
  "j2k_moved_origin", "dicom:codestream_size", J2K, patch(16, b"\0\0\0\5" * 2)
)
stream(
  "j2k_16384_components",
  "dicom:codestream_size",
  J2K,
  patch(40, struct.pack(">H", 16384)),
)
stream("j2k_of_38_bits", "dicom:codestream_bits", J2K, patch(42, b"\x25"))
stream("j2k_subsampled", "dicom:codestream_size", J2K, patch(43, b"\2\2"))
stream(
  "j2k_of_small_tiles", "dicom:codestream", J2K, patch(24, b"\0\0\0\1" * 2)
)
stream("j2k_header_only", "dicom:truncated", J2K, lambda data: data[:40])
stream("j2k_cut", "dicom:truncated", J2K, lambda data: data[:-60])
stream(
  "j2k_cut_and_closed",
  "dicom:truncated",
  J2K,
  lambda data: data[: len(data) // 2] + b"\xff\xd9",
)
stream("j2k_is_text", "dicom:codestream", J2K, lambda data: b"so it goes" * 9)
stream(
  "j2k_in_a_container",
  "",
  J2K,
  lambda data: (
    b"\0\0\0\x0cjP  \r\n\x87\n"
    + struct.pack(">L", len(data) + 8)
    + b"jp2c"
    + data
  ),
)
stream(
  "jpeg_65500_high",
  "dicom:codestream_size",
  JPEG,
  patch_frame(0xC0, 5, struct.pack(">HH", 65500, 65500)),
)
stream(
  "jpeg_height_comes_later",
  "dicom:codestream_size",
  JPEG,
  patch_frame(0xC0, 5, b"\0\0"),
)
stream(
  "jpeg_progressive", "dicom:codestream", JPEG, patch_frame(0xC0, 1, b"\xc2")
)
stream(
  "jpeg_of_3_components",
  "dicom:codestream_size",
  JPEG,
  lambda data: imagecodecs.jpeg8_encode(np.dstack([BYTES] * 3)),
)
stream(
  "jpeg_of_12_bits_in_8",
  "dicom:codestream_bits",
  JPEG12,
  lambda data: data,
  BitsAllocated=8,
  BitsStored=8,
  HighBit=7,
)
stream(
  "jpeg_lossless_as_baseline",
  "dicom:codestream",
  JPEG,
  lambda data: compress(BYTES, 8, JPLL),
)
stream("jpeg_cut", "dicom:truncated", JPEG, lambda data: data[:-40])
stream(
  "jpeg_with_a_second_scan",
  "dicom:codestream",
  JPEG,
  lambda data: data[:-2] + data[data.index(b"\xff\xda") :],
)
stream(
  "jpeg_without_a_frame",
  "dicom:codestream",
  JPEG,
  lambda data: data[:2] + data[data.index(b"\xff\xda") :],
)
stream(
  "jpeg_segment_past_the_end",
  "dicom:truncated",
  JPEG,
  patch(4, b"\xff\xff"),
)
stream(
  "jpeg_scan_header_past_the_end",
  "dicom:truncated",
  JPEG,
  patch_frame(0xDA, 2, b"\xff\xff"),
)
stream(
  "jpeg_of_markers_only",
  "dicom:truncated",
  JPEG,
  lambda data: b"\xff\xd8" + b"\xff" * 99,
)
stream("jpeg_lossless_cut", "dicom:truncated", JPLL, lambda data: data[:-50])
stream(
  "jpeg_lossless_signed_and_short",
  "dicom:codestream_bits",
  JPLL,
  lambda data: data,
  BitsStored=16,
  HighBit=15,
  PixelRepresentation=1,
)
stream(
  "jls_65000_wide",
  "dicom:codestream_size",
  JLS,
  patch_frame(0xF7, 7, struct.pack(">H", 65000)),
)
stream("jls_cut", "dicom:truncated", JLS, lambda data: data[:-30])
stream(
  "jls_cut_and_closed",
  "dicom:pixels",
  JLS,
  lambda data: data[: len(data) * 2 // 3] + b"\xff\xd9",
)
# 512 bytes of 128 times one byte each: far more than the picture has.
stream(
  "rle_bomb",
  "dicom:pixels",
  RLE,
  lambda data: (
    struct.pack("<16L", 2, 64, 64 + 2**16, *[0] * 13) + b"\x81\7" * 2**16
  ),
)
stream(
  "rle_of_15_segments",
  "dicom:codestream_bits",
  RLE,
  patch(0, struct.pack("<L", 15)),
)
stream(
  "rle_of_4_billion_segments",
  "dicom:codestream_bits",
  RLE,
  patch(0, b"\xff" * 4),
)
stream(
  "rle_segments_past_the_end",
  "dicom:codestream",
  RLE,
  patch(4, struct.pack("<2L", 2**31, 2**32 - 1)),
)
stream(
  "rle_segments_backwards",
  "dicom:codestream",
  RLE,
  patch(4, struct.pack("<2L", 400, 64)),
)
stream("rle_header_only", "dicom:codestream", RLE, lambda data: data[:64])
stream("rle_header_cut", "dicom:truncated", RLE, lambda data: data[:40])


# The file around it.
@case("dicom:not_dicom")
def empty_file():
  return b""


@case("dicom:not_dicom")
def text_file():
  return b"version https://git-lfs.github.com/spec/v1\n" * 9


@case("dicom:not_dicom")
def no_preamble():
  return make(PIXELS)[128:]


@case("")
def executable_preamble():
  return make(PIXELS, preamble=b"MZ" + b"\x90" * 126, **WINDOW)


@case("dicom:no_transfer_syntax")
def no_transfer_syntax():
  return make(PIXELS, syntax=uid.ExplicitVRLittleEndian).replace(
    b"\2\0\x10\0UI", b"\2\0\x13\0UI"
  )


@case("dicom:no_transfer_syntax")
def nothing_after_the_magic():
  return bytes(128) + b"DICM"


@case("dicom:transfer_syntax")
def private_transfer_syntax():
  return dicom_files.meta("1.2.840.113619.5.2") + make(PIXELS)[200:]


@case("dicom:transfer_syntax")
def transfer_syntax_of_a_video():
  return dicom_files.meta(str(uid.MPEG2MPML)) + make(PIXELS)[200:]


@case("dicom:transfer_syntax")
def transfer_syntax_is_bytes():
  return dicom_files.meta(b"\xff\xfe" * 30) + make(PIXELS)[200:]


@case("dicom:header")
def implicit_file_called_explicit_and_cut():
  data = make(PIXELS, syntax=uid.ImplicitVRLittleEndian)
  return data[: len(data) // 4]


@case("dicom:header")
def directory_record():
  sequence = element(
    "DirectoryRecordSequence", [{"ReferencedFileID": "../../x"}]
  )
  return dicom_files.meta(uid.ExplicitVRLittleEndian) + sequence


@case("dicom:header")
def sequences_1000_deep():
  level = (
    b"\x08\0\x40\x11SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\0\xe0" + b"\xff" * 4
  )
  return make(PIXELS, first=level * 1000)


@case("dicom:header")
def element_longer_than_the_file():
  return make(PIXELS, first=element("StudyDescription", b"", length=2**16 - 2))


@case("dicom:header")
def unknown_value_of_undefined_length():
  return make(PIXELS, first=element(0x00091001, b"", vr="OB", length=2**32 - 1))


@case("dicom:header")
def sequence_that_never_ends():
  return make(PIXELS, first=element(0x00081140, b"", vr="SQ", length=2**32 - 1))


@case("")
def sequence_in_front():
  return make(
    PIXELS,
    first=element(0x00081140, [{"Rows": 9, "PixelData": b"1234"}]),
    **WINDOW,
  )


@case("dicom:deflated")
def deflated_garbage():
  return dicom_files.meta(DEFLATED) + b"\xff" * 400


@case("dicom:truncated")
def deflated_and_cut():
  return make(PIXELS, syntax=DEFLATED)[:-10]


@case("dicom:truncated")
def deflated_nothing():
  return dicom_files.meta(DEFLATED)


@case("dicom:header")
def a_million_elements():
  return make(PIXELS, first=element("ImageComments", b"") * 2**20)


@case("dicom:header")
def header_past_its_limit():
  return make(PIXELS, first=element(0x00091001, bytes(2**24), vr="OB"))


@pytest.mark.parametrize("name", list(CASES))
def test_hostile_file(tmp_path, name):
  build, reason = CASES[name]
  path = tmp_path / "a.dcm"
  path.write_bytes(build())
  del build
  tracemalloc.start()
  try:
    image = images.read_image(path)
  except rejects.RejectError as rejection:
    assert rejection.reason == reason
  else:
    assert reason == ""
    np.testing.assert_array_equal(image, GOOD)
  finally:
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
  assert peak < 5 * path.stat().st_size + 2**23


def convert_and_measure(item: items.Item, root: Path) -> convert.Outcome:
  """The real conversion, and last in the notes the peak of its process, KiB."""
  outcome = convert.convert_item(item, root, short_side=64, recipe="voi")
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return dataclasses.replace(outcome, notes=(*outcome.notes, str(peak)))


def test_hostile_files_in_a_sandbox(tmp_path):
  """What the decoders take, which `tracemalloc` does not see."""
  jobs = []
  for name, (build, _) in CASES.items():
    (tmp_path / f"{name}.dcm").write_bytes(build())
    path = (f"{name}.dcm",)
    jobs.append(items.Item(path, "train", name, "s", "p", findings="Clear."))
  work = functools.partial(convert_and_measure, root=tmp_path)
  with sandbox.Sandbox(work) as box:
    outcomes = list(box.run(jobs))
  assert {
    job.image_id: outcome.reason
    for job, outcome in zip(jobs, outcomes, strict=True)
  } == {name: reason for name, (_, reason) in CASES.items()}
  # The process alone has 90 MiB.
  assert max(int(outcome.notes[-1]) for outcome in outcomes) < 2**18


@pytest.mark.parametrize(
  "name",
  [
    name
    for name, (_, reason) in CASES.items()
    if reason.startswith("dicom:codestream")
  ],
)
def test_no_decoder_is_called_on_a_lie(tmp_path, monkeypatch, name):
  for decoder in ("jpeg8", "jpegls", "jpeg2k", "packbits"):
    monkeypatch.setattr(
      imagecodecs, f"{decoder}_decode", lambda *_, **__: pytest.fail("called")
    )
  build, reason = CASES[name]
  path = tmp_path / "a.dcm"
  path.write_bytes(build())
  with pytest.raises(rejects.RejectError, match=f"^{reason}$"):
    dicom.read_image(path)


@pytest.mark.parametrize(
  ("overrides", "note"),
  [
    ({"WindowWidth": "NaN"}, "window:invalid"),
    ({"WindowCenter": "-inf"}, "window:invalid"),
    ({"WindowCenter": "centre"}, "window:invalid"),
    ({"WindowWidth": "1e300"}, "window:blank"),
    ({"WindowWidth": "1e-300", "VOILUTFunction": "LINEAR_EXACT"}, ""),
    ({"WindowWidth": []}, "window:absent"),
    ({"WindowWidth": b"\xff\xfe\xfd\xfc"}, "window:invalid"),
    ({"VOILUTFunction": b"\xff\xfe"}, "window:invalid"),
    ({"VOILUTSequence": b"table!"}, "voi_lut:invalid"),
    ({"VOILUTSequence": [{"LUTDescriptor": [4, 0, 16]}]}, "voi_lut:invalid"),
    (
      {
        "VOILUTSequence": [
          {"LUTDescriptor": [4, 60000, 16], "LUTData": [1, 2, 3, 4]}
        ]
      },
      "voi_lut:blank",
    ),
    (
      {
        "VOILUTSequence": [
          {"LUTDescriptor": [2, 2047, 8], "LUTData": [0, 255]},
          {"LUTDescriptor": [2, 9, 8], "LUTData": [0, 255]},
        ]
      },
      "voi_lut:several",
    ),
  ],
)
def test_hostile_windows_give_way(tmp_path, overrides, note):
  path = tmp_path / "a.dcm"
  path.write_bytes(make(PIXELS, **{**WINDOW, **overrides}))
  notes = []
  image = dicom.read_image(path, notes)
  assert notes == [note] * bool(note)
  assert np.ptp(image) > 250


@pytest.mark.parametrize(
  ("overrides", "notes"),
  [
    ({"PixelPaddingValue": b"\xff"}, ["padding:invalid"]),
    (
      {"first": element("PixelPaddingValue", "nil", vr="LO")},
      ["padding:invalid"],
    ),
    ({"PixelPaddingValue": b""}, []),
    ({"PixelPaddingValue": [0, 4095]}, []),  # one too many
    ({"PixelPaddingValue": 65535}, []),  # out of the pixels' range
    ({"PixelPaddingRangeLimit": 65535}, []),  # of no range
    (
      {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": b"\1\2\3"},
      ["padding:invalid"],
    ),
    (
      {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 65535},
      ["padding:everywhere"],
    ),
  ],
)
@pytest.mark.parametrize("tags", [{}, WINDOW], ids=["percentiles", "window"])
def test_hostile_padding_is_harmless(tmp_path, overrides, notes, tags):
  path = tmp_path / "a.dcm"
  path.write_bytes(make(PIXELS, **tags))
  plain = []
  expected = dicom.read_image(path, plain).astype(int)
  path.write_bytes(make(PIXELS, **tags, **overrides))
  got = []
  image = dicom.read_image(path, got)
  assert got == notes + plain
  # A percentile moves by less than a value where zero does not count.
  assert np.abs(image - expected).max() <= 5


def test_padding_that_leaves_one_value(tmp_path):
  path = tmp_path / "a.dcm"
  path.write_bytes(
    make(PIXELS, PixelPaddingValue=0, PixelPaddingRangeLimit=4079)
  )
  with pytest.raises(rejects.RejectError, match="^image:constant$"):
    dicom.read_image(path)


def test_deflate_bomb(tmp_path, monkeypatch):
  monkeypatch.setattr(dicom, "MAX_INFLATED_BYTES", 2**22)
  data = dicom_files.meta(DEFLATED) + dicom_files.deflate(bytes(2**25))
  path = tmp_path / "a.dcm"
  path.write_bytes(data)
  assert len(data) < 2**16
  tracemalloc.start()
  with pytest.raises(rejects.RejectError, match="^dicom:deflated_too_large$"):
    dicom.read_image(path)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 2**24


def test_file_size_is_capped(tmp_path, monkeypatch):
  path = tmp_path / "a.dcm"
  path.write_bytes(make(PIXELS))
  monkeypatch.setattr(dicom, "MAX_BYTES", path.stat().st_size - 1)
  with pytest.raises(rejects.RejectError, match="^dicom:too_large$"):
    dicom.read_image(path)


def test_directory_called_dcm(tmp_path):
  path = tmp_path / "a.dcm"
  path.mkdir()
  with pytest.raises(rejects.RejectError, match="^image:cannot_be_opened$"):
    images.read_image(path)
  with pytest.raises(rejects.RejectError, match="^dicom:cannot_be_opened$"):
    dicom.read_image(path)


def _pydicom_files():
  root = Path(pydicom.data.__file__).parent
  return sorted(
    path
    for folder in ("test_files", "charset_files")
    for path in (root / folder).rglob("*")
    if path.is_file()
  )


def test_pydicoms_own_files_are_read_or_rejected():
  outcomes = []
  for path in _pydicom_files():
    try:
      image = dicom.read_image(path)
    except rejects.RejectError as rejection:
      outcomes.append(rejection.reason)
    else:
      assert image.dtype == np.uint8
      assert image.ndim == 2
      assert np.ptp(image) > 0, path.name
      outcomes.append("read")
  assert len(outcomes) > 100
  assert outcomes.count("read") >= 20
