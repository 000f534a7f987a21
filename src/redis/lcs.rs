//! LCS: a longest common subsequence of two strings, by the classic table of prefixes
//! (Wagner and Fischer 1974). Time and memory are the product of the lengths, and bounded.

use super::execute::{Outcome, int_of, is, stop, syntax_error};
use super::number::int;
use super::{Keyspace, STRING_BYTES_MAX, STRING_TAG};
use crate::op::Reply;
use bytes::Bytes;

#[derive(Debug, Default)]
struct Options {
    len: bool,
    idx: bool,
    with_match_len: bool,
    match_len_min: usize,
}

pub(super) fn lcs(args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    let a = value(&args[1], ks)?;
    let b = value(&args[2], ks)?;
    let options = options(&args[3..])?;
    let table = Table::of(&a, &b)?;
    if options.len {
        return Ok(int_of(table.len(a.len(), b.len())));
    }
    let runs = table.runs(&a, &b);
    if !options.idx {
        let mut common = Vec::with_capacity(table.len(a.len(), b.len()));
        for run in runs.iter().rev() {
            common.extend_from_slice(&a[run.a..run.a + run.len]);
        }
        return Ok(Reply::Bulk(common.into()));
    }
    let matches = runs
        .iter()
        .filter(|run| run.len >= options.match_len_min)
        .map(|run| run.reply(options.with_match_len))
        .collect();
    Ok(Reply::Map(vec![
        (Reply::bulk("matches"), Reply::Array(matches)),
        (Reply::bulk("len"), int_of(table.len(a.len(), b.len()))),
    ]))
}

fn value(key: &[u8], ks: &mut dyn Keyspace) -> Outcome<Bytes> {
    match ks.get(key)? {
        Some(stored) if stored.tag != STRING_TAG => {
            stop("The specified keys must contain string values")
        }
        found => Ok(found.map_or(Bytes::new(), |stored| stored.value)),
    }
}

fn options(args: &[Bytes]) -> Outcome<Options> {
    let mut options = Options::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if is(arg, "LEN") {
            options.len = true;
        } else if is(arg, "IDX") {
            options.idx = true;
        } else if is(arg, "WITHMATCHLEN") {
            options.with_match_len = true;
        } else if is(arg, "MINMATCHLEN")
            && let Some(n) = rest.next()
        {
            options.match_len_min = usize::try_from(int(n)?).unwrap_or(0);
        } else {
            return syntax_error();
        }
    }
    if options.len && options.idx {
        return stop("If you want both the length and indexes, please just use IDX.");
    }
    Ok(options)
}

/// For each pair of prefixes the length of their longest common subsequence.
struct Table {
    lens: Vec<u32>,
    width: usize,
}

impl Table {
    fn of(a: &[u8], b: &[u8]) -> Outcome<Table> {
        let width = b.len() + 1;
        let cells = (a.len() + 1).checked_mul(width);
        let cells = cells.filter(|&cells| cells <= STRING_BYTES_MAX / size_of::<u32>());
        let Some(cells) = cells else {
            return stop(
                "Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
            );
        };
        let mut table = Table { lens: vec![0; cells], width };
        for (i, x) in a.iter().enumerate() {
            let (above, row) = table.lens[i * width..(i + 2) * width].split_at_mut(width);
            for (j, y) in b.iter().enumerate() {
                row[j + 1] = if x == y { above[j] + 1 } else { above[j + 1].max(row[j]) };
            }
        }
        Ok(table)
    }

    fn len(&self, i: usize, j: usize) -> usize {
        self.lens[i * self.width + j] as usize
    }

    /// The stretches in which the subsequence follows both strings, from the last to the first.
    fn runs(&self, a: &[u8], b: &[u8]) -> Vec<Run> {
        let mut runs = Vec::new();
        let (mut i, mut j) = (a.len(), b.len());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                let mut len = 0;
                while i > 0 && j > 0 && a[i - 1] == b[j - 1] {
                    (i, j, len) = (i - 1, j - 1, len + 1);
                }
                runs.push(Run { a: i, b: j, len });
            } else if self.len(i - 1, j) > self.len(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        runs
    }
}

/// The same `len` bytes from `a` in one string and from `b` in the other.
struct Run {
    a: usize,
    b: usize,
    len: usize,
}

impl Run {
    fn reply(&self, with_len: bool) -> Reply {
        let range = |at: usize| Reply::Array(vec![int_of(at), int_of(at + self.len - 1)]);
        let mut parts = vec![range(self.a), range(self.b)];
        if with_len {
            parts.push(int_of(self.len));
        }
        Reply::Array(parts)
    }
}
