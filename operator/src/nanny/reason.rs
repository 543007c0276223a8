//! Why a size is recommended.

use std::fmt;

use super::Population;

/// Why a size is recommended. Its text is a clause for status, conditions and events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SizeReason {
    /// The estimate for the first known cluster size.
    InitialEstimate(Population),
    /// The requests in `spec.metricsCore.resources`.
    InitialFromSpec,
    /// `spec.nanny` was changed.
    PolicyChanged,
    /// The scaling mode was changed: the new population is not comparable with the previous one.
    Population(Population),
    /// The population changed.
    PopulationChanged {
        /// The population now.
        population: Population,
        /// The number at the previous decision.
        before: u64,
    },
    /// The usage changed, for the same population.
    Usage(Population),
    /// A container was OOM-killed.
    OutOfMemory,
    /// The reason that the status records from before a restart of the operator.
    Recorded(String),
}

impl fmt::Display for SizeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InitialEstimate(population) => write!(f, "initial estimate for {population}"),
            Self::InitialFromSpec => f.write_str("initial size from spec.metricsCore.resources"),
            Self::PolicyChanged => f.write_str("spec.nanny was changed"),
            Self::Population(population) => write!(f, "{population}"),
            Self::PopulationChanged { population, before } => write!(f, "{population} instead of {before}"),
            Self::Usage(population) => write!(f, "measured usage at {population}"),
            Self::OutOfMemory => f.write_str("a container ran out of memory"),
            Self::Recorded(reason) => f.write_str(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_name_the_population() {
        let (one, many) = (Population::Nodes(1), Population::Containers(60));
        for (reason, expected) in [
            (SizeReason::InitialEstimate(one), "initial estimate for 1 node"),
            (SizeReason::Population(many), "60 containers"),
            (SizeReason::PopulationChanged { population: many, before: 40 }, "60 containers instead of 40"),
            (SizeReason::Usage(Population::Nodes(0)), "measured usage at 0 nodes"),
        ] {
            assert_eq!(reason.to_string(), expected);
        }
    }
}
