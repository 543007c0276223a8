//! Requests of CPU and memory.

use crds::ResourceAmounts;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::common::quantity::nanos;

/// The maximum CPU in computations: a million cores.
pub(super) const MAX_CPU: u64 = 1_000_000_000;

/// The maximum memory in computations: 1 EiB.
pub(super) const MAX_MEMORY: u64 = 1 << 60;

const MEBI: u64 = 1 << 20;
const KIBI: u64 = 1 << 10;

/// The requests of a container, in the smallest units that Kubernetes schedules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Millicores.
    pub cpu: u64,
    /// Bytes.
    pub memory: u64,
}

impl Size {
    /// The maximum in computations.
    pub(super) const MAX: Self = Self { cpu: MAX_CPU, memory: MAX_MEMORY };

    /// Converts nanocores and billionths of a byte, both rounded up.
    pub(super) fn from_nanos(cpu: u128, memory: u128) -> Self {
        let up = |amount: u128, unit: u128, max: u64| {
            u64::try_from(amount.div_ceil(unit)).unwrap_or(max).clamp(1, max)
        };
        Self { cpu: up(cpu, 1_000_000, MAX_CPU), memory: up(memory, 1_000_000_000, MAX_MEMORY) }
    }

    /// Parses CPU and memory. Returns `None` for a quantity that is missing, invalid or not positive.
    pub(super) fn parse(amounts: Option<&ResourceAmounts>) -> (Option<u64>, Option<u64>) {
        let amount = |quantity: Option<&Quantity>| quantity.and_then(positive);
        let cpu = amount(amounts.and_then(|amounts| amounts.cpu.as_ref()));
        let memory = amount(amounts.and_then(|amounts| amounts.memory.as_ref()));
        (cpu.map(|cpu| Self::from_nanos(cpu, 0).cpu), memory.map(|memory| Self::from_nanos(0, memory).memory))
    }

    /// Parses quantities. One that is missing or invalid is taken from `default`.
    pub(crate) fn parse_or(amounts: &ResourceAmounts, default: Self) -> Self {
        let (cpu, memory) = Self::parse(Some(amounts));
        Self { cpu: cpu.unwrap_or(default.cpu), memory: memory.unwrap_or(default.memory) }
    }

    /// Restricts each amount to a minimum and a maximum. The maximum wins if they cross.
    #[must_use]
    pub fn clamp(self, min: Self, max: Self) -> Self {
        Self { cpu: self.cpu.max(min.cpu).min(max.cpu), memory: self.memory.max(min.memory).min(max.memory) }
    }

    /// Returns both as quantities.
    #[must_use]
    pub fn amounts(self) -> ResourceAmounts {
        ResourceAmounts { cpu: Some(self.cpu_quantity()), memory: Some(self.memory_quantity()) }
    }

    /// Returns CPU in the canonical form: `20m`, `1`.
    #[must_use]
    pub fn cpu_quantity(self) -> Quantity {
        Quantity(if self.cpu.is_multiple_of(1000) {
            (self.cpu / 1000).to_string()
        } else {
            format!("{}m", self.cpu)
        })
    }

    /// Returns memory in MiB, KiB or bytes, whichever is the largest unit without a fraction.
    #[must_use]
    pub fn memory_quantity(self) -> Quantity {
        Quantity(match self.memory {
            bytes if bytes.is_multiple_of(MEBI) => format!("{}Mi", bytes / MEBI),
            bytes if bytes.is_multiple_of(KIBI) => format!("{}Ki", bytes / KIBI),
            bytes => bytes.to_string(),
        })
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} CPU and {} memory", self.cpu_quantity().0, self.memory_quantity().0)
    }
}

/// Parses a quantity to billionths; `None` if it is invalid or not positive.
pub(super) fn positive(quantity: &Quantity) -> Option<u128> {
    nanos(&quantity.0).and_then(|amount| u128::try_from(amount).ok()).filter(|amount| *amount > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_canonical_quantities() {
        let written = |cpu, memory| Size { cpu, memory }.to_string();
        assert_eq!(written(20, 64 << 20), "20m CPU and 64Mi memory");
        assert_eq!(written(2000, 1536), "2 CPU and 1536 memory");
        assert_eq!(written(1500, 3 << 10), "1500m CPU and 3Ki memory");
    }

    #[test]
    fn rounds_up_and_caps_amounts() {
        assert_eq!(Size::from_nanos(20_000, 1), Size { cpu: 1, memory: 1 });
        assert_eq!(Size::from_nanos(1_000_001, 2_000_000_000), Size { cpu: 2, memory: 2 });
        assert_eq!(Size::from_nanos(u128::MAX, u128::MAX), Size { cpu: MAX_CPU, memory: MAX_MEMORY });
    }
}
