"""DICOM and NIfTI in and out: the home of pydicom, nibabel and highdicom, which come with the extra
`medical`. See docs/medical.md."""
