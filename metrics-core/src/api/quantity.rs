//! Quantities in canonical form: no fraction, no exponent, and the largest suffix that keeps the exact value
//! (k8s.io/apimachinery `resource.Quantity`, "canonical form").

use super::encode::Output;

const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// The index of the empty suffix in [`DECIMAL`].
const ONES: usize = 3;

/// A quantity in canonical form: a number and its suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quantity {
    number: u64,
    suffix: &'static str,
}

impl Quantity {
    /// Returns CPU as a `DecimalSI` quantity: `123456789n`, `67m`, `1`, `0`.
    pub(super) fn cpu(nanocores: u64) -> Self {
        Self::scaled(nanocores, 1000, &DECIMAL)
    }

    /// Returns bytes as a `BinarySI` quantity: `4095004Ki`, `27Mi`, `1500`.
    ///
    /// Below 1024 the API's canonical form of a `BinarySI` quantity is the decimal one: 1000 bytes are `1k`.
    pub(super) fn bytes(bytes: u64) -> Self {
        if bytes < 1024 {
            Self::scaled(bytes, 1000, &DECIMAL[ONES..])
        } else {
            Self::scaled(bytes, 1024, &BINARY)
        }
    }

    fn scaled(mut number: u64, base: u64, suffixes: &[&'static str]) -> Self {
        if number == 0 {
            return Self { number, suffix: "" };
        }
        let mut suffix = 0;
        while number.is_multiple_of(base) && suffix + 1 < suffixes.len() {
            number /= base;
            suffix += 1;
        }
        Self { number, suffix: suffixes[suffix] }
    }

    /// Returns the length in bytes, at most 22.
    pub(super) fn length(self) -> u8 {
        let digits = self.number.checked_ilog10().unwrap_or(0) + 1;
        // Both fit a byte.
        digits.to_le_bytes()[0] + self.suffix.len().to_le_bytes()[0]
    }

    /// Appends the quantity.
    pub(super) fn push(self, out: &mut impl Output) {
        out.put_decimal(self.number);
        out.put(self.suffix.as_bytes());
    }
}

/// Appends an integer in decimal.
pub(super) fn push_decimal(out: &mut impl Output, value: u64) {
    out.put_decimal(value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Quantity;

    fn text(quantity: fn(u64) -> Quantity, value: u64) -> String {
        let mut out = Vec::new();
        let quantity = quantity(value);
        quantity.push(&mut out);
        assert_eq!(out.len(), usize::from(quantity.length()));
        String::from_utf8(out).unwrap()
    }

    /// Parses a quantity in a simple way: digits times the factor of the suffix, in nano.
    fn nano(text: &str) -> u128 {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let factor: u128 = match &text[digits.len()..] {
            "n" => 1,
            "u" => 1_000,
            "m" => 1_000_000,
            "" => 1_000_000_000,
            "k" => 1_000_000_000_000,
            "M" => 1_000_000_000_000_000,
            "G" => 1_000_000_000_000_000_000,
            "Ki" => 1_000_000_000 << 10,
            "Mi" => 1_000_000_000 << 20,
            "Gi" => 1_000_000_000 << 30,
            "Ti" => 1_000_000_000 << 40,
            "Pi" => 1_000_000_000 << 50,
            "Ei" => 1_000_000_000 << 60,
            other => panic!("suffix {other}"),
        };
        digits.parse::<u128>().unwrap() * factor
    }

    #[test]
    fn writes_the_canonical_form() {
        for (nanocores, expected) in [
            (0, "0"),
            (1, "1n"),
            (123_456_789, "123456789n"),
            (123_456_000, "123456u"),
            (67_000_000, "67m"),
            (1_000_000_000, "1"),
            (1_500_000_000_000, "1500"),
            (2_000_000_000_000, "2k"),
            (u64::MAX, "18446744073709551615n"),
        ] {
            assert_eq!(text(Quantity::cpu, nanocores), expected);
        }
        for (bytes, expected) in [
            (0, "0"),
            (999, "999"),
            (1000, "1k"),
            (1023, "1023"),
            (1024, "1Ki"),
            (1_000_000, "1000000"),
            (4_193_284_096, "4095004Ki"),
            (27 << 20, "27Mi"),
            (1 << 60, "1Ei"),
            (u64::MAX, "18446744073709551615"),
        ] {
            assert_eq!(text(Quantity::bytes, bytes), expected);
        }
    }

    proptest! {
        #[test]
        fn keeps_the_exact_value_with_the_largest_suffix(digits in any::<u64>(), shift in 0_u32..64, thousands in 0_u32..6) {
            let value = (digits >> shift).saturating_mul(1000_u64.pow(thousands));
            let cpu = text(Quantity::cpu, value);
            prop_assert_eq!(nano(&cpu), u128::from(value));
            prop_assert!(cpu == "0" || !cpu.trim_end_matches(|c: char| c.is_ascii_alphabetic()).ends_with("000"));
            let bytes = text(Quantity::bytes, value);
            prop_assert_eq!(nano(&bytes), u128::from(value) * 1_000_000_000);
        }
    }
}
