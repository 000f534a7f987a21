//! Merge operators: how operands and a base become one value.
//!
//! Every operator is associative over its operands, so compaction may combine neighbours before
//! the base is known: `base + (a + b)` equals `(base + a) + b`. None can fail: what has the wrong
//! form counts as nothing, the same on every replica.
//!
//! **Expiry.** A merged value has the life of its base: the base's [`Meta`](super::key::Meta) is
//! kept, and when the base expires the operands go with it. Evaluation never places an operand
//! onto a base that has expired, it writes a new value instead; so folding early or late gives
//! the same answer at any time.

use crate::op::kv::MergeOp;

/// Combines an older operand with a newer one of the same operator, into `older`.
pub fn combine(op: MergeOp, older: &mut Vec<u8>, newer: &[u8]) {
    match op {
        MergeOp::Append => older.extend_from_slice(newer),
        MergeOp::Add => {
            let sum = integer(older).wrapping_add(integer(newer));
            older.clear();
            older.extend_from_slice(&sum.to_le_bytes());
        }
        MergeOp::Max => {
            if newer > older.as_slice() {
                older.clear();
                older.extend_from_slice(newer);
            }
        }
    }
}

/// Folds `operands`, oldest first, onto a base; `None` is an absent one.
pub fn fold<'a>(
    base: Option<&[u8]>,
    operands: impl Iterator<Item = (MergeOp, &'a [u8])>,
) -> Vec<u8> {
    let mut value = base.map(<[u8]>::to_vec);
    for (op, operand) in operands {
        match &mut value {
            Some(value) => combine(op, value, operand),
            None => {
                let mut first = Vec::new();
                combine(op, &mut first, operand);
                value = Some(first);
            }
        }
    }
    value.unwrap_or_default()
}

/// Splits a stored merge record into operator and operand; `None` if it is malformed.
pub fn split(stored: &[u8]) -> Option<(MergeOp, &[u8])> {
    let (&op, operand) = stored.split_first()?;
    Some((MergeOp::from_u8(op)?, operand))
}

/// A little-endian 64-bit integer; 0 for bytes of any other length.
fn integer(bytes: &[u8]) -> i64 {
    bytes.try_into().map_or(0, i64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Rng;

    #[test]
    fn operators_do_what_their_names_say() {
        let fold1 =
            |base: Option<&[u8]>, op, operand: &[u8]| fold(base, std::iter::once((op, operand)));
        assert_eq!(fold1(None, MergeOp::Append, b"x"), b"x");
        assert_eq!(fold1(Some(b"a"), MergeOp::Append, b"x"), b"ax");
        assert_eq!(fold1(None, MergeOp::Add, &5i64.to_le_bytes()), 5i64.to_le_bytes());
        let five = 5i64.to_le_bytes();
        assert_eq!(fold1(Some(&five), MergeOp::Add, &(-7i64).to_le_bytes()), (-2i64).to_le_bytes());
        assert_eq!(fold1(Some(b"not a number"), MergeOp::Add, &five), five);
        assert_eq!(fold1(Some(b"b"), MergeOp::Max, b"a"), b"b");
        assert_eq!(fold1(None, MergeOp::Max, b""), b"");
    }

    #[test]
    fn combining_operands_first_changes_nothing() {
        let mut rng = Rng::new(7);
        for op in [MergeOp::Append, MergeOp::Add, MergeOp::Max] {
            for _ in 0..500 {
                let mut bytes = || {
                    let n = if rng.one_in(2) { 8 } else { rng.below(10) as usize };
                    let mut v = vec![0; n];
                    rng.fill(&mut v);
                    v
                };
                let (base, a, b) = (bytes(), bytes(), bytes());
                let base =
                    if a.first().is_some_and(|x| x % 3 == 0) { None } else { Some(&base[..]) };
                let one_by_one = fold(base, [(op, &a[..]), (op, &b[..])].into_iter());
                let mut both = a.clone();
                combine(op, &mut both, &b);
                assert_eq!(one_by_one, fold(base, std::iter::once((op, &both[..]))));
            }
        }
    }
}
