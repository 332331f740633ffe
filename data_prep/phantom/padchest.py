"""PadChest's tree: 16-bit PNGs in numbered folders and the 36-column table."""

import datetime
from pathlib import Path

import cv2
import numpy as np

from data_prep.phantom import patients, tables

_COLUMNS = (
  "",
  "ImageID",
  "ImageDir",
  "StudyDate_DICOM",
  "StudyID",
  "PatientID",
  "PatientBirth",
  "PatientSex_DICOM",
  "ViewPosition_DICOM",
  "Projection",
  "MethodProjection",
  "Pediatric",
  "Modality_DICOM",
  "Manufacturer_DICOM",
  "PhotometricInterpretation_DICOM",
  "PixelRepresentation_DICOM",
  "PixelAspectRatio_DICOM",
  "SpatialResolution_DICOM",
  "BitsStored_DICOM",
  "WindowCenter_DICOM",
  "WindowWidth_DICOM",
  "Rows_DICOM",
  "Columns_DICOM",
  "XRayTubeCurrent_DICOM",
  "Exposure_DICOM",
  "ExposureInuAs_DICOM",
  "ExposureTime",
  "RelativeXRayExposure_DICOM",
  "ReportID",
  "Report",
  "MethodLabel",
  "Labels",
  "Localizations",
  "LabelsLocalizationsBySentence",
  "labelCUIS",
  "LocalizationsCUIS",
)
_TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"

# finding or form: (label, its code, stemmed Spanish)
_NAMES = {
  "cardiomegaly": ("cardiomegaly", "C0018800", "cardiomegali"),
  "effusion": ("pleural effusion", "C2073625", "derram pleural"),
  "consolidation": ("consolidation", "C0521530", "consolid"),
  "plate": ("laminar atelectasis", "", "atelectasi laminar"),
  "volume loss": ("atelectasis", "C0004144", "atelectasi"),
  "edema": ("pulmonary edema", "C0034063", "edem pulmon"),
  "pneumothorax": ("pneumothorax", "C2073565", "neumotorax"),
  "nodule": ("nodule", "C0034079", "nodul pulmon"),
  "endotracheal tube": ("endotracheal tube", "C0336630", "tub endotraqueal"),
  "jugular line": (
    "central venous catheter via jugular vein",
    "C0398278",
    "via central yugul",
  ),
  "subclavian line": (
    "central venous catheter via subclavian vein",
    "C0398281",
    "via central subclavi",
  ),
  "pacemaker": ("pacemaker", "C0030163", "marcapas"),
  "nasogastric tube": ("NSG tube", "", "sond nasogastr"),
  "chest tube": ("chest drain tube", "C0008034", "tub drenaj toracic"),
}
_SIDES = {
  "left": ("loc left", "C0443246", "izquierd"),
  "right": ("loc right", "C0444532", "derech"),
  "both": ("loc bilateral", "C0238767", "bilateral"),
}
_SEVERITIES = {
  "mild": ("lev", "pequen"),
  "moderate": ("moder",),
  "severe": ("marc", "extens"),
}
_NORMAL = (
  "sin hallazg radiolog signific .",
  "sin hallazg patolog .",
  "sin hallazg relev .",
  "siluet cardiomediastin parenquim pulmonar sin alter signific .",
)

Rows = list[list[object]]


def write_patient(root: Path, patient: patients.Patient) -> Rows:
  """Writes the patient's PNGs under `root` and returns the table's rows."""
  rows: Rows = []
  folder = patient.rank % 51
  (root / str(folder)).mkdir(parents=True, exist_ok=True)
  person = np.random.default_rng((patient.studies[0].seed, 1))
  patient_id = _digits(person, 38)
  method = "Physician" if person.random() < 0.8 else "RNN_model"
  for study in patient.studies:
    rng = np.random.default_rng((study.seed, 0))
    study_id = _digits(rng, 39)
    labels, places, by_sentence, codes, place_codes, report = _read(study, rng)
    if rng.random() < 0.01:
      labels = ""
    day = datetime.date(2012, 1, 1) + datetime.timedelta(study.day)
    report_id = int(rng.integers(4_000_000, 6_000_000))
    digital = rng.random() < 0.1
    for picture in study.pictures:
      grey, _ = patients.photograph(patient.anatomy, study.findings, picture)
      end = "".join(
        "abcdefghijklmnopqrstuvwxyz0123456789"[n]
        for n in rng.integers(36, size=6)
      )
      image_id = f"{study_id}_{end}.png"
      top = 65535 * rng.uniform(0.85, 1.0)
      _, png = cv2.imencode(
        ".png",
        np.round(grey * top).astype(np.uint16),
        [cv2.IMWRITE_PNG_COMPRESSION, 1],
      )
      (root / str(folder) / image_id).write_bytes(png.tobytes())
      projection, view = _projection(picture, rng)
      bits = 10 if rng.random() < 0.1 else 12
      rows.append(
        [
          image_id,
          folder,
          day.strftime("%Y%m%d"),
          study_id,
          patient_id,
          f"{day.year - patient.age}.0",
          patient.sex,
          view,
          projection,
          "Manual review of DICOM fields",
          "No",
          "DX" if digital else "CR",
          "PhilipsMedicalSystems" if digital else "ImagingDynamicsCompanyLtd",
          "MONOCHROME2",
          0,
          None if digital else "['1', '1']",
          "0.148" if digital else "None",
          bits,
          2 ** (bits - 1) - 0.5,
          2**bits - 1,
          *grey.shape,
          int(rng.choice([250, 320, 400])),
          int(rng.integers(1, 13)),
          int(rng.choice([2500, 3200, 10000])),
          int(rng.choice([5, 10, 25])),
          f"{rng.normal(-1, 0.4):.2f}",
          report_id,
          report,
          method,
          labels,
          places,
          by_sentence,
          codes,
          place_codes,
        ]
      )
  return rows


def write_tables(root: Path, patients_rows: list[Rows]) -> None:
  """Writes the table over all patients."""
  joined = [row for rows in patients_rows for row in rows]
  tables.write(
    root / _TABLE,
    _COLUMNS,
    ([number, *row] for number, row in enumerate(joined, 1)),
  )


def _read(
  study: patients.Study, rng: np.random.Generator
) -> tuple[str, str, str, str, str, str]:
  """Returns the last five columns as the table spells them, and Report."""
  labels: list[str] = []
  places: list[str] = []
  sentences: list[list[str]] = []
  codes: list[str] = []
  place_codes: list[str] = []
  words: list[str] = []
  for finding in study.findings:
    label, code, stem = _NAMES[finding.form or finding.name]
    side = _SIDES.get(finding.side)
    labels.append(label)
    sentences.append([label, *([side[0]] if side else [])])
    codes.append(code)
    options = _SEVERITIES[finding.severity]
    text = (
      stem
      if finding.form in _NAMES
      else f"{options[int(rng.integers(len(options)))]} {stem}"
    )
    if side:
      places.append(side[0])
      place_codes.append(side[1])
      text += f" {side[2]}"
    words.append(f"{text} .")
  if not study.findings:
    labels, sentences = ["normal"], [["normal"]]
    words = [_NORMAL[int(rng.integers(len(_NORMAL)))]]
  labels, places = list(dict.fromkeys(labels)), list(dict.fromkeys(places))
  # The real table has stray blanks before some labels.
  labels = [f" {name}" if rng.random() < 0.15 else name for name in labels]
  return (
    str(labels),
    str(places),
    str(sentences),
    _codes(codes),
    _codes(place_codes),
    " ".join(words),
  )


def _codes(codes: list[str]) -> str:
  """Returns codes as numpy prints them, without commas."""
  kept = dict.fromkeys(code for code in codes if code)
  return "[" + " ".join(f"'{code}'" for code in kept) + "]"


def _projection(
  picture: patients.Picture, rng: np.random.Generator
) -> tuple[str, str]:
  """Returns Projection and ViewPosition_DICOM."""
  if picture.view == "lateral":
    return "L", str(rng.choice(["LATERAL", "LL", "nan"]))
  if picture.portable:
    lying = rng.random() < 0.7
    return ("AP_horizontal" if lying else "AP"), str(
      rng.choice(["ANTEROPOSTERIOR", "nan"])
    )
  return "PA", str(rng.choice(["POSTEROANTERIOR", "PA", "nan"]))


def _digits(rng: np.random.Generator, count: int) -> str:
  first = str(int(rng.integers(1, 10)))
  return first + "".join(str(n) for n in rng.integers(10, size=count - 1))
