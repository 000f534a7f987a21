//! RocksDB through its C interface, which has kept its form from 7.x to 11.x: the one built with
//! this package, and any other as a shared library.

use crate::store::{Result, Setup, Store};
use std::ffi::{CStr, CString, c_char, c_double, c_int, c_uchar, c_void};
use std::path::Path;
use std::ptr;

/// Names the shared library of another RocksDB.
pub const SYSTEM_LIBRARY: &str = "ROCKSDB_SYSTEM_LIBRARY";

type Ptr = *mut c_void;
type Err = *mut *mut c_char;
type Bytes = *const c_char;

/// Declares the functions once, as a table of pointers that either library fills.
macro_rules! functions {
    ($($name:ident: fn($($arg:ty),*) $(-> $ret:ty)?;)*) => {
        #[derive(Clone, Copy)]
        struct Api { $($name: unsafe extern "C" fn($($arg),*) $(-> $ret)?,)* }

        #[cfg(feature = "bundled")]
        mod linked {
            use super::{Bytes, Err, Ptr};
            use std::ffi::*;
            unsafe extern "C" {
                $(pub fn $name($(_: $arg),*) $(-> $ret)?;)*
            }
        }

        impl Api {
            #[cfg(feature = "bundled")]
            fn bundled() -> Result<Api> {
                // Named so that the library is linked.
                _ = librocksdb_sys::rocksdb_free as *const () as usize;
                Ok(Api { $($name: linked::$name,)* })
            }

            fn shared(library: &'static libloading::Library) -> Result<Api> {
                // SAFETY: the signatures are those of RocksDB's c.h, the same in all versions.
                unsafe { Ok(Api { $($name: *library.get(concat!(stringify!($name), "\0").as_bytes())?,)* }) }
            }
        }
    };
}

functions! {
    rocksdb_options_create: fn() -> Ptr;
    rocksdb_options_set_create_if_missing: fn(Ptr, c_uchar);
    rocksdb_options_set_write_buffer_size: fn(Ptr, usize);
    rocksdb_options_set_compression: fn(Ptr, c_int);
    rocksdb_options_set_block_based_table_factory: fn(Ptr, Ptr);
    rocksdb_options_set_max_background_jobs: fn(Ptr, c_int);
    rocksdb_options_set_max_write_buffer_number: fn(Ptr, c_int);
    rocksdb_options_set_memtable_prefix_bloom_size_ratio: fn(Ptr, c_double);
    rocksdb_options_set_memtable_whole_key_filtering: fn(Ptr, c_uchar);
    rocksdb_options_set_manual_wal_flush: fn(Ptr, c_uchar);
    rocksdb_block_based_options_create: fn() -> Ptr;
    rocksdb_block_based_options_set_filter_policy: fn(Ptr, Ptr);
    rocksdb_block_based_options_set_data_block_index_type: fn(Ptr, c_int);
    rocksdb_block_based_options_set_block_cache: fn(Ptr, Ptr);
    rocksdb_filterpolicy_create_bloom: fn(c_double) -> Ptr;
    rocksdb_cache_create_lru: fn(usize) -> Ptr;
    rocksdb_writeoptions_create: fn() -> Ptr;
    rocksdb_writeoptions_set_sync: fn(Ptr, c_uchar);
    rocksdb_readoptions_create: fn() -> Ptr;
    rocksdb_flushoptions_create: fn() -> Ptr;
    rocksdb_flushoptions_set_wait: fn(Ptr, c_uchar);
    rocksdb_open: fn(Ptr, Bytes, Err) -> Ptr;
    rocksdb_close: fn(Ptr);
    rocksdb_put: fn(Ptr, Ptr, Bytes, usize, Bytes, usize, Err);
    rocksdb_delete: fn(Ptr, Ptr, Bytes, usize, Err);
    rocksdb_write: fn(Ptr, Ptr, Ptr, Err);
    rocksdb_writebatch_create: fn() -> Ptr;
    rocksdb_writebatch_destroy: fn(Ptr);
    rocksdb_writebatch_put: fn(Ptr, Bytes, usize, Bytes, usize);
    rocksdb_get_pinned: fn(Ptr, Ptr, Bytes, usize, Err) -> Ptr;
    rocksdb_pinnableslice_value: fn(Ptr, *mut usize) -> Bytes;
    rocksdb_pinnableslice_destroy: fn(Ptr);
    rocksdb_create_iterator: fn(Ptr, Ptr) -> Ptr;
    rocksdb_iter_seek: fn(Ptr, Bytes, usize);
    rocksdb_iter_valid: fn(Ptr) -> c_uchar;
    rocksdb_iter_next: fn(Ptr);
    rocksdb_iter_key: fn(Ptr, *mut usize) -> Bytes;
    rocksdb_iter_value: fn(Ptr, *mut usize) -> Bytes;
    rocksdb_iter_get_error: fn(Ptr, Err);
    rocksdb_iter_destroy: fn(Ptr);
    rocksdb_flush: fn(Ptr, Ptr, Err);
    rocksdb_property_int: fn(Ptr, Bytes, *mut u64) -> c_int;
    rocksdb_free: fn(Ptr);
}

/// Which RocksDB.
#[derive(Debug, Clone, Copy)]
pub enum Library {
    Bundled,
    System,
}

/// How it is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// As it comes.
    Default,
    /// Bloom filters of 10 bits a key, hash index in data blocks, memtable bloom, two background
    /// jobs, four write buffers.
    Tuned,
    /// As it comes, but a write stays in the process until the log's buffer is full: a kill loses
    /// it (class P).
    ManualWal,
}

const LZ4: c_int = 4;
const NO_COMPRESSION: c_int = 0;
const BINARY_SEARCH_AND_HASH: c_int = 1;

/// An open RocksDB. What its options point to lives as long as the process.
pub struct Rocks {
    api: Api,
    db: Ptr,
    write: Ptr,
    read: Ptr,
    flush: Ptr,
}

// SAFETY: RocksDB's handle and its read and write options may be used by many threads.
unsafe impl Send for Rocks {}
// SAFETY: as above.
unsafe impl Sync for Rocks {}

#[cfg(not(feature = "bundled"))]
fn bundled() -> Result<Api> {
    Err("this build has no RocksDB of its own; build with --features bundled".into())
}

#[cfg(feature = "bundled")]
fn bundled() -> Result<Api> {
    Api::bundled()
}

fn system() -> Result<Api> {
    let path = std::env::var(SYSTEM_LIBRARY)
        .map_err(|_| format!("{SYSTEM_LIBRARY} must name a librocksdb.so"))?;
    // SAFETY: loading RocksDB runs its initialisers, which are made for that.
    let library = unsafe { libloading::Library::new(path)? };
    Api::shared(Box::leak(Box::new(library)))
}

impl Rocks {
    pub fn open(dir: &Path, library: Library, profile: Profile, setup: Setup) -> Result<Rocks> {
        let api = match library {
            Library::Bundled => bundled()?,
            Library::System => system()?,
        };
        let path = CString::new(dir.to_str().ok_or("a folder's name is not UTF-8")?)?;
        // SAFETY: calls as c.h describes them, on what they gave before.
        unsafe {
            let options = (api.rocksdb_options_create)();
            (api.rocksdb_options_set_create_if_missing)(options, 1);
            let codec = if setup.compress { LZ4 } else { NO_COMPRESSION };
            (api.rocksdb_options_set_compression)(options, codec);
            if let Some(bytes) = setup.write_buffer_bytes {
                (api.rocksdb_options_set_write_buffer_size)(options, bytes as usize);
            }
            let table = (api.rocksdb_block_based_options_create)();
            if let Some(bytes) = setup.cache_bytes {
                let cache = (api.rocksdb_cache_create_lru)(bytes as usize);
                (api.rocksdb_block_based_options_set_block_cache)(table, cache);
            }
            if profile == Profile::Tuned {
                let bloom = (api.rocksdb_filterpolicy_create_bloom)(10.0);
                (api.rocksdb_block_based_options_set_filter_policy)(table, bloom);
                (api.rocksdb_block_based_options_set_data_block_index_type)(
                    table,
                    BINARY_SEARCH_AND_HASH,
                );
                (api.rocksdb_options_set_memtable_prefix_bloom_size_ratio)(options, 0.1);
                (api.rocksdb_options_set_memtable_whole_key_filtering)(options, 1);
                (api.rocksdb_options_set_max_background_jobs)(options, 2);
                (api.rocksdb_options_set_max_write_buffer_number)(options, 4);
            }
            if profile == Profile::ManualWal {
                (api.rocksdb_options_set_manual_wal_flush)(options, 1);
            }
            (api.rocksdb_options_set_block_based_table_factory)(options, table);
            let write = (api.rocksdb_writeoptions_create)();
            (api.rocksdb_writeoptions_set_sync)(write, u8::from(setup.sync));
            let flush = (api.rocksdb_flushoptions_create)();
            (api.rocksdb_flushoptions_set_wait)(flush, 1);
            let read = (api.rocksdb_readoptions_create)();
            let db = checked(&api, |e| (api.rocksdb_open)(options, path.as_ptr(), e))?;
            Ok(Rocks { api, db, write, read, flush })
        }
    }

    fn property(&self, name: &CStr) -> u64 {
        let mut value = 0;
        // SAFETY: an open database and a C string.
        unsafe { (self.api.rocksdb_property_int)(self.db, name.as_ptr(), &mut value) };
        value
    }
}

/// Calls `f` with a place for an error, and gives that error if there is one.
fn checked<T>(api: &Api, f: impl FnOnce(Err) -> T) -> Result<T> {
    let mut error: *mut c_char = ptr::null_mut();
    let out = f(&mut error);
    if error.is_null() {
        return Ok(out);
    }
    // SAFETY: RocksDB gave a C string that is ours to free.
    let message = unsafe {
        let message = CStr::from_ptr(error).to_string_lossy().into_owned();
        (api.rocksdb_free)(error.cast());
        message
    };
    Err(message.into())
}

fn part(bytes: &[u8]) -> (Bytes, usize) {
    (bytes.as_ptr().cast(), bytes.len())
}

impl Store for Rocks {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let ((k, kn), (v, vn)) = (part(key), part(value));
        // SAFETY: an open database, and slices that outlive the call.
        checked(&self.api, |e| unsafe {
            (self.api.rocksdb_put)(self.db, self.write, k, kn, v, vn, e)
        })
    }

    fn put_batch(&self, rows: &[(&[u8], &[u8])]) -> Result<()> {
        // SAFETY: the batch is made, used and destroyed here.
        unsafe {
            let batch = (self.api.rocksdb_writebatch_create)();
            for (key, value) in rows {
                let ((k, kn), (v, vn)) = (part(key), part(value));
                (self.api.rocksdb_writebatch_put)(batch, k, kn, v, vn);
            }
            let written =
                checked(&self.api, |e| (self.api.rocksdb_write)(self.db, self.write, batch, e));
            (self.api.rocksdb_writebatch_destroy)(batch);
            written
        }
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        let (k, kn) = part(key);
        // SAFETY: as in `put`.
        checked(&self.api, |e| unsafe { (self.api.rocksdb_delete)(self.db, self.write, k, kn, e) })
    }

    fn get(&self, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let (k, kn) = part(key);
        // SAFETY: the slice is read before it is destroyed.
        unsafe {
            let found = checked(&self.api, |e| {
                (self.api.rocksdb_get_pinned)(self.db, self.read, k, kn, e)
            })?;
            if found.is_null() {
                return Ok(false);
            }
            let mut n = 0;
            let value = (self.api.rocksdb_pinnableslice_value)(found, &mut n);
            see(std::slice::from_raw_parts(value.cast(), n));
            (self.api.rocksdb_pinnableslice_destroy)(found);
        }
        Ok(true)
    }

    fn scan(&self, from: &[u8], rows: usize, see: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let (k, kn) = part(from);
        // SAFETY: key and value are read before the iterator moves, which is destroyed here.
        unsafe {
            let iter = (self.api.rocksdb_create_iterator)(self.db, self.read);
            (self.api.rocksdb_iter_seek)(iter, k, kn);
            let mut seen = 0;
            while seen < rows && (self.api.rocksdb_iter_valid)(iter) != 0 {
                let (mut kn, mut vn) = (0, 0);
                let key = (self.api.rocksdb_iter_key)(iter, &mut kn);
                let value = (self.api.rocksdb_iter_value)(iter, &mut vn);
                see(
                    std::slice::from_raw_parts(key.cast(), kn),
                    std::slice::from_raw_parts(value.cast(), vn),
                );
                seen += 1;
                (self.api.rocksdb_iter_next)(iter);
            }
            let ended = checked(&self.api, |e| (self.api.rocksdb_iter_get_error)(iter, e));
            (self.api.rocksdb_iter_destroy)(iter);
            ended?;
            Ok(seen)
        }
    }

    fn flush(&self) -> Result<()> {
        // SAFETY: an open database.
        checked(&self.api, |e| unsafe { (self.api.rocksdb_flush)(self.db, self.flush, e) })
    }

    fn settle(&self) -> Result<()> {
        let names = [
            c"rocksdb.num-running-compactions",
            c"rocksdb.compaction-pending",
            c"rocksdb.num-running-flushes",
            c"rocksdb.mem-table-flush-pending",
        ];
        let mut quiet = 0;
        while quiet < 5 {
            // tidy: sleeps because the C interface tells the state of background work and no end of it
            std::thread::sleep(std::time::Duration::from_millis(20));
            quiet = if names.iter().any(|n| self.property(n) > 0) { 0 } else { quiet + 1 };
        }
        Ok(())
    }
}

impl Drop for Rocks {
    fn drop(&mut self) {
        // SAFETY: opened once, closed once.
        unsafe { (self.api.rocksdb_close)(self.db) }
    }
}
