//! Quantities in canonical form: no fraction, no exponent, the largest suffix that loses nothing
//! (k8s.io/apimachinery `resource.Quantity`, "canonical form").

use super::encode::Out;

const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// The place of "no suffix" in [`DECIMAL`].
const ONES: usize = 3;

/// A quantity in canonical form: a number and its suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quantity {
    number: u64,
    suffix: &'static str,
}

impl Quantity {
    /// CPU as a `DecimalSI` quantity: `123456789n`, `67m`, `1`, `0`.
    pub(super) fn cpu(nanocores: u64) -> Self {
        Self::scaled(nanocores, 1000, &DECIMAL)
    }

    /// Bytes as a `BinarySI` quantity: `4095004Ki`, `27Mi`, `1500`.
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

    /// How many bytes it takes; at most 22.
    pub(super) fn length(self) -> u8 {
        let digits = self.number.checked_ilog10().unwrap_or(0) + 1;
        // Both are small.
        digits.to_le_bytes()[0] + self.suffix.len().to_le_bytes()[0]
    }

    /// Appends it.
    pub(super) fn push(self, out: &mut impl Out) {
        out.put_decimal(self.number);
        out.put(self.suffix.as_bytes());
    }
}

/// Appends an integer in decimal.
pub(super) fn push_decimal(out: &mut impl Out, value: u64) {
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

    /// Reads a quantity the slow way: digits times the suffix's worth, in nano.
    fn nano(text: &str) -> u128 {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let worth: u128 = match &text[digits.len()..] {
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
        digits.parse::<u128>().unwrap() * worth
    }

    #[test]
    fn writes_what_resource_quantity_writes() {
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
        fn keeps_the_value_and_no_larger_suffix_would(digits in any::<u64>(), shift in 0_u32..64, thousands in 0_u32..6) {
            let value = (digits >> shift).saturating_mul(1000_u64.pow(thousands));
            let cpu = text(Quantity::cpu, value);
            prop_assert_eq!(nano(&cpu), u128::from(value));
            prop_assert!(cpu == "0" || !cpu.trim_end_matches(|c: char| c.is_ascii_alphabetic()).ends_with("000"));
            let bytes = text(Quantity::bytes, value);
            prop_assert_eq!(nano(&bytes), u128::from(value) * 1_000_000_000);
        }
    }
}
