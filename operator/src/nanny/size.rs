//! An amount of CPU and of memory.

use crds::ResourceAmounts;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::common::quantity::nanos;

/// The most CPU that is ever computed with: a million cores.
pub(super) const MAX_CPU: u64 = 1_000_000_000;

/// The most memory that is ever computed with: 1 EiB.
pub(super) const MAX_MEMORY: u64 = 1 << 60;

const MEBI: u64 = 1 << 20;
const KIBI: u64 = 1 << 10;

/// What a container requests. Kubernetes knows no finer amounts of either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Millicores.
    pub cpu: u64,
    /// Bytes.
    pub memory: u64,
}

impl Size {
    /// From nanocores, and from billionths of a byte; both rounded up.
    pub(super) fn from_nanos(cpu: u128, memory: u128) -> Self {
        let up = |amount: u128, unit: u128, most: u64| {
            u64::try_from(amount.div_ceil(unit)).unwrap_or(most).clamp(1, most)
        };
        Self { cpu: up(cpu, 1_000_000, MAX_CPU), memory: up(memory, 1_000_000_000, MAX_MEMORY) }
    }

    /// CPU and memory as quantities name them; `None` for one that is missing or unreadable.
    pub(super) fn named(amounts: Option<&ResourceAmounts>) -> (Option<u64>, Option<u64>) {
        let amount = |quantity: Option<&Quantity>| quantity.and_then(positive);
        let cpu = amount(amounts.and_then(|amounts| amounts.cpu.as_ref()));
        let memory = amount(amounts.and_then(|amounts| amounts.memory.as_ref()));
        (cpu.map(|cpu| Self::from_nanos(cpu, 0).cpu), memory.map(|memory| Self::from_nanos(0, memory).memory))
    }

    /// From quantities; one that is missing or unreadable takes the place of `otherwise`.
    pub(crate) fn read(amounts: &ResourceAmounts, otherwise: Self) -> Self {
        let (cpu, memory) = Self::named(Some(amounts));
        Self { cpu: cpu.unwrap_or(otherwise.cpu), memory: memory.unwrap_or(otherwise.memory) }
    }

    /// Each amount within the two.
    #[must_use]
    pub fn within(self, least: Self, most: Self) -> Self {
        Self {
            cpu: self.cpu.max(least.cpu).min(most.cpu),
            memory: self.memory.max(least.memory).min(most.memory),
        }
    }

    /// As Kubernetes writes it.
    #[must_use]
    pub fn amounts(self) -> ResourceAmounts {
        ResourceAmounts { cpu: Some(self.cpu_quantity()), memory: Some(self.memory_quantity()) }
    }

    /// CPU in its canonical form: `20m`, `1`.
    #[must_use]
    pub fn cpu_quantity(self) -> Quantity {
        Quantity(if self.cpu.is_multiple_of(1000) {
            (self.cpu / 1000).to_string()
        } else {
            format!("{}m", self.cpu)
        })
    }

    /// Memory in its canonical form, in no larger unit than MiB.
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

/// A quantity in billionths, if it is one above zero.
pub(super) fn positive(quantity: &Quantity) -> Option<u128> {
    nanos(&quantity.0).and_then(|amount| u128::try_from(amount).ok()).filter(|amount| *amount > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_kubernetes_does() {
        let written = |cpu, memory| Size { cpu, memory }.to_string();
        assert_eq!(written(20, 64 << 20), "20m CPU and 64Mi memory");
        assert_eq!(written(2000, 1536), "2 CPU and 1536 memory");
        assert_eq!(written(1500, 3 << 10), "1500m CPU and 3Ki memory");
    }

    #[test]
    fn a_finer_amount_is_rounded_up() {
        assert_eq!(Size::from_nanos(20_000, 1), Size { cpu: 1, memory: 1 });
        assert_eq!(Size::from_nanos(1_000_001, 2_000_000_000), Size { cpu: 2, memory: 2 });
        assert_eq!(Size::from_nanos(u128::MAX, u128::MAX), Size { cpu: MAX_CPU, memory: MAX_MEMORY });
    }
}
