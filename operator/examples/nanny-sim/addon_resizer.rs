//! addon-resizer 1.8 as the seed runs it: every 5 min it counts nodes, and when what is set differs from what its
//! formula gives by more than 5 %, it sets that.

use crate::Run;
use crate::cluster::Cluster;

/// The formula's parameters are those of the nanny's own formulas, so that only the rules differ.
pub fn run(name: &'static str, is_exponential: bool, cluster: &Cluster) -> Run {
    let mut run = Run::new(name);
    let mut set = formula(is_exponential, cluster.nodes[0]);
    for second in 0..cluster.seconds() {
        if second % 300 == 0 {
            let expected = formula(is_exponential, cluster.nodes[second]);
            let quotient = (set / expected * 100.0).trunc() / 100.0;
            if !(0.95..=1.05).contains(&quotient) {
                set = expected;
            }
        }
        run.take(second, set, cluster);
    }
    run
}

/// MiB.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "as the original"
)]
fn formula(is_exponential: bool, nodes: u64) -> f64 {
    let mut n = nodes;
    if is_exponential {
        n = 5;
        while n < nodes {
            n = (n as f64 * 1.5 + 0.01) as u64;
        }
    }
    64.0 + 0.125 * n as f64
}
