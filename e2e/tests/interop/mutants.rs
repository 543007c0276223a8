//! Certificates that are changed at random, in DER, and signed again.
//!
//! Property: what metrics-core accepts, Go accepts. What only Go accepts is counted by our reason.

use std::collections::BTreeMap;

use super::{Situation, each_situation};

/// The number of mutants, and the seed of their changes, in every test run.
const SAMPLE: (usize, u64) = (3000, 1);

#[test]
fn accepts_no_mutant_that_go_refuses() {
    Counts::of(SAMPLE).check();
}

/// `COUNT=100000 SEED=2 cargo certificate-mutants`
#[test]
#[ignore = "takes minutes; COUNT and SEED choose the mutants"]
fn accepts_none_of_many_mutants_that_go_refuses() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let counts = Counts::of((
        number("COUNT").map_or(100_000, |count: u64| usize::try_from(count).unwrap()),
        number("SEED").unwrap_or(1),
    ));
    println!(
        "{} mutants: both accept {}, both refuse {}, only Go accepts {}",
        counts.all(),
        counts.both_accept,
        counts.both_refuse,
        counts.only_go.values().map(|(count, _)| count).sum::<usize>()
    );
    for (reason, (count, example)) in &counts.only_go {
        println!("{count:>6} {reason}\n       such as {example}");
    }
    counts.check();
}

#[derive(Default)]
struct Counts {
    both_accept: usize,
    both_refuse: usize,
    /// By our reason: how many, and the changes of one.
    only_go: BTreeMap<String, (usize, String)>,
    problems: Vec<String>,
}

impl Counts {
    fn of((mutants, seed): (usize, u64)) -> Self {
        let mut counts = Self::default();
        let arguments = [format!("-mutants={mutants}"), format!("-seed={seed}")];
        each_situation(&arguments, |situation| counts.add(&situation));
        counts
    }

    fn add(&mut self, situation: &Situation) {
        let (go, ours) = (situation.go(), situation.ours());
        match (&go, &ours) {
            (Ok(()), Ok(())) => self.both_accept += 1,
            (Err(_), Err(_)) => self.both_refuse += 1,
            (Ok(()), Err(reason)) => {
                let of = format!("{}, {}: {}", situation.group, situation.name, situation.mutation);
                self.only_go.entry(kind(reason)).or_insert((0, of)).0 += 1;
            }
            (Err(_), Ok(())) => {}
        }
        if let Err(problem) = situation.compare(&go, &ours) {
            // Keys are new in each run, so the certificates are needed.
            self.problems.push(format!(
                "{problem}\n  {}\n  host {}, chain {:?}\n{}",
                situation.mutation, situation.host, situation.chain, situation.bundle
            ));
        }
    }

    fn all(&self) -> usize {
        self.both_accept
            + self.both_refuse
            + self.problems.len()
            + self.only_go.values().map(|(count, _)| count).sum::<usize>()
    }

    fn check(&self) {
        assert!(
            self.problems.is_empty(),
            "{} of {}:\n{}",
            self.problems.len(),
            self.all(),
            self.problems.iter().take(20).cloned().collect::<Vec<_>>().join("\n")
        );
        assert!(
            self.both_accept * 20 > self.all() && self.both_refuse * 20 > self.all(),
            "{} accepted, {} refused",
            self.both_accept,
            self.both_refuse
        );
    }
}

/// Returns a reason without what differs from certificate to certificate.
fn kind(reason: &str) -> String {
    for marker in [
        "malformed ",
        "made a signature with",
        "requires certificate policies",
        "no chain found",
        "too many name",
    ] {
        if let Some(at) = reason.find(marker) {
            let end = reason[at..].find(';').map_or(reason.len(), |end| at + end);
            return reason[at..end].to_owned();
        }
    }
    reason.to_owned()
}
