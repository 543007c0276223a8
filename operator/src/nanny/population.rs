//! What metrics-core scrapes, as the scaling mode counts it.

use std::fmt;

use crds::ScalingMode;

/// The number of nodes or containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Population {
    /// Nodes.
    Nodes(u64),
    /// Containers.
    Containers(u64),
}

impl Population {
    /// Returns the population that a scaling mode counts.
    pub(super) const fn new(mode: ScalingMode, number: u64) -> Self {
        match mode {
            ScalingMode::NodeProportional => Self::Nodes(number),
            ScalingMode::ContainerProportional => Self::Containers(number),
        }
    }

    pub(super) const fn number(self) -> u64 {
        match self {
            Self::Nodes(n) | Self::Containers(n) => n,
        }
    }

    /// Returns another number of the same kind.
    pub(super) const fn with_number(self, number: u64) -> Self {
        match self {
            Self::Nodes(_) => Self::Nodes(number),
            Self::Containers(_) => Self::Containers(number),
        }
    }

    /// Whether it differs from `other` by at most a tenth or two.
    pub(super) fn is_near(self, other: u64) -> bool {
        let number = self.number();
        number.abs_diff(other) <= (other / 10).max(2)
    }
}

impl fmt::Display for Population {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.number() == 1 { "" } else { "s" };
        match self {
            Self::Nodes(n) => write!(f, "{n} node{plural}"),
            Self::Containers(n) => write!(f, "{n} container{plural}"),
        }
    }
}
