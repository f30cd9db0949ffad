"""DICOM files, as tests need them; the module needs pydicom."""

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"


def dataset(pixels, patient="Mustermann", colour=False, **elements):
    """A DICOM dataset with these pixels, (H, W), (F, H, W), (H, W, 3) or (F, H, W, 3), and elements by keyword."""
    pixels = np.asarray(pixels)
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID, one.SOPInstanceUID = CT, generate_uid()
    one.file_meta.MediaStorageSOPClassUID, one.file_meta.MediaStorageSOPInstanceUID = CT, one.SOPInstanceUID
    one.PatientID, one.PatientName, one.StudyInstanceUID = patient, f"{patient}^Erika", generate_uid()
    one.Modality = "CT"
    one.Rows, one.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    one.SamplesPerPixel = 3 if colour else 1
    one.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        one.PlanarConfiguration = 0
    if pixels.ndim - colour == 3:
        one.NumberOfFrames = len(pixels)
    one.BitsAllocated = one.BitsStored = 8 * pixels.itemsize
    one.HighBit = one.BitsStored - 1
    one.PixelRepresentation = int(pixels.dtype.kind == "i")
    one.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    for key, value in elements.items():
        setattr(one, key, value)
    return one
