//! How fresh a read must be, as its options say it.

use crate::base::{Error, Result};
use crate::op::Consistency;
use crate::rpc::pb::{ReadConsistency, ReadOptions};

/// What a read asks for; `None` if it does not say.
///
/// # Errors
/// `InvalidArgument` if it asks for what there is not.
pub fn asked(options: Option<&ReadOptions>) -> Result<Option<Consistency>> {
    let Some(options) = options else { return Ok(None) };
    let wrong = |what: &str| Err(Error::invalid(format!("read_options: {what}")));
    let asked = match ReadConsistency::try_from(options.consistency) {
        Ok(ReadConsistency::Unspecified) => None,
        Ok(ReadConsistency::ReadLinearizable) => Some(Consistency::Linearizable),
        Ok(ReadConsistency::ReadLease) => Some(Consistency::Lease),
        Ok(ReadConsistency::ReadStale) if options.stale_ms > Consistency::BOUND_MS_MAX => {
            return wrong("stale_ms is more than a day");
        }
        Ok(ReadConsistency::ReadStale) => {
            return Ok(Some(Consistency::Stale { bound_ms: options.stale_ms }));
        }
        Err(_) => return wrong("a consistency that this version does not know"),
    };
    match options.stale_ms {
        0 => Ok(asked),
        _ => wrong("stale_ms is the bound of READ_STALE alone"),
    }
}

/// The options that ask for it.
pub fn ask(consistency: Consistency) -> ReadOptions {
    let (consistency, stale_ms) = match consistency {
        Consistency::Linearizable => (ReadConsistency::ReadLinearizable, 0),
        Consistency::Lease => (ReadConsistency::ReadLease, 0),
        Consistency::Stale { bound_ms } => (ReadConsistency::ReadStale, bound_ms),
    };
    ReadOptions { consistency: consistency.into(), stale_ms }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ErrorKind;

    #[test]
    fn what_is_asked_for_arrives_and_nonsense_is_told() {
        assert_eq!(asked(None).unwrap(), None);
        assert_eq!(asked(Some(&ReadOptions::default())).unwrap(), None);
        for consistency in
            [Consistency::Linearizable, Consistency::Lease, Consistency::Stale { bound_ms: 9 }]
        {
            assert_eq!(asked(Some(&ask(consistency))).unwrap(), Some(consistency));
        }
        for (consistency, stale_ms) in [(0, 1), (2, 1), (3, Consistency::BOUND_MS_MAX + 1), (4, 0)]
        {
            let refused = asked(Some(&ReadOptions { consistency, stale_ms })).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{consistency} {stale_ms}");
        }
    }
}
