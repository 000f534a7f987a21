//! Rows of equal length, one behind the other, in memory that the kernel maps in huge pages.
//!
//! A search jumps from row to row: with small pages nearly each jump waits for the page's address
//! as well as for the row, which costs a third of the whole search at 100 MB.

#![expect(unsafe_code, reason = "a table over raw memory: rows are cut out of one chunk")]

use crate::env::Chunk;
use crate::env::chunk::HUGE_PAGE_BYTES;
use std::marker::PhantomData;

/// From here on memory comes in whole huge pages.
const LARGE_BYTES: usize = HUGE_PAGE_BYTES / 2;
/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

/// What a row may hold: plain numbers, for which any bytes are a value.
pub(super) trait Plain: Copy + Default + private::Sealed {}

mod private {
    pub(in crate::vector) trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for u32 {}
    impl Sealed for u16 {}
    impl Sealed for u8 {}
}

impl Plain for f32 {}
impl Plain for u32 {}
impl Plain for u16 {}
impl Plain for u8 {}

/// Rows of `stride` numbers.
#[derive(Debug)]
pub(super) struct Rows<T> {
    chunk: Option<Chunk>,
    stride: usize,
    rows: usize,
    capacity: usize,
    holds: PhantomData<T>,
}

// SAFETY: the chunk is only written through `&mut self`; what is shared is plain numbers.
unsafe impl<T: Plain + Sync> Sync for Rows<T> {}

impl<T: Plain> Rows<T> {
    /// No rows of `stride` numbers each.
    pub(super) fn new(stride: usize) -> Rows<T> {
        assert!(stride > 0);
        Rows { chunk: None, stride, rows: 0, capacity: 0, holds: PhantomData }
    }

    /// No rows, with room for just so many: they take no more memory than they have bytes.
    pub(super) fn exact(stride: usize, rows: usize) -> Rows<T> {
        let mut table = Rows::new(stride);
        if rows > 0 {
            let chunk = Chunk::exact(rows * stride * size_of::<T>());
            (table.capacity, table.chunk) = (rows, Some(chunk));
        }
        table
    }

    /// A stride for rows of `len` numbers that begins each row at a cache line, if that wastes
    /// little.
    pub(super) fn aligned_stride(len: usize) -> usize {
        let line = LINE_BYTES / size_of::<T>();
        let aligned = len.next_multiple_of(line);
        if (aligned - len) * 8 <= len { aligned } else { len.max(1) }
    }

    pub(super) fn len(&self) -> usize {
        self.rows
    }

    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Bytes of the rows. What is taken from the system is up to half as much again, and whole
    /// large pages.
    pub(super) fn memory_bytes(&self) -> usize {
        self.rows * self.stride * size_of::<T>()
    }

    /// Bytes that are taken from the system for them.
    pub(super) fn taken_bytes(&self) -> usize {
        self.chunk.as_ref().map_or(0, Chunk::bytes)
    }

    /// Makes room for `more` rows.
    pub(super) fn reserve(&mut self, more: usize) {
        let needed = self.rows + more;
        if needed > self.capacity {
            self.grow_to(needed.max(self.capacity + self.capacity / 2));
        }
    }

    /// Gives memory back that its rows do not need.
    pub(super) fn shrink_to_fit(&mut self) {
        if self.rows < self.capacity {
            let mut rows = Rows::exact(self.stride, self.rows);
            (0..self.rows as u32).for_each(|row| _ = rows.push(self.row(row)));
            *self = rows;
        }
    }

    fn grow_to(&mut self, capacity: usize) {
        let row_bytes = self.stride * size_of::<T>();
        let mut bytes = (capacity * row_bytes).max(LINE_BYTES);
        if bytes >= LARGE_BYTES {
            bytes = bytes.next_multiple_of(HUGE_PAGE_BYTES);
        }
        let chunk = Chunk::new(bytes);
        if let Some(old) = &self.chunk {
            // SAFETY: both chunks hold the rows so far, and are not the same.
            unsafe {
                let (from, to) = (old.base().as_ptr(), chunk.base().as_ptr());
                std::ptr::copy_nonoverlapping(from, to, self.rows * row_bytes);
            }
        }
        self.capacity = bytes / row_bytes;
        self.chunk = Some(chunk);
    }

    /// Appends rows until there are `rows`, each filled with `value`.
    pub(super) fn extend_to(&mut self, rows: usize, value: T) {
        if rows > self.rows {
            self.reserve(rows - self.rows);
            let from = self.rows;
            self.rows = rows;
            for row in from..rows {
                self.row_mut(row as u32).fill(value);
            }
        }
    }

    /// Appends a row, filled up with zeros. REQUIRES: it is not longer than the table is wide.
    pub(super) fn push(&mut self, row: &[T]) -> u32 {
        let at = self.rows as u32;
        self.extend_to(self.rows + 1, T::default());
        self.row_mut(at)[..row.len()].copy_from_slice(row);
        at
    }

    /// Removes a row; the last one takes its place.
    pub(super) fn swap_remove(&mut self, row: u32) {
        let last = self.row(self.rows as u32 - 1).to_vec();
        self.row_mut(row).copy_from_slice(&last);
        self.rows -= 1;
    }

    /// Where a row starts. It is followed by `stride` numbers.
    #[inline(always)]
    pub(super) fn at(&self, row: u32) -> *const T {
        assert!((row as usize) < self.rows);
        // There are rows, so there is a chunk.
        let base = self.chunk.as_ref().map_or(std::ptr::null(), |c| c.base().as_ptr().cast::<T>());
        // Within the chunk, as `row` is below `rows`.
        base.wrapping_add(row as usize * self.stride)
    }

    /// A hint that a row's first `bytes` are read soon.
    #[inline(always)]
    pub(super) fn prefetch(&self, row: u32, bytes: usize) {
        crate::env::prefetch_for_read(self.at(row).cast(), bytes);
    }

    #[inline(always)]
    pub(super) fn row(&self, row: u32) -> &[T] {
        // SAFETY: `stride` numbers of the chunk, initialised, that only `&mut self` changes. A
        // chunk is aligned to 8, and no number is larger.
        unsafe { std::slice::from_raw_parts(self.at(row), self.stride) }
    }

    #[inline]
    pub(super) fn row_mut(&mut self, row: u32) -> &mut [T] {
        // SAFETY: as in `row`, and `&mut self` excludes other references.
        unsafe { std::slice::from_raw_parts_mut(self.at(row).cast_mut(), self.stride) }
    }
}

impl Rows<u8> {
    /// `len` numbers that stand `offset` bytes behind the start of a row. REQUIRES: the stride and
    /// the offset are multiples of their size.
    #[inline(always)]
    pub(super) fn part<U: Plain>(&self, row: u32, offset: usize, len: usize) -> &[U] {
        let bytes = &self.row(row)[offset..offset + len * size_of::<U>()];
        // SAFETY: any bytes are numbers.
        let (before, part, _) = unsafe { bytes.align_to::<U>() };
        assert!(before.is_empty());
        part
    }

    /// As [`Rows::part`], as many as an array holds.
    #[inline(always)]
    pub(super) fn array<U: Plain, const N: usize>(&self, row: u32, offset: usize) -> &[U; N] {
        let part = self.part::<U>(row, offset, N);
        assert!(part.len() == N);
        // SAFETY: a slice of as many numbers.
        unsafe { &*part.as_ptr().cast() }
    }

    /// As [`Rows::part`], to be written.
    pub(super) fn part_mut<U: Plain>(&mut self, row: u32, offset: usize, len: usize) -> &mut [U] {
        let bytes = &mut self.row_mut(row)[offset..offset + len * size_of::<U>()];
        // SAFETY: any bytes are numbers, and any numbers are bytes.
        let (before, part, _) = unsafe { bytes.align_to_mut::<U>() };
        assert!(before.is_empty());
        part
    }
}

impl<T: Plain> Clone for Rows<T> {
    fn clone(&self) -> Rows<T> {
        let mut copy = Rows::new(self.stride);
        copy.reserve(self.rows);
        for row in 0..self.rows {
            copy.push(self.row(row as u32));
        }
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stay_as_the_table_grows_through_small_and_huge_memory() {
        let mut rows: Rows<u32> = Rows::new(33);
        for i in 0..20_000u32 {
            assert_eq!(rows.push(&[i, i ^ 7]), i);
        }
        let copy = rows.clone();
        for i in (0..20_000).rev() {
            assert_eq!(&rows.row(i)[..3], [i, i ^ 7, 0]);
            assert_eq!(rows.row(i), copy.row(i));
        }
        rows.row_mut(5)[32] = 9;
        assert_eq!((rows.row(5)[32], rows.row(6)[0], copy.row(5)[32]), (9, 6, 0));
    }

    #[test]
    fn rows_of_a_known_number_take_what_they_need() {
        for rows in [0, 1, 20_000, 61_436, 100_000] {
            let mut table: Rows<u8> = Rows::exact(52, rows);
            let taken = table.taken_bytes();
            assert!((rows * 52..=rows * 52 + 4096).contains(&taken), "{taken}");
            for row in 0..rows as u32 {
                table.push(&row.to_le_bytes());
            }
            assert_eq!(table.taken_bytes(), taken);
            for row in 0..rows as u32 {
                assert_eq!(table.row(row)[..4], row.to_le_bytes());
            }
        }
    }

    #[test]
    #[should_panic(expected = "row")]
    fn a_row_that_is_not_there_is_a_bug() {
        Rows::<f32>::new(4).row(0);
    }

    #[test]
    fn rows_begin_at_lines_where_that_is_cheap() {
        assert_eq!(Rows::<f32>::aligned_stride(384), 384);
        assert_eq!(Rows::<f32>::aligned_stride(380), 384);
        assert_eq!(Rows::<f32>::aligned_stride(3), 3);
        assert_eq!(Rows::<u32>::aligned_stride(32), 32);
    }
}
