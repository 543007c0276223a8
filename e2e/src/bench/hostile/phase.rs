//! The phases of a run, in order.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::attack::Attack;

/// The shortest time for which kube-apiserver fails: longer than the minute within which that must be visible.
const MIN_OUTAGE: Duration = Duration::from_secs(75);
const MIN_ATTACK: Duration = Duration::from_secs(15);
const QUIET: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));

/// What attacks or fails.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// 360 lists of all pods that their clients do not read, over HTTP/1.1 and HTTP/2.
    SlowReaders,
    /// 4,096 silent TCP connections from one address and 200 from another, reopened when they are closed.
    SilentSockets,
    /// TLS handshakes with a client certificate chain of 48 kB, then an unfinished header.
    JunkChains,
    /// Requests whose headers do not end, over HTTP/1.1 and HTTP/2.
    HalfHeads,
    /// 2,000 watches that are not read.
    WatchFlood,
    /// 1,000 streams on a connection, and streams that are reset at once.
    ManyStreams,
    /// Headers without end.
    HugeHeaders,
    /// A tenth of the kubelets sends 32 MB, hangs, resets, or sends other than its headers say.
    Kubelets,
    /// kube-apiserver is stopped (SIGSTOP) and continued.
    ApiserverFrozen,
    /// kube-apiserver is killed, and started again.
    ApiserverKilled,
    /// All packets between metrics-core and kube-apiserver are dropped.
    ApiserverCutOff,
    /// All attacks and the kubelets, while kube-apiserver is cut off.
    All,
}

/// How kube-apiserver fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outage {
    /// It is stopped.
    Frozen,
    /// It is killed.
    Killed,
    /// Packets between it and metrics-core are dropped.
    CutOff,
}

impl Phase {
    /// All phases.
    #[must_use]
    pub fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    /// Returns the attacks of clients.
    #[must_use]
    pub fn attacks(self) -> Vec<Attack> {
        match self {
            Self::SlowReaders => vec![Attack::SlowReaders],
            Self::SilentSockets => vec![Attack::SilentSockets],
            Self::JunkChains => vec![Attack::JunkChains],
            Self::HalfHeads => vec![Attack::HalfHeads],
            Self::WatchFlood => vec![Attack::WatchFlood],
            Self::ManyStreams => vec![Attack::ManyStreams],
            Self::HugeHeaders => vec![Attack::HugeHeaders],
            Self::All => Attack::ALL.to_vec(),
            Self::Kubelets | Self::ApiserverFrozen | Self::ApiserverKilled | Self::ApiserverCutOff => vec![],
        }
    }

    /// Returns whether kubelets attack.
    #[must_use]
    pub fn has_hostile_kubelets(self) -> bool {
        matches!(self, Self::Kubelets | Self::All)
    }

    /// Returns how kube-apiserver fails.
    #[must_use]
    pub fn outage(self) -> Option<Outage> {
        match self {
            Self::ApiserverFrozen => Some(Outage::Frozen),
            Self::ApiserverKilled => Some(Outage::Killed),
            Self::ApiserverCutOff | Self::All => Some(Outage::CutOff),
            _ => None,
        }
    }

    /// Returns the quiet time before the phase and its duration, as its share of the time of a whole run of `count`
    /// phases.
    #[must_use]
    pub fn times(self, total: Duration, count: usize) -> (Duration, Duration) {
        let share = total / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        let quiet = (share / 4).clamp(QUIET.0, QUIET.1);
        let min = if self.outage().is_some() { MIN_OUTAGE } else { MIN_ATTACK };
        (quiet, share.saturating_sub(quiet).max(min))
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_are_longer_than_a_minute_also_in_a_short_run() {
        for phase in Phase::all() {
            let (quiet, attack) = phase.times(Duration::from_secs(120), 12);
            assert_eq!(quiet, Duration::from_secs(10));
            assert!(phase.outage().is_none() || attack > Duration::from_secs(60), "{phase}");
        }
        let (quiet, attack) = Phase::SlowReaders.times(Duration::from_secs(3600), 12);
        assert_eq!((quiet.as_secs(), attack.as_secs()), (60, 240));
    }

    #[test]
    fn each_attack_has_a_phase_of_its_own() {
        for attack in Attack::ALL {
            let alone = |phase: &Phase| phase.attacks() == [attack];
            assert_eq!(Phase::all().iter().filter(|phase| alone(phase)).count(), 1, "{attack:?}");
        }
    }
}
