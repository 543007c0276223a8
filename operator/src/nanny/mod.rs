//! The size of metrics-core. Pure: no Kubernetes client and no clock.
//!
//! [`Policy`] is the spec in numbers. [`Nanny`] keeps the recommended size and changes it when an estimate demands
//! that for long enough. [`resize`] determines the state of each pod's in-place resize.

mod addon_resizer;
mod measured;
mod policy;
mod population;
mod reason;
mod recommender;
pub(crate) mod resize;
mod scale_target;
mod size;

pub use measured::Usage;
pub use policy::Policy;
pub(crate) use population::Population;
pub(crate) use reason::SizeReason;
pub(crate) use recommender::{Advice, RecommendedSize};
pub use recommender::{Nanny, NannyInput};
pub(crate) use size::Size;
