//! The right size of metrics-core. Pure: it has neither a client nor a clock.
//!
//! [`Policy`] is what the spec says in numbers. [`Nanny`] keeps the size that is recommended, and changes it when an
//! estimate says so for long enough. [`resize`] says what is to be done about each pod.

mod addon_resizer;
mod measured;
mod policy;
mod recommender;
pub mod resize;
mod size;

pub use addon_resizer::{exponential, linear};
pub use measured::Usage;
pub use policy::{Policy, Rule};
pub use recommender::{Advice, Nanny, NannyInput, RecommendedSize};
pub use size::Size;
