"""What is kept on this box: sealed objects, the keys that open them, the log that takes them in, the guard of the disk.

Nothing here writes SQL, and nothing here knows more of DICOM than "the bytes of a Part 10 file".
"""
