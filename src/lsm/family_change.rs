//! Families that the log creates and drops, so that every replica does so at the same place.
//!
//! ```text
//! batch with flags & 2, op by op, all in family FAMILIES:
//!   Put     key: [family u32 BE], value: its name       the family is created
//!   Delete  key: [family u32 BE]                        it is dropped, with all it holds
//! ```
//! Such a batch leaves no record behind: what is created is in the manifest when it is applied.

use crate::base::CfId;
use crate::lsm::batch::{BatchView, Counts, Op, WriteBatch};
use crate::lsm::key::{Kind, Meta, split_value};

/// The longest name of a family, in bytes.
pub const FAMILY_NAME_BYTES_MAX: usize = 255;

/// A family created or dropped by the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FamilyChange<'a> {
    /// It is created, empty.
    Create {
        /// Its id, never used before.
        cf: CfId,
        /// Its name, 1 to 255 bytes.
        name: &'a str,
    },
    /// It is dropped.
    Drop {
        /// Its id.
        cf: CfId,
    },
}

impl<'a> FamilyChange<'a> {
    /// The change that an operation of such a batch makes; `None` if it is none.
    pub(super) fn of(op: &Op<'a>) -> Option<FamilyChange<'a>> {
        let cf = CfId(u32::from_be_bytes(op.key.try_into().ok()?));
        if op.cf != CfId::FAMILIES || cf == CfId::DEFAULT || cf.is_system() {
            return None;
        }
        match op.kind {
            Kind::Delete => Some(FamilyChange::Drop { cf }),
            Kind::Put => {
                let (_, name) = split_value(op.kind, op.value)?;
                let name = std::str::from_utf8(name).ok()?;
                let fits = !name.is_empty() && name.len() <= FAMILY_NAME_BYTES_MAX;
                fits.then_some(FamilyChange::Create { cf, name })
            }
            Kind::PutMeta | Kind::Merge | Kind::RangeDelete => None,
        }
    }
}

impl WriteBatch {
    /// The batch that makes these changes, in order.
    pub fn of_family_changes(changes: &[FamilyChange<'_>]) -> WriteBatch {
        let mut batch = WriteBatch::new();
        batch.mark_families();
        for change in changes {
            match change {
                FamilyChange::Create { cf, name } => batch.put_with(
                    CfId::FAMILIES,
                    &cf.0.to_be_bytes(),
                    name.as_bytes(),
                    Meta::default(),
                    Counts::NONE,
                ),
                FamilyChange::Drop { cf } => {
                    batch.delete_with(CfId::FAMILIES, &cf.0.to_be_bytes(), Counts::NONE);
                }
            }
        }
        batch
    }
}

impl<'a> BatchView<'a> {
    /// The families that the batch creates and drops, in order.
    pub fn family_changes(&self) -> impl Iterator<Item = FamilyChange<'a>> + use<'a> {
        let ops = self.changes_families.then(|| self.ops());
        ops.into_iter().flatten().filter_map(|op| FamilyChange::of(&op))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seq;

    const CHANGES: [FamilyChange<'static>; 2] =
        [FamilyChange::Create { cf: CfId(7), name: "logs" }, FamilyChange::Drop { cf: CfId(300) }];

    fn sample() -> WriteBatch {
        let mut batch = WriteBatch::of_family_changes(&CHANGES);
        batch.place(Seq(5), 9);
        batch
    }

    #[test]
    fn changes_come_back_and_other_batches_have_none() {
        let mut batch = sample();
        assert_eq!(batch.view().family_changes().collect::<Vec<_>>(), CHANGES);
        let read = BatchView::read(batch.encoded()).unwrap();
        assert!(read.changes_families && read.last_seq() == Seq(6));
        assert_eq!(read.family_changes().collect::<Vec<_>>(), CHANGES);
        let mut other = WriteBatch::new();
        other.put(b"k", b"v");
        other.put_cf(CfId::FAMILIES, &7_u32.to_be_bytes(), b"logs");
        assert_eq!(BatchView::read(other.encoded()).unwrap().family_changes().count(), 0);
    }

    #[test]
    fn a_marked_batch_with_anything_else_in_it_is_malformed() {
        let long = "n".repeat(FAMILY_NAME_BYTES_MAX + 1);
        type Spoil<'s> = &'s dyn Fn(&mut WriteBatch);
        let spoils: [Spoil<'_>; 7] = [
            &|b| b.put(b"k", b"v"),
            &|b| b.put_cf(CfId::FAMILIES, b"key", b"logs"),
            &|b| b.put_cf(CfId::FAMILIES, &0_u32.to_be_bytes(), b"default"),
            &|b| b.put_cf(CfId::FAMILIES, &CfId::DEDUP.0.to_be_bytes(), b"mine"),
            &|b| b.put_cf(CfId::FAMILIES, &7_u32.to_be_bytes(), b""),
            &|b| b.put_cf(CfId::FAMILIES, &7_u32.to_be_bytes(), b"\xff"),
            &|b| b.put_cf(CfId::FAMILIES, &7_u32.to_be_bytes(), long.as_bytes()),
        ];
        for (at, spoil) in spoils.into_iter().enumerate() {
            let mut batch = sample();
            spoil(&mut batch);
            assert!(BatchView::read(batch.encoded()).is_err(), "{at}");
        }
    }

    #[test]
    fn no_cut_or_change_of_a_byte_panics() {
        let mut batch = sample();
        let bytes = batch.encoded().to_vec();
        for at in 0..bytes.len() {
            assert!(BatchView::read(&bytes[..at]).is_err());
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                if let Ok(view) = BatchView::read(&damaged) {
                    assert!(view.family_changes().count() <= 2);
                }
            }
        }
    }

    #[test]
    fn the_form_stays_as_it_is() {
        let mut batch = sample();
        let hex: String = batch.encoded().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, include_str!("../../tests/golden/batch-families-v1.hex").trim());
    }
}
