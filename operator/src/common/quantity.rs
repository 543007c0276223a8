//! Parses and compares Kubernetes quantities (apimachinery, `resource.Quantity`).

/// Whether two quantities are the same amount: `0.1` and `100m`, `1Gi` and `1024Mi`. An invalid quantity equals none.
#[must_use]
pub(crate) fn same_quantity(a: &str, b: &str) -> bool {
    matches!((nanos(a), nanos(b)), (Some(a), Some(b)) if a == b)
}

/// Returns the amount in units of 10⁻⁹, the finest that Kubernetes keeps; `None` for an invalid quantity.
#[must_use]
pub(crate) fn nanos(quantity: &str) -> Option<i128> {
    let end = quantity
        .char_indices()
        .find(|(_, character)| !matches!(character, '0'..='9' | '.' | '+' | '-'))
        .map_or(quantity.len(), |(index, _)| index);
    let (number, suffix) = quantity.split_at(end);
    let (numerator, denominator) = match suffix {
        "n" => (1, 1),
        "u" => (1_000, 1),
        "m" => (1_000_000, 1),
        "" => (1_000_000_000, 1),
        "k" => (10_i128.pow(12), 1),
        "M" => (10_i128.pow(15), 1),
        "G" => (10_i128.pow(18), 1),
        "T" => (10_i128.pow(21), 1),
        "P" => (10_i128.pow(24), 1),
        "E" => (10_i128.pow(27), 1),
        "Ki" => (1_000_000_000_i128 << 10, 1),
        "Mi" => (1_000_000_000_i128 << 20, 1),
        "Gi" => (1_000_000_000_i128 << 30, 1),
        "Ti" => (1_000_000_000_i128 << 40, 1),
        "Pi" => (1_000_000_000_i128 << 50, 1),
        "Ei" => (1_000_000_000_i128 << 60, 1),
        exponent => {
            let exponent: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 { (1_000_000_000, power) } else { (power.checked_mul(1_000_000_000)?, 1) }
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?.checked_mul(denominator)?;
    let value = digits.parse::<i128>().ok()?.checked_mul(numerator)?;
    // Kubernetes rounds smaller fractions up.
    Some(value.checked_add(scale - 1)?.div_euclid(scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_amounts_across_notations() {
        for (a, b) in [
            ("0.1", "100m"),
            ("1Gi", "1024Mi"),
            ("1", "1000m"),
            ("1e3", "1k"),
            ("1.5Gi", "1536Mi"),
            ("1E-1", "100m"),
        ] {
            assert!(same_quantity(a, b), "{a} {b}");
        }
        for (a, b) in [("1", "2"), ("1M", "1Mi"), ("nonsense", "nonsense"), ("", "")] {
            assert!(!same_quantity(a, b), "{a} {b}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(a in ".{0,24}") {
            _ = same_quantity(&a, "1");
        }
    }
}
