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
pub mod resize;
mod scale_target;
mod size;

pub use addon_resizer::{Parameters, exponential, linear};
pub use measured::Usage;
pub use policy::{Policy, SizeEstimator};
pub use population::Population;
pub use reason::SizeReason;
pub use recommender::{Advice, Nanny, NannyInput, RecommendedSize};
pub use size::Size;
