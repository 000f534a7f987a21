//! What "close" means, and which vectors have a distance at all.

use crate::base::{Error, Result};

/// The largest number of floats in a vector.
pub const DIM_MAX: usize = 1 << 16;

/// The largest squared length of a vector. A distance of two such vectors is still finite: the
/// square of a sum of two lengths is at most four times the larger square.
const SQUARED_LENGTH_MAX: f64 = (f32::MAX / 16.0) as f64;

/// How the distance of two vectors is measured. Smaller is closer with all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DistanceMetric {
    /// The squared Euclidean distance.
    #[default]
    L2,
    /// 1 - the cosine of the angle: 0 for the same direction, 2 for the opposite one. Vectors are
    /// kept at unit length; a vector of zeros has no direction and is refused.
    Cosine,
    /// The negated inner product.
    InnerProduct,
}

impl DistanceMetric {
    /// All of them.
    pub const ALL: [DistanceMetric; 3] =
        [DistanceMetric::L2, DistanceMetric::Cosine, DistanceMetric::InnerProduct];

    /// The name for people and for configuration files.
    pub fn name(self) -> &'static str {
        match self {
            DistanceMetric::L2 => "l2",
            DistanceMetric::Cosine => "cosine",
            DistanceMetric::InnerProduct => "inner_product",
        }
    }

    /// The metric with this number in stored bytes.
    pub(super) fn from_code(code: u8) -> Option<DistanceMetric> {
        DistanceMetric::ALL.get(usize::from(code)).copied()
    }

    /// Its number in stored bytes: never given to another metric.
    pub(super) fn code(self) -> u8 {
        match self {
            DistanceMetric::L2 => 0,
            DistanceMetric::Cosine => 1,
            DistanceMetric::InnerProduct => 2,
        }
    }

    /// Whether a vector can be stored or searched for.
    ///
    /// # Errors
    ///
    /// As [`DistanceMetric::prepare`].
    pub fn check(self, vector: &[f32], dim: usize) -> Result<()> {
        let squared = squared_length(vector, dim)?;
        if self == DistanceMetric::Cosine && squared == 0.0 {
            return Err(Error::invalid("a vector of zeros has no direction to compare"));
        }
        Ok(())
    }

    /// `vector` as it is compared: as it is, or brought to unit length under cosine.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::base::ErrorKind::InvalidArgument) if it has not `dim`
    /// floats, holds a NaN or an infinity, is so long that distances overflow, or is zero under
    /// cosine.
    pub(super) fn prepare(self, vector: &[f32], dim: usize) -> Result<Vec<f32>> {
        self.check(vector, dim)?;
        if self != DistanceMetric::Cosine {
            return Ok(vector.to_vec());
        }
        let squared = squared_length(vector, dim)?;
        // In double precision, where no finite float is too small to be scaled.
        let scale = 1.0 / squared.sqrt();
        Ok(vector.iter().map(|x| (f64::from(*x) * scale) as f32).collect())
    }
}

/// The squared length of a vector that may be stored or searched for.
fn squared_length(vector: &[f32], dim: usize) -> Result<f64> {
    if vector.len() != dim {
        let message = format!("the vector has {} dimensions, the index {dim}", vector.len());
        return Err(Error::invalid(message));
    }
    let squared: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    // One that is not finite makes the sum not finite: all is well in the one common case.
    if squared <= SQUARED_LENGTH_MAX {
        return Ok(squared);
    }
    match vector.iter().position(|x| !x.is_finite()) {
        Some(at) => Err(Error::invalid(format!("the vector holds {} at place {at}", vector[at]))),
        None => Err(Error::invalid("the vector is so long that its distances overflow")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ErrorKind;

    #[test]
    fn what_has_no_distance_is_refused() {
        for metric in DistanceMetric::ALL {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e19] {
                let refused = metric.prepare(&[1.0, bad], 2).map_err(|e| e.kind());
                assert_eq!(refused, Err(ErrorKind::InvalidArgument), "{metric:?} {bad}");
            }
            for wrong in [&[][..], &[1.0], &[1.0, 2.0, 3.0]] {
                let refused = metric.prepare(wrong, 2).map_err(|e| e.kind());
                assert_eq!(refused, Err(ErrorKind::InvalidArgument), "{metric:?} {wrong:?}");
            }
            assert_eq!(metric.prepare(&[0.0, -0.0], 2).is_ok(), metric != DistanceMetric::Cosine);
            assert_eq!(DistanceMetric::from_code(metric.code()), Some(metric));
        }
        assert!(DistanceMetric::from_code(3).is_none());
    }

    #[test]
    fn the_smallest_vectors_have_a_direction() {
        let tiny = f32::from_bits(1);
        let unit = DistanceMetric::Cosine.prepare(&[tiny, -tiny], 2).unwrap();
        assert!((unit[0] - 0.5f32.sqrt()).abs() < 1e-6 && unit[0] == -unit[1]);
    }
}
