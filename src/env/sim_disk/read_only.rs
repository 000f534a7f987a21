//! A file that was opened to be read.

use crate::base::{Error, Result};
use crate::env::disk::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What [`Disk::open`] gives: a real one refuses writes as well.
#[derive(Debug)]
pub(super) struct ReadOnly(Arc<dyn File>);

impl ReadOnly {
    pub(super) fn of(file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(ReadOnly(file))
    }

    fn refuse(&self) -> Error {
        Error::io(
            "write",
            Path::new("a file opened to read"),
            io::ErrorKind::PermissionDenied.into(),
        )
    }
}

impl File for ReadOnly {
    fn len(&self) -> Result<u64> {
        self.0.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, _bytes: &[u8], _offset: u64) -> Result<()> {
        Err(self.refuse())
    }

    fn sync_data(&self) -> Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, _len: u64) -> Result<()> {
        Err(self.refuse())
    }
}
