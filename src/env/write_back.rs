//! Asking the kernel to begin writing a part of a file. Linux alone has a call for it.

#![expect(unsafe_code, reason = "one system call that no wrapper of ours knows")]

use std::fs::File;
use std::os::fd::AsRawFd;

/// Has `bytes` bytes of `file` at `offset` be sent to the device, and does not wait for them. A
/// hint: whether it worked is seen when the file is synced.
pub(super) fn write_back(file: &File, offset: u64, bytes: u64) {
    let (Ok(offset), Ok(bytes)) = (offset.try_into(), bytes.try_into()) else { return };
    // SAFETY: a call about an open file; no memory is passed.
    _ = unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, bytes, libc::SYNC_FILE_RANGE_WRITE)
    };
}
