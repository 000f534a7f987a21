//! Floats of 16 bits (IEEE 754 binary16): 11 bits of precision, up to 65,504.

/// Powers of two beyond these are no normal floats, or their inverses are not.
const SCALE_BITS_MAX: i32 = 125;

/// The power of two that brings `largest` to between 512 and 1024, where 16 bits are precise.
pub(crate) fn scale(largest: f32) -> f32 {
    if largest == 0.0 {
        return 1.0;
    }
    let bits = 9 - largest.log2().floor() as i32;
    2.0f32.powi(bits.clamp(-SCALE_BITS_MAX, SCALE_BITS_MAX))
}

/// The value of a 16-bit float.
pub(crate) fn to_f32(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let exponent = u32::from(half >> 10) & 0x1f;
    let fraction = u32::from(half & 0x3ff);
    let magnitude = match exponent {
        0 => {
            return f32::from_bits(
                sign | (fraction as f32 * f32::from_bits(0x3380_0000)).to_bits(),
            );
        }
        0x1f => 0x7f80_0000 | fraction << 13,
        _ => (exponent + 112) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// The nearest 16-bit float, ties to even; too large a value becomes an infinity.
pub(crate) fn from_f32(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return sign | 0x7e00;
    }
    if magnitude >= 0x4780_0000 {
        return sign | 0x7c00;
    }
    if magnitude < 0x3880_0000 {
        // Below the smallest normal one: adding 0.5 leaves the fraction, rounded, in the low bits.
        let shifted = f32::from_bits(magnitude) + 0.5;
        return sign | (shifted.to_bits() - 0.5f32.to_bits()) as u16;
    }
    // Rounding up may carry into the exponent, up to infinity, as it should.
    let odd = (magnitude >> 13) & 1;
    sign | ((magnitude - 0x3800_0000 + 0xfff + odd) >> 13) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_comes_back() {
        for half in 0..=u16::MAX {
            let value = to_f32(half);
            if value.is_nan() {
                assert!(to_f32(from_f32(value)).is_nan());
            } else {
                assert_eq!(from_f32(value), half, "{value}");
            }
        }
    }

    #[test]
    fn what_lies_between_goes_to_the_nearest_and_to_even() {
        for half in 0..0x7bffu16 {
            let (low, high) = (f64::from(to_f32(half)), f64::from(to_f32(half + 1)));
            let middle = ((low + high) / 2.0) as f32;
            assert_eq!(from_f32(middle), half + (half & 1), "{middle}");
            assert_eq!(from_f32(middle.next_down()), half);
            assert_eq!(from_f32(middle.next_up()), half + 1);
            assert_eq!(from_f32(-middle.next_up()), (half + 1) | 0x8000);
        }
        assert_eq!(to_f32(from_f32(65_519.0)), 65_504.0);
        assert_eq!(from_f32(65_520.0), 0x7c00);
        assert_eq!((to_f32(0x3c00), to_f32(0xc000), to_f32(1)), (1.0, -2.0, 5.960_464_5e-8));
    }
}
